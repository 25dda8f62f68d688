"""Sandpool beside what there is instead of it: the same work by each, in turns on this machine.

  CPython   multiprocessing and concurrent.futures, start method fork          cpython.py
  floor     bare system calls and instructions in C, without a sandbox         floor.c
  threads   of one native Rust program, with rayon and crossbeam               native/

Each is warmed up in each round; figures are medians of the rounds. A ratio is of what the two take: of times, and of
times for the same bytes. Sandpool's losses are shown as its wins are.
"""

import argparse
import json
import os
import pathlib

import chart
import turns
from turns import Failure, Program, Sandpool, cost, median, number, output

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

EXAMPLES = """\
examples:
  tests/peers/run                             everything, in about three minutes
  tests/peers/run --quick --rounds 3          roughly, in half a minute
  tests/peers/run --filter queue              only what has this in its name
  SANDPOOL=/usr/bin/sandpool tests/peers/run  another binary
"""


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/peers/run",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work in each round")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how many rounds there are (5)")
    parser.add_argument("--filter", action="append", default=[], metavar="NAME", help="only keys that have this in them")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where all figures go (target/peers/figures.json)")
    parser.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="where the chart goes (target/peers/chart.svg)")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("there is at least one round")
    return chosen


def contestants(target, quick):
    """Compiles what has to be compiled."""
    binary = os.environ["SANDPOOL"]
    [guest] = output([binary, "build", ROOT / "host/benches/guests"]).split()
    folder = target / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    output(["cc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", folder / "floor", HERE / "floor.c"])
    manifest = ["--manifest-path", HERE / "native/Cargo.toml", "--target-dir", folder]
    output(["cargo", "build", "--quiet", "--release", "--locked", *manifest])
    python = os.environ.get("PYTHON", "python3")
    return {
        "Sandpool": Sandpool(binary, guest, quick),
        "CPython": Program([python, str(HERE / "cpython.py")], quick),
        "floor (C)": Program([str(folder / "floor")], quick),
        "threads (Rust)": Program([str(folder / "release/sandpool-peers-native")], quick),
    }


def beside(unit, own, peer):
    """`27.0 µs, 78 × longer`: the peer's figure, and what it takes beside Sandpool."""
    ratio = cost(unit, peer) / cost(unit, own)
    longer, shorter = ("more", "less") if unit == "KiB" else ("longer", "shorter")
    how = f"{number(ratio)} × {longer}" if ratio >= 1 else f"{number(1 / ratio)} × {shorter}"
    return f"{number(peer)} {unit}, {how}"


def main():
    options = arguments()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    where = turns.machine()
    names = contestants(target, options.quick)
    sandpool = names["Sandpool"]
    peers = [name for name in names if name != "Sandpool"]
    with_peer = [key for key in sandpool.keys if any(key in names[peer].keys for peer in peers)]
    keys = turns.chosen(with_peer, options.filter)
    found = turns.in_turns(names, keys, options.rounds)

    goals = sandpool.floor_goals()
    rows, bars, report = [["figure", "Sandpool", *peers, "goal"]], [], {}
    for key in keys:
        unit, figures = sandpool.units[key], found[key]
        own = median(figures["Sandpool"])
        ratios = {
            peer: cost(unit, own) / cost(unit, median(figures[peer])) for peer in peers if peer in figures
        }
        cells = [beside(unit, own, median(figures[peer])) if peer in figures else "–" for peer in peers]
        goal = ""
        if key in goals:
            reached = "reached" if ratios["floor (C)"] <= goals[key] else "MISSED"
            goal = f"≤ {goals[key]:g} × floor: {ratios['floor (C)']:.2f}, {reached}"
        rows.append([key, f"{number(own)} {unit}", *cells, goal])
        labels = [
            (peer, 1 / ratios[peer] if peer in ratios else None, cell) for peer, cell in zip(peers, cells)
        ]
        bars.append((key, f"Sandpool: {number(own)} {unit}", labels))
        report[key] = {
            "unit": unit,
            **{
                name: {"median": median(rounds), "least": min(rounds), "greatest": max(rounds)}
                for name, rounds in figures.items()
            },
            "cost_of_sandpool_to": ratios,
        }

    method = f"medians of {options.rounds} rounds in turns{', a tenth of the work' if options.quick else ''}"
    table = turns.markdown(rows) if options.markdown else turns.columns(rows)
    print(f"{where}; {method}\n\n{table}")
    written = {
        options.json or target / "peers/figures.json": json.dumps(
            {"machine": where, "method": method, "figures": report}, indent=2
        )
        + "\n",
        options.svg or target / "peers/chart.svg": chart.draw(
            "What others take beside Sandpool", f"{where}; {method}", bars
        ),
    }
    for path, text in written.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failure(f"cannot write {path}: {error.strerror}", "--json and --svg name other places") from error
        print(f"wrote {path}", file=turns.sys.stderr)


turns.run(main)
