"""A run that keeps no texts (`store_text: false`): its folder in, digests instead of texts out.

While it works, prompts, responses and pairs lie in its folder, for the judge reads them there. The
run's last task removes them; a note, written before the first text is, lets the janitor do so for
a run that cannot, and look again for what came late: a stopped job writes after its run has ended.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any

from include import erasure, ledger, storage
from include.erasure import Stored
from include.errors import ErasureError
from include.ownership import MAX_AGE, RunState
from include.pairs import shown
from include.records import Pair, PairDigests, Prompt, Response, RubricScore, sha256
from include.storage import RunFolder

KEPT = re.compile(
    r"""
    (config|summary|estimate|ended|no-texts)\.json | report\.html
    | (recipe|charts|judgments|comparisons|labels|notices|progress|spent|capped)/.+
    | prompts/index\.json | responses/[^/]+/settings\.json
    | (prompts|responses/[^/]+|pairs/[^/]+)/digests\.jsonl
    | batch/[^/]+/\d+/job\.json | browse/[^/]+/index\.parquet | judge/.+/summarized-[0-9a-f]+
    """,
    re.VERBOSE,
)
"""Names of what holds no text. All else goes: what nobody has thought of is a text."""

NOTES = "_texts/"
"""Below `output_s3_uri`: one object for each run whose texts are to go."""


@dataclass(frozen=True)
class Removed:
    """What was deleted."""

    objects: int
    """Versions counted one by one."""
    bytes: int


def promise(output: RunFolder, folder: RunFolder, *, dag_id: str, run_id: str) -> None:
    """Note, before there is any text, that a run's texts are to go; a run may begin anew with it.

    Args:
        output: The environment's `output_s3_uri`.
        folder: Of the run.
        dag_id: Of the run.
        run_id: Of the run.
    """
    note = {"uri": folder.uri, "dag_id": dag_id, "run_id": run_id}
    output.write(note_name(output, folder), json.dumps(note))
    erasure.erase(folder.s3, list(erasure.find(folder.s3, folder.at(storage.NO_TEXTS))))


def note_name(output: RunFolder, folder: RunFolder) -> str:
    """Return the name of a run's note, below `output_s3_uri`."""
    return f"{NOTES}{folder.uri.removeprefix(output.uri).strip('/')}.json"


def left(folder: RunFolder) -> list[Stored]:
    """Return every version of whatever in a run folder may hold a text."""
    home = folder.at("")
    start = len(storage.split_uri(home)[1])
    found = erasure.find(folder.s3, home)
    return [each for each in found if not KEPT.fullmatch(each.key[start:])]


def remove(folder: RunFolder) -> Removed:
    """Put digests in the place of a run's texts, and delete these for good; safe to run again.

    Raises:
        ErasureError: S3 refuses to delete some of it.
    """
    folder.write(storage.NO_TEXTS, json.dumps({"why": "store_text: false"}))
    _keep_digests(folder)
    erasure.abort_uploads(folder.s3, folder.at(""))
    found = left(folder)
    erasure.erase(folder.s3, found)
    return Removed(len(found), sum(each.bytes for each in found))


def _keep_digests(folder: RunFolder) -> None:
    """Write what is left of each row beside the rows; what is there already stays."""
    homes: defaultdict[str, list[Iterator[bytes]]] = defaultdict(list)
    for name in folder.names(""):
        for pattern, kind, digested in TEXTS:
            place = pattern.fullmatch(name)
            if place:
                homes[place[1]].append(_digests(folder, name, kind, digested))
    for home, lines in homes.items():
        target = f"{home}/{storage.DIGESTS}"
        known = folder.lines(target) if target in folder.names(target) else ()
        seen: set[bytes] = set()
        with SpooledTemporaryFile(storage.IN_MEMORY) as file:
            for line in chain(known, *lines):  # a part that came late is added
                digest = hashlib.sha256(line).digest()
                if digest not in seen:
                    seen.add(digest)
                    file.write(line)
            folder.upload(target, file, "application/x-ndjson")


def _digests(
    folder: RunFolder, name: str, kind: type, digested: Callable[[Any], dict[str, Any]]
) -> Iterator[bytes]:
    """Yield what is left of each row of one object, of which a few are in memory at a time."""
    rows = (kind(**json.loads(line)) for line in folder.lines(name))
    for row in ledger.read_part(folder, name) if kind is Response else rows:
        yield storage.to_lines([digested(row)])


def _of_prompt(prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt_id": prompt.prompt_id,
        "category": prompt.category,
        "group": prompt.group,
        "sha256": sha256(shown(prompt)),
    }


def _of_response(response: Response) -> dict[str, Any]:
    kept = {**vars(response), "sha256": _sha256(response.text)}
    return {key: value for key, value in kept.items() if key not in ("text", "error_message")}


def _of_pair(pair: Pair) -> dict[str, Any]:
    digests = PairDigests(pair.prompt_sha256, _sha256(pair.baseline), _sha256(pair.candidate))
    return {**vars(pair), "prompt": "", "baseline": None, "candidate": None, "digests": digests}


def _sha256(text: str | None) -> str | None:
    return None if text is None else sha256(text)


TEXTS: tuple[tuple[re.Pattern[str], type, Callable[[Any], dict[str, Any]]], ...] = (
    (re.compile(r"(prompts)/\d+\.jsonl"), Prompt, _of_prompt),
    (re.compile(r"(responses/[^/]+)/\d+-\d+/part-\w+\.jsonl"), Response, _of_response),
    (re.compile(r"(pairs/[^/]+)/pairs\.jsonl"), Pair, _of_pair),
)
"""Names of objects with rows of texts, what a row is, and what is left of it."""


def scores_only(scores: Iterable[RubricScore]) -> list[RubricScore]:
    """Leave out what a rubric judge has written: its criteria and justifications quote texts."""
    return [
        RubricScore(each.prompt_id, each.baseline, each.candidate, each.margin) for each in scores
    ]


def sweep(
    output: RunFolder,
    run_state: RunState,
    *,
    max_age: timedelta = MAX_AGE,
    dry_run: bool = False,
    now: datetime | None = None,
) -> list[str]:
    """Remove the texts of ended runs that promised to keep none; return a line for each.

    A run is looked at again until nothing has turned up for `max_age`: longer than any job takes.

    Args:
        output: The environment's `output_s3_uri`.
        run_state: Asks Airflow for a run.
        max_age: Also: when a run that Airflow does not know counts as ended.
        dry_run: Say what would be done.
        now: For tests.

    Raises:
        ErasureError: S3 refuses to delete something.
    """
    now = now or datetime.now(UTC)
    said, refused = [], []
    try:
        notes = output.written(NOTES)
    except output.s3.exceptions.NoSuchBucket:
        return []  # no run was ever here
    for name, written in notes.items():
        note = json.loads(output.read(name))
        state = run_state(note["dag_id"], note["run_id"])
        if state in ("active", "generated") or (state is None and now - written <= max_age):
            continue
        folder = RunFolder(output.s3, note["uri"])
        gone = folder.written(storage.NO_TEXTS).get(storage.NO_TEXTS)
        is_kept = not _keeps_none(folder)
        found = [] if is_kept else left(folder)
        is_due = bool(found) or not (gone or is_kept)
        try:
            if is_due and dry_run:
                said.append(f"texts of {folder.uri}: {len(found)} objects would be deleted")
            elif is_due:
                said.append(f"texts of {folder.uri}: {remove(folder).objects} objects deleted")
            elif (is_kept or (gone and now - gone > max_age)) and not dry_run:
                erasure.erase(output.s3, list(erasure.find(output.s3, output.at(name))))
        except ErasureError as error:  # the others' texts go all the same
            refused.append(str(error))
    if refused:
        raise ErasureError("\n".join([*refused, *said]))
    return said


def _keeps_none(folder: RunFolder) -> bool:
    """Whether a run still wants its texts to go: it may have begun anew with another config."""
    stored = folder.read_json(storage.CONFIG)
    return stored is not None and stored["config"].get("store_text") is False
