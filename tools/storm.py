"""Two storms of bad luck: broken files that are read, and trainings that are killed.

python tools/storm.py files --count 10000   thousands of files, each broken in its own way: storm_files.py
python tools/storm.py kills --count 300     hundreds of kills of trainings that write checkpoints: storm_kills.py

Each prints what happened how often, and every violation with the command that repeats it; with any, it exits with 1.
Everything follows from --seed, but the moments of the kills. Linux alone: memory is measured by its means.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm


@dataclass(frozen=True)
class Result:
    """What one try of a storm came to.

    Attributes:
        index: number of the try: with the seed, all that is random in it follows from that.
        row: of the table: the format, or the training.
        outcome: in a few words: of the table, a column.
        how: what was done to it.
        violation: what should not have happened; "" where all is well.
    """

    index: int
    row: str
    outcome: str
    how: str
    violation: str = ""


def table(results: Sequence[Result]) -> str:
    """Write the counts of rows × outcomes."""
    counts = Counter((row, each.outcome) for each in results for row in (each.row, "all"))
    outcomes = sorted({outcome for _, outcome in counts})
    rows = [*sorted({row for row, _ in counts} - {"all"}), "all"]
    width = max(map(len, rows))
    lines = ["  ".join([" " * width, *outcomes])]
    lines += [
        "  ".join([f"{row:<{width}}", *(f"{counts[row, each]:>{len(each)}}" for each in outcomes)]) for row in rows
    ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storm", choices=["files", "kills"])
    parser.add_argument("--count", type=int, default=100, help="of broken files, or of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--rows", default="", help="a pattern: only the formats or trainings that it is found in")
    parser.add_argument("--only", type=int, help="repeat the one try of this number, and show all of it")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.storm == "files":
        from storm_files import repeat, storm
    else:
        from storm_kills import repeat, storm
    if given.only is not None:
        return repeat(given.only, given.seed, given.rows)
    again = f"python tools/storm.py {given.storm} --seed {given.seed} --rows {given.rows!r} --only"
    start, results = time.monotonic(), []
    for result in tqdm(storm(given.count, given.seed, given.jobs, given.rows), disable=None, leave=False):
        results.append(result)
        if result.violation:
            print(f"VIOLATION in {result.row}, {result.how}: {result.violation}\n  {again} {result.index}", flush=True)
    wrong = sum(bool(result.violation) for result in results)
    print(f"{table(results)}\n{len(results)} in {time.monotonic() - start:.0f} s, {wrong} of them violations")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
