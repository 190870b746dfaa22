"""Runs of one evaluation, one after the other: which was accepted last, and what differs since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from include import parity, storage
from include.records import Difference, ModelSummary, Summary
from include.storage import RunFolder


def accept(folder: RunFolder, started_at: str) -> str:
    """Note that a run was accepted: later runs of its evaluation are compared with it.

    Args:
        folder: Of the run.
        started_at: When it started, ISO 8601 with an offset. Noting it twice changes nothing.
    """
    home, slug = _home(folder)
    return home.write(f"accepted/{moment(started_at)}_{slug}.json", json.dumps({"run": slug}))


def withdraw(folder: RunFolder) -> None:
    """Take back that a run was accepted: it was cleared, and has to be accepted anew."""
    home, slug = _home(folder)
    for note in _notes(home):
        if is_note_of(note, slug):
            home.write(note, json.dumps({"run": slug, "withdrawn": True}))


def last_accepted(folder: RunFolder, started_at: str) -> RunFolder | None:
    """Return the folder of the accepted run that started last before this one.

    A run whose summary is gone (it was deleted) is passed over.
    """
    home, slug = _home(folder)
    before = f"accepted/{moment(started_at)}"
    return _last(
        home, [note for note in _notes(home) if note < before and not is_note_of(note, slug)]
    )


def reference(home: RunFolder) -> RunFolder | None:
    """Return the folder of the accepted run that started last of all.

    Args:
        home: Of the evaluation.
    """
    return _last(home, _notes(home))


def is_note_of(name: str, slug: str) -> bool:
    """Whether a note, by its name or key, says that a run was accepted."""
    return name.rpartition("/")[2].partition("_")[2] == f"{slug}.json"


def _notes(home: RunFolder) -> list[str]:
    return home.names("accepted/")


def _last(home: RunFolder, notes: Sequence[str]) -> RunFolder | None:
    for note in reversed(notes):
        run = RunFolder(home.s3, home.at(note.partition("_")[2].removesuffix(".json")))
        if run.names(storage.SUMMARY) and not (home.read_json(note) or {}).get("withdrawn"):
            return run
    return None


def _home(folder: RunFolder) -> tuple[RunFolder, str]:
    evaluation, _, slug = folder.uri.rpartition("/")
    return RunFolder(folder.s3, evaluation), slug


def moment(iso: str) -> str:
    """Return a moment so that its text sorts by time.

    Example:
        >>> moment("2026-01-05T08:00:00+02:00")
        '20260105T060000.000000Z'
    """
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def differences(earlier: Summary, later: Summary) -> list[Difference]:
    """Name what was otherwise in an earlier run, the verdicts aside."""
    return list(_differences(earlier, later))


def _differences(earlier: Summary, later: Summary) -> Iterator[Difference]:
    for what, before, now in (
        ("environment", _environment(earlier), _environment(later)),
        ("prompts", _digest(earlier, "dataset"), _digest(later, "dataset")),
        ("judge image", _provenance(earlier, "judge_image"), _provenance(later, "judge_image")),
        ("judge image's digest", *_known_digests(earlier, later)),
        ("recipe", _digest(earlier, "recipe"), _digest(later, "recipe")),
    ):
        if before != now:
            yield Difference(what, before, now)
    known = {model.name: model for model in earlier.models}
    yield from _baselines(earlier, later)
    for model in later.models:
        if model.name in known:
            found = list(_model(known[model.name], model))
            yield from found or _asked(earlier, later, model.name)


def _baselines(earlier: Summary, later: Summary) -> Iterator[Difference]:
    before, now = (
        next((model.name for model in each.models if model.role == "baseline"), "not known")
        for each in (earlier, later)
    )
    if before != now:
        yield Difference("baseline", before, now)


def _model(earlier: ModelSummary, later: ModelSummary) -> Iterator[Difference]:
    if earlier.model_id != later.model_id:
        ids = (each.model_id or "not known" for each in (earlier, later))
        yield Difference(f"model of {later.name}", *ids)
    for row in parity.table([earlier, later]):
        if row.values[0] != row.values[1]:
            yield Difference(f"{row.name} of {later.name}", *row.values)


def _asked(earlier: Summary, later: Summary, name: str) -> Iterator[Difference]:
    """Say that a model is not the same behind the same id: its container, its endpoint."""
    before, now = (
        each.provenance.get("digests", {}).get("models", {}).get(name) for each in (earlier, later)
    )
    if before and now and before != now:
        yield Difference(f"deployment of {name}", before[:12], now[:12])


def _environment(summary: Summary) -> str:
    where = summary.environment
    return f"{where.name} ({where.account_id}, {where.region})"


def _known_digests(earlier: Summary, later: Summary) -> tuple[str, str]:
    """Return the digests of both judge images; where one is not known, twice the same."""
    found = [each.provenance.get("judge_image_digest") for each in (earlier, later)]
    return (str(found[0]), str(found[1])) if all(found) else ("not known", "not known")


def _digest(summary: Summary, of: str) -> str:
    found = summary.provenance.get("digests", {}).get(of)
    return f"sha256 {found[:12]}" if found else "not known"


def _provenance(summary: Summary, key: str) -> str:
    return str(summary.provenance.get(key) or "not known")
