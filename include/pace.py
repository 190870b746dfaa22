"""How a model's service answers in, when the next request may start out.

Two things are found out while asking. How many requests at once: doubled every round while all goes
well, from a configurable start up to a limit; fewer when the service is overloaded. How many a
second: unlimited until something is throttled, then what the service let through, a little more
every second, and that again when it throttles (additive increase, multiplicative decrease, as in
Chiu and Jain 1989). On top, the quotas that the config names, kept as Bedrock keeps them: input and
max_tokens are taken when a request starts, and what it did not use is given back when it ends.

Pure arithmetic on a clock; nothing here sends or sleeps.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]

WINDOW_SECONDS = 0.5
WINDOW_REQUESTS = 10
LONGEST_WINDOW_SECONDS = 30.0
"""A window is judged after this time and that many answers, or after the longest time."""

FIRST_WINDOW_SECONDS = 0.1
FIRST_WINDOW_REFUSALS = 3
"""Until something is known: judged after this time and that many refusals."""

CUT = 0.95
"""Share of what came through that is asked for after throttling: it lets a bucket fill again."""

DEEPEST_CUT = 0.3
"""What is left of the rate at least: a short window can let nothing through by chance."""

GROWTH = 1.01
"""How the rate grows in a second without throttling."""

QUICK_GROWTH = 1.1
QUICK_AFTER_SECONDS = 60.0
"""How it grows far below what was throttled last, or when nothing was for so long."""

SLOWEST_RATE = 1 / 20
"""Requests a second that are tried even while everything is throttled."""

MOST_GROWTH = 1.5
"""Of one window, however long it was."""

FUTILE = 3
"""Cuts in a row that change nothing before throttling counts as noise that no rate ends."""

MOST_NOISE = 0.5
"""Share of throttled requests that can be noise."""

NOISY_WINDOW_REQUESTS = 50
"""Requests of a window while there is noise: fewer would be judged by chance."""

BACK_OFF = 0.7
"""What is left of the number of requests at once when the service is overloaded."""


@dataclass
class Ticket:
    """One request in flight."""

    started: float
    reserved_tokens: float


class Pace:
    """Says when the next request to one model may start.

    Args:
        start: Requests in flight at the beginning.
        most: Requests in flight at the most.
        requests_per_minute: Quota, or None.
        tokens_per_minute: Quota, or None.
        output_token_weight: How often the quota counts an output token.
        clock: Seconds; any origin.
    """

    def __init__(
        self,
        start: int,
        most: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        output_token_weight: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._clock = clock
        self._most = most
        self._limit = float(min(start, most))
        self._slow_start = True
        self._weight = output_token_weight
        per_second = requests_per_minute and requests_per_minute / 60
        self._requests = per_second and _Bucket(max(1.0, per_second), per_second, clock)
        self._tokens = tokens_per_minute and _Bucket(
            tokens_per_minute, tokens_per_minute / 60, clock
        )
        self._rate = _Rate(clock)
        self._latency = 0.1
        self._held: deque[float] = deque()
        self._open = 0
        self._round_ends = 0.0
        self._overloaded = self._was_full = False
        self.share = 1
        """How many tasks ask the model at once: each takes its part of the limits."""
        self.in_flight = 0
        """Requests that occupy a place."""
        self.throttled = 0

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return max(1, min(int(self._limit), math.ceil(self._most / self.share)))

    @property
    def rate(self) -> float | None:
        """Requests a second that may start, as far as throttling has shown; None: unknown."""
        return self._rate.allowed

    def delay(self, tokens: float = 0.0) -> float | None:
        """Say how long the next request has to wait.

        Args:
            tokens: Its input and its max_tokens.

        Returns:
            Seconds, 0 for now; None if one of those in flight has to end first.
        """
        now = self._clock()
        while self._held and self._held[0] <= now:
            self._held.popleft()
            self.in_flight -= 1
        if self.in_flight >= self.limit:
            self._was_full = True
            return self._held[0] - now if self._held else None
        waits = [self._rate.delay()]
        if self._requests:
            waits.append(self._requests.delay(1, self.share))
        if self._tokens:
            wait = self._tokens.delay(tokens, self.share)
            if wait and self._open and self._tokens.per_second * wait > tokens:
                return None  # what is reserved for others may come back sooner
            waits.append(wait)
        return max(waits)

    def start(self, tokens: float = 0.0) -> Ticket:
        """Count a request as started."""
        self.in_flight += 1
        self._open += 1
        self._rate.start()
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)
        return Ticket(self._clock(), tokens)

    def done(
        self,
        ticket: Ticket,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        throttled: bool = False,
        overloaded: bool = False,
    ) -> None:
        """Count a request as ended, and learn from how.

        Args:
            ticket: What `start` returned.
            input_tokens: As the service counted; None if it did not say.
            output_tokens: The same.
            throttled: It was refused for coming too early.
            overloaded: The service was too busy to answer in time.
        """
        now = self._clock()
        self._open -= 1
        if throttled:
            # A refusal comes quickly. It occupies its place as long as an answer would have, or
            # refusals would only make room for more of them.
            self.throttled += 1
            self._held.append(max(now, ticket.started + self._latency))
        else:
            self.in_flight -= 1
            self._latency += 0.05 * (now - ticket.started - self._latency)
        if self._tokens:
            used = 0.0 if throttled else ticket.reserved_tokens
            if input_tokens is not None and output_tokens is not None:
                used = input_tokens + output_tokens * self._weight
            self._tokens.take(used - ticket.reserved_tokens)
        self._rate.done(ticket.started, throttled)
        self._overloaded |= overloaded
        if ticket.started >= self._round_ends:  # one latency has passed since the last look
            self._round()

    def _round(self) -> None:
        """Adjust how many are in flight, once in the time that a request takes."""
        self._round_ends = self._clock()
        if self._overloaded:
            self._slow_start = False
            self._limit = max(1.0, self._limit * BACK_OFF)
        elif self._was_full and self._rate.allowed is None:
            step = self._limit if self._slow_start else max(1.0, 0.05 * self._limit)
            self._limit = min(float(self._most), self._limit + step)
        elif self._was_full:
            self._limit = min(float(self._most), self._limit + 1)
        self._overloaded = self._was_full = False


class _Bucket:
    """Fills up steadily to its capacity; what is taken may leave it below zero."""

    def __init__(self, capacity: float, per_second: float, clock: Clock) -> None:
        self._capacity, self.per_second, self._clock = capacity, per_second, clock
        self._level, self._at = capacity, clock()
        self._share = 1

    def delay(self, amount: float, share: int) -> float:
        self._share = share
        self._fill()
        missing = min(amount, self._capacity / share) - self._level
        return max(0.0, missing / (self.per_second / share))

    def take(self, amount: float) -> None:
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now = self._clock()
        gained = (now - self._at) * self.per_second / self._share
        self._level = min(self._capacity / self._share, self._level + gained)
        self._at = now


class _Rate:
    """Requests a second, learned from what is throttled."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.allowed: float | None = None
        self._next = 0.0
        self._noise = 0.0
        self._futile: deque[float] = deque(maxlen=FUTILE + 1)
        self._throttled_at = clock()
        self._too_much = 0.0
        self._open()

    def _open(self) -> None:
        self._opened = self._clock()
        self._started = self._refused = 0

    def delay(self) -> float:
        return 0.0 if self.allowed is None else max(0.0, self._next - self._clock())

    def start(self) -> None:
        self._started += 1
        if self.allowed is not None:
            # A late start is made up for, but by no more than a tenth of a second's worth.
            self._next = max(self._next, self._clock() - 0.1) + 1 / self.allowed

    def done(self, started: float, throttled: bool) -> None:
        self._refused += throttled and started >= self._opened
        elapsed = self._clock() - self._opened
        if self._noise:
            enough = elapsed >= WINDOW_SECONDS and self._started >= NOISY_WINDOW_REQUESTS
        elif self.allowed is not None:
            enough = elapsed >= FIRST_WINDOW_SECONDS and self._started >= WINDOW_REQUESTS
            enough = enough and (self._refused > 0 or elapsed >= WINDOW_SECONDS)
        else:
            enough = elapsed >= FIRST_WINDOW_SECONDS and self._refused >= FIRST_WINDOW_REFUSALS
        if enough or elapsed >= LONGEST_WINDOW_SECONDS:
            self._judge(elapsed)
            self._open()

    def _judge(self, elapsed: float) -> None:
        """Change the rate after one window."""
        if not self._started:
            return
        # What is refused is known at once, what comes through only when it is answered.
        share = self._refused / self._started
        through = (self._started - self._refused) / elapsed
        if share <= self._noise * 1.5 + (0.05 if self._noise else 0.0):
            self._noise += 0.1 * (share - self._noise) if self._noise else 0.0
            self._grow(elapsed, through)
            return
        self._throttled_at = self._clock()
        self._futile.append(share)
        if len(self._futile) > FUTILE and share > max(self._futile) / 2 and share < MOST_NOISE:
            # A quota would have been kept by now. Others use it up, or it is chance: going
            # slower does not help.
            self._noise, self.allowed = sum(self._futile) / len(self._futile), None
            self._futile.clear()
            return
        before = self._started / elapsed
        if self.allowed is not None:
            before = min(before, self.allowed)
        self._too_much = before
        self.allowed = max(SLOWEST_RATE, before * DEEPEST_CUT, min(through * CUT, before))

    def _grow(self, elapsed: float, through: float) -> None:
        self._futile.clear()
        if self.allowed is None or through < 0.8 * self.allowed:
            return
        calm = self._clock() - self._throttled_at > QUICK_AFTER_SECONDS
        quick = calm or self.allowed < 0.8 * self._too_much
        growth = (QUICK_GROWTH if quick else GROWTH) ** elapsed
        self.allowed *= min(growth, MOST_GROWTH)
