"""`make labels RUN= FILE=`: read what people prefer, and hold the judge of a run against it."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from include import evidence, forgetting, labels, publish, storage
from include.errors import LabelsError
from include.records import Judged, Labels, Summary
from include.storage import RunFolder
from include.wording import plural
from scripts import doctor, forget
from scripts.command import plainly


def judged(folder: RunFolder) -> dict[str, Judged]:
    """Return what was judged in a run, by candidate.

    Raises:
        LabelsError: Nothing yet, or nobody knows what was said of single pairs.
    """
    if not folder.names(storage.SUMMARY):
        raise LabelsError(f"{folder.uri} has no summary yet: labels are read once it has a verdict")
    summary = publish.SUMMARY.validate_json(folder.read(storage.SUMMARY))
    found = {
        each.candidate: labels.judged(
            summary.evaluation, summary.provenance, each.baseline, each.candidate
        )
        for each in summary.comparisons
        if each.evidence == "per_pair"
    }
    if not found:
        raise LabelsError(f"{folder.uri} has no preferences of single pairs to compare labels with")
    return found


def add(folder: RunFolder, file: str) -> tuple[str, Labels, Summary]:
    """Read a file of labels into a run folder, and publish what they say.

    The run has ended before, if it had: labels are no work of its own.

    Raises:
        JudgeError: The file cannot be used, or is not about this run.
    """
    known, is_over = judged(folder), forgetting.going_on(folder) is None
    pairs_of = partial(evidence.resolved_pairs, folder)
    candidate, found = labels.read(file, folder.s3, known, pairs_of)
    labels.write(folder, candidate, found)
    summary = publish.publish_labels(folder)
    if is_over:
        folder.write(storage.ENDED, json.dumps({"run_id": summary.run_id}))
    return candidate, found, summary


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make labels", description=__doc__)
    parser.add_argument("--run", required=True, help="URI, evaluation/folder or run id (RUN=)")
    parser.add_argument("--file", required=True, help="the form, filled in (FILE=)")
    parser.add_argument("--env", help="environment that it ran in (ENV=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    file = arguments.file
    output = doctor.output(arguments.env)
    folder = forget.locate(output, arguments.run).folder(output)
    path = file if file.startswith("s3://") else str(arguments.cwd / file)
    candidate, found, summary = add(folder, path)
    comparison = next(each for each in summary.comparisons if each.candidate == candidate)
    rows = f"; {plural(found.unlabelled, 'row')} left empty" if found.unlabelled else ""
    print(f"{candidate}: {plural(len(found.labels), 'labelled pair')}{rows}.")
    if comparison.human:
        print(comparison.human.sentence)
    print(f"Report: {folder.at(storage.REPORT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
