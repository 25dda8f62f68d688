"""Measurements in turns: the cost of the same work in several programs, on the same machine, at the same time.

A program is measured once, then the next one, then all of them again: so a machine that slows down does so for all.
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys


class Failure(Exception):
    """A failure, and a hint at what to do about it."""

    def __init__(self, what, hint=None):
        super().__init__(what)
        self.hint = hint


def output(command, **options):
    """Returns the stdout of a command. Its stderr goes to ours."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options)
    except OSError as error:
        raise Failure(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise Failure(f"{' '.join(map(str, command))} has ended with exit code {done.returncode}")
    return done.stdout


class Sandpool:
    """`sandpool bench`, one round at a time."""

    def __init__(self, binary, guest, quick):
        self.options = ["--guests", guest, *(["--quick"] if quick else [])]
        self.binary = binary
        # Key, unit and goal are what comes before and after the first columns; the goal has spaces.
        self.list = output([binary, "bench", "--list"]).splitlines()
        self.keys = [line.split()[0] for line in self.list]
        self.units = {line.split()[0]: line.split()[1] for line in self.list}

    def floor_goals(self):
        """Key, and how many times what the floor takes it may take."""
        words = [line.split() for line in self.list]
        return {word[0]: float(word[3]) for word in words if word[4:6] == ["×", "floor"]}

    def measure(self, key):
        command = [self.binary, "bench", "--json", "--rounds", "1", "--filter", key, *self.options]
        return json.loads(output(command))[key]


class Program:
    """A program that prints one figure for a key."""

    def __init__(self, command, quick):
        self.command = command
        self.options = ["--quick"] if quick else []
        self.keys = output([*command, "--list"]).split()

    def measure(self, key):
        return float(output([*self.command, key, *self.options]))


def in_turns(contestants, keys, rounds):
    """All figures: by key, then by the name of who was measured."""
    found = {key: {name: [] for name, one in contestants.items() if key in one.keys} for key in keys}
    for number in range(1, rounds + 1):
        for key in keys:
            for name, figures in found[key].items():
                tell(f"round {number} of {rounds}: {key} by {name}")
                figures.append(contestants[name].measure(key))
    tell("")
    return found


def tell(line):
    """Tells somebody at a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def cost(unit, figure):
    """Returns a figure that is the better the less it is: of a bandwidth, the time."""
    return 1 / figure if unit == "GB/s" else figure


def median(figures):
    return statistics.median(figures)


def number(figure):
    """Three significant digits, or all of a whole number."""
    if figure >= 100:
        return f"{figure:.0f}"
    return f"{figure:#.3g}"


def chosen(keys, filters):
    """The keys that have one of the filters in them."""
    found = [key for key in keys if not filters or any(part in key for part in filters)]
    if not found:
        raise Failure(f"nothing that is measured has {' or '.join(filters)} in its name", "--help shows what there is")
    return found


def columns(rows):
    """Rows in aligned columns."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def markdown(rows):
    """The same as a table in Markdown, whose first column are names of figures."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *([f"`{key}`", *cells] for key, *cells in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine():
    """One line about where this was measured."""
    processors = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    load = os.getloadavg()[0]
    return f"{processors} processors, {system}, CPython {platform.python_version()}, load {load:.1f} before"


def run(main):
    """Runs `main`, and ends as a command should: a message and a hint, or by the signal that interrupted it."""
    try:
        sys.exit(main())
    except Failure as error:
        tell("")
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        tell("")
        print("interrupted", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
