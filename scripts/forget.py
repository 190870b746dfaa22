"""`make forget RUN=`: delete everything that S3 holds of one run, in all versions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from include import forgetting, names
from include.config_files import evaluation_files
from include.erasure import Stored
from include.errors import ConfigError
from include.forgetting import Place
from include.storage import RunFolder, split_uri
from include.wording import plural
from scripts import doctor
from scripts.command import plainly


def text(output: RunFolder, place: Place, found: Sequence[Stored]) -> Iterator[str]:
    """Yield what is to be deleted: the run folder as one, all else object by object."""
    key = f"{split_uri(place.folder(output).at(''))[1]}"
    inside = [each for each in found if each.key.startswith(key)]
    keys = {each.key for each in inside}
    yield f"Run {place}:"
    versions = f" in {len(inside):,} versions" if len(inside) > len(keys) else ""
    yield f"  {place.folder(output).uri}/: {plural(len(keys), 'object')}{versions}, {_size(inside)}"
    for other in sorted({each.key for each in found} - keys):
        yield f"  s3://{found[0].bucket}/{other}"
    yield f"In all {plural(len(found), 'object')}, {_size(found)}."


def _size(found: Sequence[Stored]) -> str:
    return f"{sum(each.bytes for each in found):,} bytes"


def locate(output: RunFolder, wanted: str) -> Place:
    """Find a run of any DAG of this project.

    Raises:
        ConfigError: It is no run of this environment, or more than one; with the nearest names.
    """
    dag_ids = [names.GENERAL_DAG, *(names.dag_id(path.stem) for path in evaluation_files())]
    return forgetting.locate(output, wanted, dag_ids)


def is_wanted(yes: bool) -> bool:
    """Ask the person at the terminal.

    Raises:
        ConfigError: There is none, and nobody said yes beforehand.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to ask, so nothing is deleted; in scripts add YES=1")
    try:
        return input("Delete all of it for good? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make forget", description=__doc__)
    parser.add_argument("--run", required=True, help="URI, evaluation/folder or run id (RUN=)")
    parser.add_argument("--env", help="environment that it ran in (ENV=)")
    parser.add_argument("--yes", action="store_true", help="do not ask (YES=1)")
    arguments = parser.parse_args()
    output = doctor.output(arguments.env)
    place = locate(output, arguments.run)
    still = forgetting.going_on(place.folder(output))
    if still:
        raise ConfigError(f"{place} is going on: {still}. Let it end, or mark it failed in Airflow")
    found = forgetting.belongings(output, place)
    print("\n".join(text(output, place, found)))
    if not is_wanted(arguments.yes):
        print("Nothing is deleted.")
        return 1
    forgetting.forget(output, place, found)
    print("It is gone. Airflow still has its own record of the run, which holds no texts.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
