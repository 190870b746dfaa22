"""Prompts and a way to ask in, a Response to each out: several at once, stored as they come.

One task asks for one shard. A request that fails is sent again as its kind of failure deserves; a
prompt that gets no answer becomes a row that says why. What a killed task has stored is not asked
for again.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from logging import getLogger

from include.errors import GenerationError
from include.ledger import Ledger
from include.pace import Pace, Ticket
from include.providers import Answer, AskError
from include.records import OVER_BUDGET, Prompt, Response

log = getLogger(__name__)

Ask = Callable[[Prompt], Awaitable[Answer]]
"""Sends one request, once; raises AskError."""

Connect = Callable[[], AbstractAsyncContextManager[Ask]]
"""Opens the way to a model."""

TRIES = {"again": 8, "overloaded": 8, "slow": 3, "once": 2, "never": 1}
"""Requests for one prompt, by the kind of the last failure; throttling does not count. Eight take
about half a minute."""

PATIENCE_SECONDS = 900.0
"""How long one prompt may be throttled before it counts as failed."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0
"""Before another try: twice as long each time, a random part of it (exponential, with jitter)."""

FIRST_THROTTLED_WAIT_SECONDS = 0.1
THROTTLED_GROWTH = 1.5
"""The same for what was throttled: short, for the pace sees to it that it is not sent too soon."""

HOPELESS = 50
"""Prompts in a row that fail before the rest is not asked any more."""

NOT_ASKED = "NotAsked"
"""Error type of that rest."""

ONCE_SECONDS = 120.0
"""How long a model may take to answer at all."""

REPORT_SECONDS = 5.0
ALIVE_SECONDS = 20.0
"""A shard whose progress was written so lately counts as at work: the model's limits are shared."""

KEEPING_SECONDS = 120.0
"""How long responses are asked for while none can be stored."""


@dataclass
class Tally:
    """How many responses of which outcome, and the commonest errors."""

    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    """For each kind of error a prompt's id and what was said."""

    def add(self, response: Response) -> None:
        """Count one response; what was left out for want of money says nothing about the model."""
        if response.left_out:
            return
        self.outcomes[response.outcome] += 1
        if not response.usable:
            kind = response.error_type or response.outcome
            self.errors[kind] += 1
            self.examples.setdefault(kind, (response.prompt_id, response.error_message or ""))

    @property
    def total(self) -> int:
        """All responses."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Responses that cannot be used."""
        return self.errors.total()

    def problem(self, model: str, max_error_rate: float, of: int | None = None) -> str | None:
        """Say that too many cannot be used, with the three commonest errors; None if not so.

        Args:
            model: Whose responses they are.
            max_error_rate: Share of its responses that may be unusable.
            of: How many it gives in all, where these are a part of them.
        """
        if self.failed <= max_error_rate * (of or self.total):
            return None
        return (
            f"{model}: {self.failed} of {self.total} responses cannot be used, more than "
            f"generation.max_error_rate = {max_error_rate} allows:\n{self._commonest()}"
        )

    def _commonest(self) -> str:
        lines = []
        for kind, number in self.errors.most_common(3):
            prompt_id, message = self.examples[kind]
            lines.append(f"  {number} x {kind}, e.g. prompt {prompt_id}: {message or 'no text'}")
        return "\n".join(lines)

    def check(self, model: str, max_error_rate: float, of: int | None = None) -> None:
        """Raise if too many of a model's responses cannot be used, or if asking was given up.

        Arguments as for `problem`.

        Raises:
            GenerationError: With the problem, and how to ask again.
        """
        problem = self.problem(model, max_error_rate, of)
        if not problem and self.errors[NOT_ASKED]:
            problem = f"{model}: asking was given up:\n{self._commonest()}"
        if problem:
            raise GenerationError(f"{problem}\nClear this task to ask for exactly these again.")


def tally(responses: Iterable[Response]) -> Tally:
    """Count responses."""
    counted = Tally()
    for response in responses:
        counted.add(response)
    return counted


@dataclass
class Progress:
    """What a person wants to know of a shard while it is asked for: `progress/{model}/*.json`."""

    model: str
    start: int
    stop: int
    done: int = 0
    """Prompts with a usable response."""
    failed: int = 0
    in_flight: int = 0
    throttled: int = 0
    """Requests refused for coming too early."""
    rows_per_second: float | None = None
    """Over the last half minute."""
    expected_end: str | None = None
    """ISO 8601, UTC."""
    updated_at: str = ""

    @property
    def name(self) -> str:
        """Where it is kept in the run folder."""
        return f"progress/{self.model}/{self.start:06d}.json"


def generate(
    ledger: Ledger,
    connect: Connect,
    pace: Pace,
    *,
    max_tokens: int,
    deadline_seconds: float = 43_200,
    over_budget: Callable[[], str | None] | None = None,
) -> list[Response]:
    """Ask for every response that the ledger lacks.

    Args:
        ledger: One shard of one model's responses.
        connect: Opens the way to the model.
        pace: When a request may start.
        max_tokens: Longest response, for quotas that count it up front.
        deadline_seconds: After these, what is left is recorded as an error.
        over_budget: Says why no more may be spent, None while it may; called now and then.

    Returns:
        A response to every prompt of the shard, failures included.
    """
    missing = ledger.missing()
    log.info("%s: %d of %d prompts to answer", ledger.model, len(missing), len(ledger.prompts))
    work = _Work(ledger, connect, pace, max_tokens, deadline_seconds, over_budget)
    try:
        asyncio.run(work.run(missing))
    except BaseException:  # also when the task is being killed
        try:
            ledger.flush()
        except Exception:
            log.exception("%s: the last responses cannot be stored", ledger.model)
        raise
    return ledger.responses()


def ask_once(prompt: Prompt, model: str, connect: Connect) -> Response:
    """Ask for one response that is not kept, patiently: whether a model answers at all."""

    async def one() -> Response:
        found: list[Response] = []
        async with connect() as ask:
            asking = _Asking(ask, Pace(1, 1), model, 0, found.append)
            await asking.run([prompt], time.monotonic() + ONCE_SECONDS)
        return found[0]

    return asyncio.run(one())


@dataclass(order=True)
class _Request:
    """One prompt on its way to a response."""

    due: float
    number: int
    prompt: Prompt = field(compare=False)
    tokens: float = field(compare=False, default=0)
    tries: int = field(compare=False, default=0)
    throttled: int = field(compare=False, default=0)
    first_sent: float = field(compare=False, default=0.0)
    failure: AskError | None = field(compare=False, default=None)
    """Why the last try failed."""

    @property
    def attempts(self) -> int:
        """How often it was sent."""
        return self.tries + self.throttled


class _Asking:
    """Sends requests as the pace allows, again where that makes sense, and hands responses on."""

    def __init__(
        self, ask: Ask, pace: Pace, model: str, max_tokens: int, take: Callable[[Response], None]
    ) -> None:
        self._ask, self._pace, self._model, self._take = ask, pace, model, take
        self._max_tokens = max_tokens
        self._numbers = count()
        self._fresh: deque[Prompt] = deque()
        self._again: list[_Request] = []
        self._sent: dict[asyncio.Task[None], _Request] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._failed_in_a_row = 0
        self._stopped: tuple[str, str] | None = None
        """Error type of what is left, and why it is not asked."""
        self._deadline = 0.0
        self._answered_at = time.monotonic()
        self._mistake: BaseException | None = None
        self._random = random.Random()

    async def run(self, prompts: Sequence[Prompt], deadline: float) -> None:
        """Ask every prompt; return when each has a response or the time is up."""
        self._fresh, self._deadline = deque(prompts), deadline
        try:
            while (self._fresh or self._again or self._sent) and not self._stopped:
                now = time.monotonic()
                if now >= deadline:
                    self._end("OutOfTime", "the task's time is up")
                    return
                await self._wait(min(self._start_what_may(), deadline - now))
            if self._stopped:
                while self._sent and time.monotonic() < deadline:
                    await self._wait(deadline - time.monotonic())
                kind, reason = self._stopped
                self._end(kind, f"{reason}, so the rest was not asked")
        finally:
            await self._cancel()

    async def _wait(self, seconds: float) -> None:
        """Wait until a request ends, but no longer; raise what is no failure of a request."""
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        timer.cancel()
        if self._mistake:
            raise self._mistake

    async def _cancel(self) -> None:
        tasks = list(self._sent)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start_what_may(self) -> float:
        """Start requests until none may; return the seconds until one may, if that is known."""
        while not isinstance(may := self._next(), float):
            task = asyncio.create_task(self._send_on(*may))
            self._sent[task] = may[0]
            task.add_done_callback(self._ended)
        return may

    def _next(self) -> tuple[_Request, Ticket] | float:
        """Return the next request, counted as started, or the seconds until one may start."""
        now = time.monotonic()
        due_in = self._again[0].due - now if self._again else math.inf
        is_due = due_in <= 0
        if self._stopped or now >= self._deadline or not (is_due or self._fresh):
            return due_in
        request = self._again[0] if is_due else self._request(self._fresh[0])
        wait = self._pace.delay(request.tokens)
        if wait is None or wait > 0:
            return min(math.inf if wait is None else wait, math.inf if is_due else due_in)
        if is_due:
            heapq.heappop(self._again)
        else:
            self._fresh.popleft()
        return request, self._pace.start(request.tokens)

    def _request(self, prompt: Prompt) -> _Request:
        tokens = prompt.characters / 4 + self._max_tokens
        return _Request(0.0, next(self._numbers), prompt, tokens)

    async def _send_on(self, request: _Request, ticket: Ticket) -> None:
        """Send a request and, as soon as it has ended, the next that may start.

        Requests that start together are answered together, and then each waits until all are read
        and all next ones signed. So they take turns: one is on its way before the next is made, and
        answers come as far apart as making a request takes.
        """
        task = asyncio.current_task()
        assert task is not None
        while True:
            async with self._turn:
                await asyncio.sleep(0)  # aiohttp sends what is made in the loop's next pass
            await self._send(request, ticket)
            may = self._next()
            if isinstance(may, float):
                return
            request, ticket = may
            self._sent[task] = request
            if self._start_what_may() < math.inf:
                self._wake.set()  # `run` may be waiting for longer than that

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._wake.set()
        self._sent.pop(task, None)
        if not task.cancelled():
            self._mistake = self._mistake or task.exception()

    async def _send(self, request: _Request, ticket: Ticket) -> None:
        started = time.monotonic()
        request.first_sent = request.first_sent or started
        try:
            answer = await self._ask(request.prompt)
        except AskError as error:
            self._pace.done(
                ticket,
                throttled=error.again == "throttled",
                overloaded=error.again in ("overloaded", "slow"),
            )
            self._failed(request, error)
            return
        except BaseException:
            self._pace.done(ticket)
            raise
        self._pace.done(
            ticket, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens
        )
        self._failed_in_a_row, self._answered_at = 0, time.monotonic()
        self._take(
            answer.response(
                request.prompt,
                self._model,
                attempts=request.attempts + 1,
                latency_ms=round((time.monotonic() - started) * 1000, 1),
            )
        )

    def _failed(self, request: _Request, error: AskError) -> None:
        """Send a request again later, or record why there is no response."""
        now = time.monotonic()
        request.failure = error
        if error.again == "throttled":
            request.throttled += 1
            is_last = now - request.first_sent > PATIENCE_SECONDS
            longest = FIRST_THROTTLED_WAIT_SECONDS * THROTTLED_GROWTH ** min(request.throttled, 20)
        else:
            request.tries += 1
            is_last = request.tries >= TRIES[error.again]
            longest = FIRST_WAIT_SECONDS * 2 ** (request.tries - 1)
        if not is_last:
            wait = min(longest, LONGEST_WAIT_SECONDS) * self._random.uniform(0.5, 1)
            request.due = now + max(wait, min(error.retry_after or 0, PATIENCE_SECONDS))
            heapq.heappush(self._again, request)
            return
        self._record(request, error.kind, error.message)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= HOPELESS:
            self.stop(NOT_ASKED, f"the last {HOPELESS} prompts in a row failed")
        elif error.again == "throttled" and now - self._answered_at > PATIENCE_SECONDS:
            minutes = PATIENCE_SECONDS / 60
            self.stop(NOT_ASKED, f"all was throttled for {minutes:.0f} minutes")

    def _record(self, request: _Request, kind: str, message: str, sent: int = 0) -> None:
        self._take(
            Response(
                prompt_id=request.prompt.prompt_id,
                model=self._model,
                outcome="error",
                text=None,
                error_type=kind,
                error_message=message,
                attempts=request.attempts + sent,
            )
        )

    def _end(self, kind: str, reason: str) -> None:
        """Record why what is left has no response: its own failure, if it had one.

        Whose next try is cut off by the budget has not failed, only been left out.
        """
        for request in self._sent.values():
            self._record(request, "OutOfTime", "it was not answered in the task's time", sent=1)
        for request in self._again:
            assert request.failure is not None
            failure = f"{request.failure.message} ({reason})"
            self._record(request, kind if kind == OVER_BUDGET else request.failure.kind, failure)
        for prompt in self._fresh:
            self._record(self._request(prompt), kind, reason)

    def stop(self, kind: str, reason: str) -> None:
        """Ask no more: what is left gets this type of error. The first reason counts."""
        self._stopped = self._stopped or (kind, reason)
        self._wake.set()


class _Work:
    """A shard's asking, with its ledger and its progress."""

    def __init__(
        self,
        ledger: Ledger,
        connect: Connect,
        pace: Pace,
        max_tokens: int,
        deadline_seconds: float,
        over_budget: Callable[[], str | None] | None,
    ) -> None:
        self._ledger, self._pace = ledger, pace
        self._connect, self._max_tokens = connect, max_tokens
        self._over_budget, self._over = over_budget, ""
        self._asking: _Asking | None = None
        self._deadline = time.monotonic() + deadline_seconds
        self._progress = Progress(ledger.model, ledger.start, ledger.stop)
        self._progress.done = len(ledger.prompts) - len(ledger.missing())
        self._rows: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=7)
        self._taken = 0
        self._failing_since: float | None = None
        self._is_done = False
        self._wake = asyncio.Event()

    async def run(self, prompts: Sequence[Prompt]) -> None:
        """Ask, and store what comes; end early if that cannot be stored."""
        await self._keep(self._look_around)  # who else is at work
        asking = asyncio.create_task(self._ask(prompts))
        keeping = asyncio.create_task(self._keep_all())
        try:
            await asyncio.wait({asking, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                self._is_done = True
                self._wake.set()
                await keeping
                await asking
            await keeping
        finally:
            asking.cancel()
            keeping.cancel()
            await asyncio.gather(asking, keeping, return_exceptions=True)

    async def _ask(self, prompts: Sequence[Prompt]) -> None:
        if not prompts:
            return
        model = self._ledger.model
        async with self._connect() as ask:
            self._asking = _Asking(ask, self._pace, model, self._max_tokens, self._take)
            self._stop_if_over()
            await self._asking.run(prompts, self._deadline)

    def _stop_if_over(self) -> None:
        if self._over and self._asking:
            self._asking.stop(OVER_BUDGET, self._over)

    def _take(self, response: Response) -> None:
        self._ledger.add(response)
        self._taken += 1
        self._progress.done += response.usable
        self._progress.failed += not response.usable
        if self._ledger.is_due:
            self._wake.set()

    async def _keep_all(self) -> None:
        """Write parts and progress while others ask, and all that is left when they are done."""
        reported = time.monotonic()
        while True:
            is_last = self._is_done
            if (is_last or self._ledger.is_due) and not await self._keep(self._ledger.flush):
                self._failing_since = self._failing_since or time.monotonic()
                await asyncio.sleep(1)
                continue
            self._failing_since = None
            if is_last or time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                await self._keep(self._look_around)
                self._stop_if_over()
            if is_last:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.2)
            self._wake.clear()

    async def _keep(self, write: Callable[[], None]) -> bool:
        """Write, and say whether it went well; put up with a storage that fails for a while."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            await asyncio.to_thread(write)
        except (BotoCoreError, ClientError, OSError) as error:
            since = self._failing_since
            if since is not None and time.monotonic() - since > KEEPING_SECONDS:
                raise
            log.warning("%s: cannot be stored, tried again: %s", self._ledger.model, error)
            return False
        return True

    def _look_around(self) -> None:
        """Report, take the part of the model's limits that is this shard's, and look at the money.

        What has been answered is stored before: all tasks count what is stored.
        """
        self.report()
        self._pace.share = self._shards_at_work()
        if self._over_budget and not self._over:
            self._ledger.flush()
            self._over = self._over_budget() or ""

    def report(self) -> None:
        """Say in the log and in the run folder how far it is."""
        now, progress = time.monotonic(), self._progress
        self._rows.append((now, self._taken))
        (before, rows), left = self._rows[0], progress.stop - progress.start - progress.done
        left -= progress.failed
        progress.in_flight, progress.throttled = self._pace.in_flight, self._pace.throttled
        speed = (self._taken - rows) / (now - before) if now > before else 0.0
        progress.rows_per_second = round(speed, 2) if speed else None
        utc = datetime.now(UTC)
        progress.updated_at = utc.isoformat(timespec="seconds")
        progress.expected_end = None
        if speed:
            end = utc + timedelta(seconds=max(left, 0) / speed)
            progress.expected_end = end.isoformat(timespec="seconds")
        log.info(
            "%s: %d of %d answered, %d failed, %s/s, %d in flight, %d throttled, end about %s",
            progress.model,
            progress.done,
            progress.stop - progress.start,
            progress.failed,
            progress.rows_per_second or "-",
            progress.in_flight,
            progress.throttled,
            progress.expected_end or "unknown",
        )
        self._ledger.folder.write(progress.name, json.dumps(asdict(progress)))

    def _shards_at_work(self) -> int:
        """Count the shards of this model that ask: this one, and those that wrote lately."""
        times = self._ledger.folder.written(f"progress/{self._ledger.model}/")
        newest = max(times.values(), default=datetime.now(UTC))
        others = (
            name
            for name, at in times.items()
            if name != self._progress.name and (newest - at).total_seconds() < ALIVE_SECONDS
        )
        return 1 + sum(not self._is_over(name) for name in others)

    def _is_over(self, name: str) -> bool:
        """Whether a shard has no prompt left to ask about; the next may have begun in its place."""
        found = self._ledger.folder.read_json(name)
        return found is None or found["done"] + found["failed"] >= found["stop"] - found["start"]
