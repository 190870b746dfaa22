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
from datetime import UTC, datetime, timedelta
from logging import getLogger
from typing import Any

from include.records import Prompt, Response
from include.storage import RunFolder

log = getLogger(__name__)

PART_ROWS = 100
PART_SECONDS = 10.0
"""A part is written when it has so many rows, or when its oldest has waited so long: what a killed
worker has to ask for again, beside the requests in flight."""

MOST_RUNS = 20
"""Earlier runs that are looked through for responses to reuse, the newest first."""

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


def read(
    folder: RunFolder, model: str, start: int = 0, stop: int | None = None
) -> Iterator[Response]:
    """Yield every stored response of one model, failed tries included.

    Args:
        folder: The run folder.
        model: The model's name.
        start: First of the prompts that matter, by its place in the data set.
        stop: One past the last; None for all after it.
    """
    for name in _parts(folder, model, start, stop):
        yield from folder.read_records(name, Response)


def _parts(folder: RunFolder, model: str, start: int, stop: int | None) -> Iterator[str]:
    for name in folder.names(f"responses/{model}/"):
        place = RANGE.search(name)
        if not place:
            continue
        before = stop is None or int(place[1]) < stop
        if before and int(place[2]) > start:
            yield name


def write_settings(folder: RunFolder, model: str, settings: dict[str, Any]) -> str:
    """Note how a model is asked in this run and return the digest of it."""
    folder.write(f"responses/{model}/settings.json", json.dumps(settings, indent=2))
    return digest(settings)


def read_settings(folder: RunFolder, model: str) -> str | None:
    """Return the digest of how a model is asked in this run; None if it was not asked yet."""
    name = f"responses/{model}/settings.json"
    return digest(json.loads(folder.read(name))) if folder.names(name) else None


def current(
    folder: RunFolder, model: str, settings: str, prompts: Sequence[Prompt], start: int
) -> dict[str, Response]:
    """Return what is known of some prompts under today's settings, one response per prompt.

    Args:
        folder: The run folder.
        model: The model's name.
        settings: What `read_settings` returned.
        prompts: Prompts that follow one another in the data set.
        start: The place of the first of them.
    """
    keys = {prompt.prompt_id: key(settings, prompt) for prompt in prompts}
    stored = read(folder, model, start, start + len(prompts))
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
    """

    def __init__(
        self,
        folder: RunFolder,
        model: str,
        start: int,
        prompts: Sequence[Prompt],
        settings: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.model, self.prompts, self.settings = folder, model, prompts, settings
        self.start, self.stop = start, start + len(prompts)
        self._clock = clock
        self._keys = {prompt.prompt_id: key(settings, prompt) for prompt in prompts}
        self._known = current(folder, model, settings, prompts, start)
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

    def reuse(self, evaluation_uri: str, max_age: timedelta) -> int:
        """Take usable responses of earlier runs for what is missing; return how many were found.

        Only those with the same key, so that nothing that shapes a response differs, and only
        where the data set had the prompt in about the same place.

        Args:
            evaluation_uri: Where the runs of this evaluation lie.
            max_age: How old a response may be.
        """
        oldest = datetime.now(UTC) - max_age
        found = 0
        for uri in self._earlier_runs(evaluation_uri, oldest):
            missing = {prompt.prompt_id for prompt in self.missing()}
            if not missing:
                break
            earlier = read(RunFolder(self.folder.s3, uri), self.model, self.start, self.stop)
            for each in earlier:
                fits = each.usable and self._keys.get(each.prompt_id) == each.key
                young = each.created_at and datetime.fromisoformat(each.created_at) >= oldest
                if fits and young and each.prompt_id in missing:
                    missing.remove(each.prompt_id)
                    self.add(replace(each, reused_from=each.reused_from or uri))
                    found += 1
        self.flush()
        return found

    def _earlier_runs(self, evaluation_uri: str, oldest: datetime) -> list[str]:
        """Return the folders of other runs that asked the model since then, the newest first."""
        home = RunFolder(self.folder.s3, evaluation_uri)
        name = f"responses/{self.model}/settings.json"
        asked: list[tuple[datetime, str]] = []
        for uri in (f"{evaluation_uri}/{slug}" for slug in home.folders()):
            written = RunFolder(self.folder.s3, uri).written(name).get(name)
            if uri != self.folder.uri and written is not None and written >= oldest:
                asked.append((written, uri))
        return [uri for _, uri in sorted(asked, reverse=True)[:MOST_RUNS]]
