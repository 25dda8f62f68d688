"""Two revisions of Sandpool in turns: what got better or worse.

A figure got worse if its median is more than 10 % worse, and the machine's moods don't explain it: three quarters of its
rounds are worse than three quarters of those of the base, and in each turn but one at most, it was the worse of the two.
Then the exit code is 1.
"""

import argparse
import shutil
import statistics
import tempfile

import turns
from turns import Sandpool, cost, median, number

WORSE = 1.10


def quartiles(figures):
    """A quarter of the rounds is below the first, and a quarter above the second."""
    first, _, third = statistics.quantiles(figures, n=4, method="inclusive")
    return first, third


def verdict(base, this):
    """Of costs: less is better."""
    if is_less(base, this):
        return "WORSE"
    return "better" if is_less(this, base) else ""


def is_less(one, other):
    in_turns = sum(a >= b for a, b in zip(one, other)) <= 1
    return in_turns and median(other) > WORSE * median(one) and quartiles(one)[1] < quartiles(other)[0]


def main():
    parser = argparse.ArgumentParser(prog="make bench-compare BASE=REVISION", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work in each round")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="how many rounds there are, at least 4 (7)")
    parser.add_argument("--filter", action="append", default=[], metavar="NAME", help="only keys that have this in them")
    parser.add_argument("base", metavar="BASE", help="the other binary")
    parser.add_argument("base_guest", metavar="BASE_GUEST", help="and its guest")
    parser.add_argument("this", metavar="THIS", help="this one")
    parser.add_argument("this_guest", metavar="GUEST", help="and its guest")
    options = parser.parse_args()
    if options.rounds < 4:
        parser.error("quartiles need four rounds at least")

    where = turns.machine()
    # Copies are equally old: the kernel gives the code of a file that has been there for a while huge pages.
    copies = tempfile.TemporaryDirectory()
    given = {"base": (options.base, options.base_guest), "this": (options.this, options.this_guest)}
    both = {
        name: Sandpool(shutil.copy(binary, f"{copies.name}/{name}"), guest, options.quick)
        for name, (binary, guest) in given.items()
    }
    keys = turns.chosen([key for key in both["this"].keys if key in both["base"].keys], options.filter)
    found = turns.in_turns(both, keys, options.rounds)

    rows, is_worse = [["figure", "unit", "base", "this", "this : base", ""]], False
    for key in keys:
        unit = both["this"].units[key]
        base, this = ([cost(unit, figure) for figure in found[key][name]] for name in both)
        told = verdict(base, this)
        is_worse |= told == "WORSE"
        medians = [number(median(found[key][name])) for name in both]
        rows.append([key, unit, *medians, f"{median(this) / median(base):.2f}", told])
    print(f"{where}\nmedians of {options.rounds} rounds in turns; ratios of what it takes, less is better\n")
    print(turns.columns(rows))
    return 1 if is_worse else 0


turns.run(main)
