"""`make history NAME=`: an evaluation's verdicts over time, with what changed between them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from include import storage, trend
from include.errors import JudgeError
from include.storage import RunFolder
from include.trend import TrendRow
from include.wording import with_interval
from scripts import doctor
from scripts.command import plainly


def text(rows: list[TrendRow]) -> Iterator[str]:
    """Yield a line for each row, and one before it where the line of results breaks."""
    width = max(len(row.candidate) for row in rows)
    yield f"{'started':<17} {'candidate':<{width}} {'win rate':<26} {'verdict':<16} gate"
    for row, changed in trend.lines(rows):
        if changed:
            yield f"{'':<17} {row.candidate:<{width}} -- changed: {', '.join(changed)} --"
        yield (
            f"{row.started_at:%Y-%m-%d %H:%M}  {row.candidate:<{width}} {_rate(row):<26} "
            f"{row.verdict.replace('_', ' '):<16} {row.gate}"
        )


def _rate(row: TrendRow) -> str:
    if row.win_rate is None:
        return "none"
    return with_interval(row.win_rate, row.low, row.high)


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make history", description=__doc__)
    parser.add_argument("--name", required=True, help="the evaluation (NAME=)")
    parser.add_argument("--env", help="environment that it runs in (ENV=)")
    arguments = parser.parse_args()
    output = doctor.output(arguments.env)
    rows = trend.read(output, arguments.name)
    if not rows:
        known = ", ".join(RunFolder(output.s3, output.at("history")).folders()) or "none"
        raise JudgeError(
            f"{output.uri} has no history of {arguments.name!r}: a run is in it once it has a "
            f"report; there is one of: {known}"
        )
    print("\n".join(text(rows)))
    print(f"Last report: {rows[-1].run_folder}/{storage.REPORT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
