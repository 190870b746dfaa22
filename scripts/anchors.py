"""`make anchors RUN= OUT=`: freeze some pairs of a run, to see later whether the judge changes."""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, zip_longest
from pathlib import Path

from include import evidence, storage
from include.errors import ResultsError
from include.preferences import ResolvedPair
from include.records import Pair, Preference
from include.storage import RunFolder
from include.wording import plural
from scripts import doctor, forget
from scripts.command import plainly


def choose(pairs: Iterable[ResolvedPair], number: int, seed: int) -> list[Pair]:
    """Choose pairs that have a preference, as evenly as possible of wins, losses and ties.

    A judge that changes shows on pairs of every kind; those of one kind only hide half of it.
    """
    kinds: defaultdict[Preference, list[Pair]] = defaultdict(list)
    for row in pairs:
        if row.pair.status == "judged" and row.preference is not None:
            kinds[row.preference].append(row.pair)
    rng = random.Random(seed)
    for members in kinds.values():
        rng.shuffle(members)
    in_turn = chain.from_iterable(zip_longest(*(kinds[kind] for kind in sorted(kinds))))
    return [pair for pair in in_turn if pair is not None][:number]


def rows(pairs: Iterable[Pair]) -> bytes:
    """Return pairs as `judge.anchor_pairs` takes them."""
    lines = (
        {"prompt": pair.prompt, "response_A": pair.baseline, "response_B": pair.candidate}
        for pair in pairs
    )
    return storage.to_lines(lines)


def _candidates(folder: RunFolder) -> list[str]:
    """Return the candidates that a run has compared.

    Raises:
        ResultsError: There is no such run, it has no judgments, or its texts are gone.
    """
    if folder.names(storage.NO_TEXTS):
        raise ResultsError(f"{folder.uri} keeps no texts (store_text: false) that could be judged")
    names = [name for name in folder.names("judgments/") if name.endswith(".parquet")]
    if not names:
        raise ResultsError(f"there are no judgments in {folder.uri}")
    return [Path(name).stem for name in names]


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make anchors", description=__doc__)
    parser.add_argument("--run", required=True, help="URI, evaluation/folder or run id (RUN=)")
    parser.add_argument("--out", required=True, type=Path, help="the file to write (OUT=)")
    parser.add_argument("--number", type=int, default=200, help="how many pairs (N=)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--env", help="environment of the run (ENV=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    output = doctor.output(arguments.env)
    folder = forget.locate(output, arguments.run).folder(output)
    found = (evidence.resolved_pairs(folder, name) for name in _candidates(folder))
    pairs = choose(chain.from_iterable(found), arguments.number, arguments.seed)
    path = arguments.cwd / arguments.out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows(pairs))
    print(f"{plural(len(pairs), 'pair')} in {arguments.out}; name it in judge.anchor_pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
