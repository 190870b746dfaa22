"""Runs that are to be gone: a name or an age in, all that S3 holds of a run out, and then nothing.

What belongs to a run: its folder, its row in the history, the note that it was accepted and the one
that its texts are to go. What is deleted is listed first, so that it can be shown and asked about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from include import erasure, history, names, overview, storage, texts, trend
from include.erasure import Stored
from include.errors import ConfigError
from include.ownership import MAX_AGE
from include.storage import RunFolder

NO_EVALUATIONS = {*names.TAKEN, texts.NOTES.rstrip("/")}
"""Folders right below `output_s3_uri` that hold no runs."""
NO_RUNS = {"accepted"}
"""Folders right below an evaluation's that are no runs."""
NEAREST = 5

BEGUN = re.compile(
    r"(config|summary)\.json|prompts/index\.json|pairs/.+/pairs\.jsonl|(comparisons|judgments)/.+"
)
"""Names of what tasks write when they begin or end. All else may come late: from a stopped job, a
worker that is being killed, the janitor."""


@dataclass(frozen=True)
class Place:
    """Which run: the names of its evaluation and of its folder."""

    evaluation: str
    slug: str

    def __str__(self) -> str:
        """Name it as `make forget` takes it."""
        return f"{self.evaluation}/{self.slug}"

    def folder(self, output: RunFolder) -> RunFolder:
        """Return the run folder."""
        return RunFolder(output.s3, output.at(str(self)))


def locate(output: RunFolder, wanted: str, dag_ids: Sequence[str] = ()) -> Place:
    """Find a run.

    Args:
        output: The environment's `output_s3_uri`.
        wanted: URI of the run folder, `evaluation/folder`, or the run id that Airflow gave it.
        dag_ids: DAGs that it may be a run of, for runs without a summary to tell.

    Raises:
        ConfigError: It is no run of this environment, or more than one; with the nearest names.
    """
    if wanted.startswith("s3://"):
        return _of_uri(output, wanted)
    known = list(places(output))
    found = [each for each in known if str(each) == wanted]
    found = found or [each for each in known if _has_run_id(output, each, wanted, dag_ids)]
    if len(found) == 1:
        return _run_at(output, found[0])
    if found:
        named = "\n".join(f"  RUN={each}" for each in found)
        raise ConfigError(f"{wanted} is a run of more than one evaluation; which one?\n{named}")
    raise ConfigError(
        f"below {output.uri} there is no run {wanted!r}; expected the URI of its folder, "
        f"evaluation/folder, or its run id as the report shows it{_nearest(wanted, known)}"
    )


def _of_uri(output: RunFolder, uri: str) -> Place:
    inside = uri.rstrip("/").removeprefix(f"{output.uri}/")
    evaluation, _, slug = inside.partition("/")
    if inside == uri.rstrip("/"):
        raise ConfigError(f"{uri} is not below {output.uri}, the environment's output_s3_uri")
    if not slug or "/" in slug or evaluation in NO_EVALUATIONS or slug in NO_RUNS:
        raise ConfigError(f"{uri} is no run folder; those are {output.uri}/evaluation/folder")
    place = Place(evaluation, slug)
    if not belongings(output, place):
        hint = _nearest(str(place), list(places(output)))
        raise ConfigError(f"there is no run folder {uri}, nor anything else of that run{hint}")
    return _run_at(output, place)


def _run_at(output: RunFolder, place: Place) -> Place:
    """Return a place again if it is a run's; others may keep models or data sets beside the runs.

    Raises:
        ConfigError: It has neither a config, in any version, nor rows in the history.
    """
    folder = place.folder(output)
    marks = [folder.at(name) for name in (storage.CONFIG, storage.PROMPTS)]
    marks.append(output.at(trend.name_of(place.evaluation, place.slug)))
    if not any(True for mark in marks for _ in erasure.find(output.s3, mark)):
        raise ConfigError(f"{output.at(str(place))} is no run folder: it has no {storage.CONFIG}")
    return place


def places(output: RunFolder) -> Iterator[Place]:
    """Yield the runs that have a folder or, when that is gone, a row in the history."""
    evaluations = set(output.folders()) - NO_EVALUATIONS
    evaluations |= set(RunFolder(output.s3, output.at("history")).folders())
    for evaluation in sorted(evaluations):
        home = RunFolder(output.s3, output.at(evaluation))
        slugs = set(home.folders()) - NO_RUNS
        slugs |= set(trend.run_slugs(output, evaluation))
        yield from (Place(evaluation, slug) for slug in sorted(slugs))


def _has_run_id(output: RunFolder, place: Place, run_id: str, dag_ids: Sequence[str]) -> bool:
    """Whether a folder is that of a run id: its name says so, and the digest in it or a summary."""
    if place.slug.rpartition("-")[0] != names.slug(run_id, 50):
        return False
    if any(place.slug == names.run_slug(dag_id, run_id) for dag_id in dag_ids):
        return True
    summary = place.folder(output).read_json(storage.SUMMARY)
    return bool(summary and summary["run_id"] == run_id)


def _nearest(wanted: str, known: Sequence[Place]) -> str:
    choices = {str(each): str(each) for each in known} | {each.slug: str(each) for each in known}
    close = [
        *get_close_matches(wanted, choices, n=NEAREST),
        *get_close_matches(names.slug(wanted), choices, n=NEAREST),
    ]
    nearest = list(dict.fromkeys(choices[each] for each in close))[:NEAREST]
    return f"; did you mean {' or '.join(nearest)}?" if nearest else ""


def belongings(output: RunFolder, place: Place, *, with_history: bool = True) -> list[Stored]:
    """Return every version of every object that belongs to a run, and to no other.

    Args:
        output: The environment's `output_s3_uri`.
        place: The run.
        with_history: Whether its rows in the history count.
    """
    folder = place.folder(output)
    notes = output.at(f"{place.evaluation}/accepted/")
    found = list(erasure.find(output.s3, folder.at("")))
    stored = erasure.find(output.s3, notes)
    found += [each for each in stored if history.is_note_of(each.key, place.slug)]
    exact = [texts.note_name(output, folder)]
    if with_history:
        exact.append(trend.name_of(place.evaluation, place.slug))
    for uri in map(output.at, exact):
        _, key = storage.split_uri(uri)
        found += [each for each in erasure.find(output.s3, uri) if each.key == key]
    return found


def going_on(folder: RunFolder, now: datetime | None = None) -> str | None:
    """Say why a run counts as going on; None if it is over.

    It is over when its gate has written `ended.json`, unless a task was cleared since and has begun
    again. A run without that end counts as over when nothing has been written for 26 hours, which
    is more than any job takes; where a person may be asked about the gate, for longer.

    Args:
        folder: Of the run.
        now: For tests.
    """
    now = now or datetime.now(UTC)
    written = folder.written("")
    ended, last = written.get(storage.ENDED), max(written.values(), default=None)
    if last is None:
        return None
    if ended and not any(at > ended for name, at in written.items() if BEGUN.fullmatch(name)):
        return None
    patience = MAX_AGE + _asked_for(folder, written)
    if now - last > patience:
        return None
    return (
        f"it has written its last object at {last:%Y-%m-%d %H:%M} UTC and has not ended; if it is "
        f"dead, it counts as going on until {last + patience:%Y-%m-%d %H:%M} UTC"
    )


def _asked_for(folder: RunFolder, written: dict[str, datetime]) -> timedelta:
    """Return how long a run may wait for a person."""
    if storage.CONFIG not in written:
        return timedelta(0)
    gate = json.loads(folder.read(storage.CONFIG))["config"]["gate"]
    asks = "approve" in (gate["on_fail"], gate["on_inconclusive"])
    return timedelta(hours=gate["approval_hours"]) if asks else timedelta(0)


def forget(
    output: RunFolder, place: Place, found: Sequence[Stored], *, with_history: bool = True
) -> None:
    """Delete what belongs to a run, for good.

    Args:
        output: The environment's `output_s3_uri`.
        place: The run.
        found: What `belongings` returned.
        with_history: Whether the list of evaluations in the Airflow UI forgets it, too.

    Raises:
        ErasureError: S3 refuses to delete some of it.
    """
    folder = place.folder(output)
    if with_history:
        overview.remove(output, folder.uri)
    erasure.abort_uploads(output.s3, folder.at(""))
    _, config = storage.split_uri(folder.at(storage.CONFIG))
    # By its config a folder is known for a run's, so that goes when all else is gone.
    erasure.erase(output.s3, [each for each in found if each.key != config])
    erasure.erase(output.s3, [each for each in found if each.key == config])


def expire(
    output: RunFolder, age: timedelta, *, dry_run: bool = False, now: datetime | None = None
) -> list[str]:
    """Delete the folders of runs that were last written so long ago; return a line for each.

    The history stays, and the last accepted run of each evaluation, which the next ones are
    compared with.

    Args:
        output: The environment's `output_s3_uri`.
        age: How old.
        dry_run: Say what would be done.
        now: For tests.

    Raises:
        ErasureError: S3 refuses to delete something.
    """
    now = now or datetime.now(UTC)
    said = []
    for evaluation in sorted(set(output.folders()) - NO_EVALUATIONS):
        home = RunFolder(output.s3, output.at(evaluation))
        reference = history.reference(home)
        for slug in sorted(set(home.folders()) - NO_RUNS):
            place = Place(evaluation, slug)
            folder = place.folder(output)
            written = folder.written("")
            if storage.CONFIG not in written:
                continue  # no run: models, data sets and other Airflows may lie here, too
            last = max(written.values())
            if now - last <= age or folder == reference or going_on(folder, now):
                continue
            found = belongings(output, place, with_history=False)
            if not dry_run:
                forget(output, place, found, with_history=False)
            done = "would be deleted" if dry_run else "deleted"
            said.append(f"{folder.uri}: {len(found)} objects {done}, last written {last:%Y-%m-%d}")
    return said
