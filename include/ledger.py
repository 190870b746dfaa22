"""Responses as they come in, the run's ledger of them out: parts that no crash loses or doubles.

Every response carries a key, the digest of all that it depends on. One is used again only for the
same key: what a changed model, parameter, template or prompt would have answered is asked anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from logging import getLogger
from typing import Any, get_args

from include.records import Outcome, Prompt, Response
from include.storage import RunFolder, column_types

log = getLogger(__name__)

PART_ROWS = 100
PART_SECONDS = 10.0
"""A part is written when it has so many rows, or when its oldest has waited so long: what a killed
worker has to ask for again, beside the requests in flight."""

MOST_RUNS = 20
"""Earlier runs that are looked through for responses to reuse, the newest first."""

FIELDS = column_types(Response)
NEEDED = ("attempts", "key", "created_at")
"""Fields of a response that are never null, and have a default."""
MOST = 1e12
"""No count of a response is as large, and no time in milliseconds."""

RANGE = re.compile(r"/(\d{6,})-(\d{6,})/part-")


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def key(settings: str, prompt: Prompt) -> str:
    """Return what a response is known by: how the model is asked, and what."""
    asked = [settings, prompt.system, [[t.role, t.text] for t in prompt.turns], prompt.text]
    return digest(asked)[:32]


def is_stale(response: Response, known: Response) -> bool:
    """Whether `known` is to be kept instead of `response`.

    Usable before failed, failed before not asked, then the newer.
    """
    return _worth(response) < _worth(known)


def _worth(response: Response) -> tuple[bool, bool, str]:
    return response.usable, response.attempts > 0, response.created_at


def latest(responses: Iterable[Response]) -> dict[str, Response]:
    """Keep one response per prompt."""
    kept: dict[str, Response] = {}
    for response in responses:
        known = kept.get(response.prompt_id)
        if known is None or not is_stale(response, known):
            kept[response.prompt_id] = response
    return kept


def read_part(folder: RunFolder, name: str) -> Iterator[Response]:
    """Yield the responses of one stored part.

    A line that holds none, half of one or one that nobody can have written is left out: its prompt
    counts as not answered, and all others keep their responses.
    """
    for number, line in enumerate(folder.read(name).splitlines(), 1):
        try:
            yield _response(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("%s:%d is no response and is left out: %s", folder.at(name), number, error)


def _response(row: Any) -> Response:
    """Make a response of what a line says.

    Keys of later versions are left out, and what makes no sense and is not needed is null.

    Raises:
        ValueError: It is none.
        TypeError: It lacks something.
    """
    if not isinstance(row, dict):
        raise ValueError("expected an object")
    fitting = {key: row[key] for key in FIELDS if _fits(key, row.get(key))}
    found = Response(**{"text": None, **fitting})
    unfit = [key for key in NEEDED if key in row and key not in fitting]
    if unfit or found.outcome not in get_args(Outcome) or (found.usable and found.text is None):
        raise ValueError(f"{', '.join(unfit) or 'outcome or text'} cannot be used")
    if found.created_at and datetime.fromisoformat(found.created_at).tzinfo is None:
        raise ValueError("created_at has no time zone")
    return found


def _fits(key: str, value: Any) -> bool:
    if FIELDS[key] is str:
        return isinstance(value, str)
    whole = isinstance(value, int)
    return (whole or (isinstance(value, float) and FIELDS[key] is float)) and 0 <= value < MOST


class Parts:
    """One model's stored parts in one run, listed once, when they are first read.

    A part that is written after that is not seen: what goes over many blocks may share this, for
    the parts that it writes itself hold no later block's prompts.
    """

    def __init__(self, folder: RunFolder, model: str) -> None:
        self.folder, self.model = folder, model

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Response]:
        """Yield every stored response, failed tries included.

        Args:
            start: First of the prompts that matter, by its place in the data set.
            stop: One past the last; None for all after it.
        """
        for first, end, name in self._places:
            if end > start and (stop is None or first < stop):
                yield from read_part(self.folder, name)

    @cached_property
    def _places(self) -> list[tuple[int, int, str]]:
        """Where each part's shard starts and stops, and the part's name, in the names' order."""
        names = self.folder.names(f"responses/{self.model}/")
        found = ((RANGE.search(name), name) for name in names)
        return [(int(place[1]), int(place[2]), name) for place, name in found if place]


def write_settings(folder: RunFolder, model: str, settings: dict[str, Any]) -> str:
    """Note how a model is asked in this run and return the digest of it."""
    folder.write(_settings(model), json.dumps(settings, indent=2))
    return digest(settings)


def read_settings(folder: RunFolder, model: str) -> dict[str, Any] | None:
    """Return how a model is asked in this run; None if it was not asked yet."""
    settings: dict[str, Any] | None = folder.read_json(_settings(model))
    return settings


def _settings(model: str) -> str:
    """Return where it is noted how a model is asked."""
    return f"responses/{model}/settings.json"


def current(
    parts: Parts, settings: str, prompts: Sequence[Prompt], start: int
) -> dict[str, Response]:
    """Return what is known of some prompts under today's settings, one response per prompt.

    Args:
        parts: The model's.
        settings: Digest of how the model is asked.
        prompts: Prompts that follow one another in the data set.
        start: The place of the first of them.
    """
    keys = {prompt.prompt_id: key(settings, prompt) for prompt in prompts}
    stored = parts.read(start, start + len(prompts))
    return latest(each for each in stored if keys.get(each.prompt_id) == each.key)


class Ledger:
    """One model's responses to one shard of the prompts.

    Args:
        folder: The run folder.
        model: The model's name.
        start: The place of the shard's first prompt in the data set.
        prompts: The shard.
        settings: Digest of how the model is asked.
        clock: Seconds; any origin.
        parts: The model's, where several shards are opened one after the other.
        messages: Whether to store what was said of failures, which may quote prompts.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: str,
        start: int,
        prompts: Sequence[Prompt],
        settings: str,
        clock: Callable[[], float] = time.monotonic,
        parts: Parts | None = None,
        messages: bool = True,
    ) -> None:
        self.folder, self.model, self.prompts, self.settings = folder, model, prompts, settings
        self.start, self.stop = start, start + len(prompts)
        self._clock, self._messages = clock, messages
        self._keys = {prompt.prompt_id: key(settings, prompt) for prompt in prompts}
        self._known = current(parts or Parts(folder, model), settings, prompts, start)
        self._waiting: list[Response] = []
        self._lock = threading.Lock()
        self._oldest = 0.0

    def missing(self) -> list[Prompt]:
        """Return the prompts without a usable response, those that were never asked first.

        Prompts that always fail are at the end, lest they seem to be an outage to each next try.
        """
        known = self._known
        lacking = [
            p for p in self.prompts if not (p.prompt_id in known and known[p.prompt_id].usable)
        ]
        return sorted(
            lacking, key=lambda p: p.prompt_id in known and known[p.prompt_id].attempts > 0
        )

    def responses(self) -> list[Response]:
        """Return what is known, in the prompts' order."""
        known = self._known
        return [known[p.prompt_id] for p in self.prompts if p.prompt_id in known]

    def add(self, response: Response) -> None:
        """Take one response; it is on S3 after the next `flush`."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = replace(
            response,
            model=self.model,
            key=self._keys[response.prompt_id],
            created_at=response.created_at or now,
            error_message=response.error_message if self._messages else None,
        )
        with self._lock:
            if not self._waiting:
                self._oldest = self._clock()
            self._waiting.append(row)
        known = self._known.get(row.prompt_id)
        if known is None or not is_stale(row, known):
            self._known[row.prompt_id] = row

    @property
    def is_due(self) -> bool:
        """Whether a part should be written now."""
        waited = bool(self._waiting) and self._clock() - self._oldest >= PART_SECONDS
        return waited or len(self._waiting) >= PART_ROWS

    def flush(self) -> None:
        """Write what waits as a part, named by its content; may be called from another thread."""
        with self._lock:
            rows, self._waiting = self._waiting, []
        if not rows:
            return
        prefix = f"responses/{self.model}/{self.start:06d}-{self.stop:06d}"
        try:
            self.folder.add_part(prefix, rows)
        except BaseException:
            with self._lock:
                self._waiting[:0] = rows
            raise

    def reuse(self, earlier: Iterable[Parts], oldest: datetime) -> int:
        """Take usable responses of earlier runs for what is missing; return how many were found.

        Only those with the same key, so that nothing that shapes a response differs, and only
        where the data set had the prompt in about the same place.

        Args:
            earlier: What `earlier_runs` returned.
            oldest: When a response may have been made at the earliest.
        """
        found = 0
        for parts in earlier:
            missing = {prompt.prompt_id for prompt in self.missing()}
            if not missing:
                break
            for each in parts.read(self.start, self.stop):
                fits = each.usable and self._keys.get(each.prompt_id) == each.key
                young = each.created_at and datetime.fromisoformat(each.created_at) >= oldest
                if fits and young and each.prompt_id in missing:
                    missing.remove(each.prompt_id)
                    self.add(replace(each, reused_from=each.reused_from or parts.folder.uri))
                    found += 1
        self.flush()
        return found


def earlier_runs(
    folder: RunFolder, model: str, evaluation_uri: str, oldest: datetime
) -> list[Parts]:
    """Return the parts of other runs that asked a model since `oldest`, the newest run first.

    Args:
        folder: The folder of the run that wants to reuse responses.
        model: The model's name.
        evaluation_uri: Where the runs of this evaluation lie.
        oldest: When a run may have begun to ask at the earliest.
    """
    name = _settings(model)
    asked: list[tuple[datetime, str]] = []
    for slug in RunFolder(folder.s3, evaluation_uri).folders():
        uri = f"{evaluation_uri}/{slug}"
        written = RunFolder(folder.s3, uri).written(name).get(name)
        if uri != folder.uri and written is not None and written >= oldest:
            asked.append((written, uri))
    newest = sorted(asked, reverse=True)[:MOST_RUNS]
    return [Parts(RunFolder(folder.s3, uri), model) for _, uri in newest]
