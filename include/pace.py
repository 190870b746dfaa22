"""How a model's service answers in, when the next request may start out.

Two things are found out while asking. How many requests at once: doubled every round while all goes
well, from a configurable start up to a limit; fewer when the service is overloaded. How many a
second: unlimited until something is throttled. A quota's bucket is empty whenever it refuses, so
what came through between two refusals, over the time between them, is its rate: a little less than
that is asked for next, and slowly more. Refusals that go on far below a rate that came through
before are no quota's, and going slower would not end them: they are put up with.

On top, the quotas that the config names, kept as Bedrock keeps them: input and max_tokens are taken
when a request starts, and what it did not use is given back when it ends.

Pure arithmetic on a clock; nothing here sends or sleeps.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]

ENOUGH = 10
"""Requests that come through between two refusals before their rate is believed."""

CUT = 0.97
"""Share of a rate that is believed that is asked for next."""

CYCLE = 250
"""Requests until all of it is asked for again. In the end one in about 1.7 cycles is refused,
which keeps refusals below 0.3 %."""

BLIND_CUT = 0.7
"""What is left of a rate that is far too high."""

SLOWEST_RATE = 0.1
"""Requests a second that are tried even while everything is throttled."""

WIDEST = 4.0
"""By how much the rate may grow while it is measured: a bucket that was full tells too little."""

FUTILE_CUTS = 3
FUTILE_BELOW = 0.7
"""So many cuts, down to this share of a rate that came through before: it is no quota's doing.
Where several tasks ask, the others may have taken their parts of it."""

MOST_NOISE = 0.5
"""Share of refusals that may be no quota's doing."""

NOISE_WINDOW = 50
NOISE_SLACK = 0.25
"""So much larger a share of refusals among so many requests is a quota's doing after all."""

NOISE_REQUESTS = 4000
"""After so many it is found out anew."""

BACK_OFF = 0.7
"""What is left of the number of requests at once when the service is overloaded."""


@dataclass
class Ticket:
    """One request in flight."""

    number: int
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
        self._round_ends = 0.0
        self._overloaded = self._was_full = False
        self.share = 1
        """How many tasks ask the model at once: each takes its part of the limits."""
        self.in_flight = 0
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
            Seconds, 0 for now; None if one of those in flight has to end first. Ask again whenever
            one ends, for it may give tokens back.
        """
        if self.in_flight >= self.limit:
            self._was_full = True
            return None
        wait = self._rate.delay()
        if self._requests:
            wait = max(wait, self._requests.delay(1, self.share))
        if self._tokens:
            wait = max(wait, self._tokens.delay(tokens, self.share))
        return wait

    def start(self, tokens: float = 0.0) -> Ticket:
        """Count a request as started."""
        self.in_flight += 1
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)
        return Ticket(self._rate.start(), self._clock(), tokens)

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
        self.in_flight -= 1
        self.throttled += throttled
        if self._tokens:
            used = 0.0 if throttled else ticket.reserved_tokens
            if input_tokens is not None and output_tokens is not None:
                used = input_tokens + output_tokens * self._weight
            self._tokens.take(used - ticket.reserved_tokens)
        self._rate.done(ticket, throttled, self.in_flight, self.share)
        self._overloaded |= overloaded
        if ticket.started >= self._round_ends:  # one latency has passed since the last look
            self._round()

    def _round(self) -> None:
        """Adjust how many are in flight, once in the time that a request takes."""
        self._round_ends = self._clock()
        if self._overloaded:
            self._slow_start = False
            self._limit = max(1.0, self._limit * BACK_OFF)
        elif self._was_full:
            step = self._limit if self._slow_start else max(1.0, 0.05 * self._limit)
            self._limit = min(float(self._most), self._limit + step)
        self._overloaded = self._was_full = False


class _Bucket:
    """Fills up steadily to its capacity; what is taken may leave it below zero."""

    def __init__(self, capacity: float, per_second: float, clock: Clock) -> None:
        self.capacity, self.per_second, self._clock = capacity, per_second, clock
        self._level, self._at = capacity, clock()
        self._share = 1

    def delay(self, amount: float, share: int = 1) -> float:
        self._fill()
        if share != self._share:
            self._share = share
            self._level = min(self._level, self.capacity / share)
        missing = min(amount, self.capacity / share) - self._level
        return max(0.0, missing / (self.per_second / share))

    def take(self, amount: float) -> None:
        self._fill()
        self._level -= amount

    def empty(self) -> None:
        self._fill()
        self._level = min(0.0, self._level)

    def _fill(self) -> None:
        now = self._clock()
        gained = (now - self._at) * self.per_second / self._share
        self._level = min(self.capacity / self._share, self._level + gained)
        self._at = now


class _Rate:
    """Requests a second, learned from what is throttled.

    A cycle is what starts between two cuts. A refusal of one that started before the last cut tells
    nothing about the rate since then.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.allowed: float | None = None
        self._bucket = _Bucket(1.0, 1.0, clock)
        self._starts: deque[float] = deque(maxlen=2 * ENOUGH)
        self._count = 0
        self._cycle = _Cycle(0, clock())
        self._before: _Cycle | None = None
        self._since, self._since_at, self._base = 0, clock(), 0.0
        self._was_bound = False
        self._growth: float | None = None
        self._confirmed = 0
        self._noise: _Noise | None = None
        self._judged: deque[_Cycle] = deque(maxlen=FUTILE_CUTS)
        self._granted, self._seconds, self._proven = 0, 0.0, 0.0

    def delay(self) -> float:
        wait = 0.0 if self.allowed is None else self._bucket.delay(1)
        self._was_bound |= wait > 0
        return wait

    def start(self) -> int:
        """Count a request as started; return its number."""
        self._starts.append(self._clock())
        if self.allowed is not None:
            self._bucket.take(1)
        self._count += 1
        return self._count - 1

    def done(self, ticket: Ticket, throttled: bool, in_flight: int, share: int) -> None:
        if ticket.number < self._cycle.first:
            if throttled and self._before and ticket.number >= self._before.first:
                self._before.refused += 1
            return
        self._cycle.refused += throttled
        if self._noise:
            self._bear(self._noise, throttled)
        elif throttled:
            self._cut(ticket, share)
        if not throttled and self.allowed is not None:
            self._grow(in_flight)

    def _cut(self, ticket: Ticket, share: int) -> None:
        """Ask less often, unless that is seen to change nothing."""
        speed = self._speed()
        self._judge()
        starts = sum(cycle.starts for cycle in self._judged)
        refused = sum(cycle.refused for cycle in self._judged)
        below = speed < FUTILE_BELOW * self._proven / share
        if below and len(self._judged) == FUTILE_CUTS and refused < MOST_NOISE * starts:
            self._noise = _Noise(refused / starts)
            self._open(self._proven)
            return
        granted = ticket.number - self._since
        through = granted / max(ticket.started - self._since_at, 0.001)
        # With much less than was allowed it was the requests in flight that set the rate. The first
        # cycle may have emptied a bucket that was full.
        if self.allowed is not None and granted >= ENOUGH and through > 0.5 * self._base:
            known = min(speed, through)
            self._open(known * CUT, known)
        else:
            self._open(speed * BLIND_CUT)

    def _judge(self) -> None:
        """Look back at the cycle before, all of whose refusals have come by now."""
        if self._before is None:
            return
        cycle, self._before = self._before, None
        cycle.starts = self._cycle.first - cycle.first
        cycle.seconds = self._cycle.opened - cycle.opened
        self._judged.append(cycle)
        self._granted += cycle.starts - cycle.refused
        self._seconds += cycle.seconds
        if self._granted >= ENOUGH:
            self._proven = max(self._proven, self._granted / max(self._seconds, 0.001))
            self._granted, self._seconds = 0, 0.0

    def _bear(self, noise: _Noise, throttled: bool) -> None:
        """Put up with refusals as long as they do not grow and do not end."""
        noise.add(throttled)
        speed = self._speed()
        if noise.share > noise.usual + NOISE_SLACK:
            self._open(speed * BLIND_CUT)
        elif noise.requests > NOISE_REQUESTS or noise.calm > CYCLE:
            self._open(speed, speed / CUT)
        else:
            return
        self._noise = self._before = None
        self._judged.clear()
        self._granted, self._seconds, self._proven = 0, 0.0, 0.0

    def _grow(self, in_flight: int) -> None:
        """Ask a little more often after each request that came through, if that is what held."""
        assert self.allowed is not None
        if not self._was_bound:
            return
        self._was_bound = False
        self._confirmed += 1
        if self._growth is not None:  # near the rate that is known for long, then quickly away
            self._set(self.allowed + self._growth * (2 * self._confirmed - 1) / CYCLE**2)
            return
        self._set(self.allowed * 2 ** (1 / max(ENOUGH, in_flight)))
        if self.allowed > WIDEST * self._base:
            self._look(self.allowed)

    def _open(self, rate: float, known: float | None = None) -> None:
        """Begin a cycle at a rate; `known` is what it grows to within CYCLE requests."""
        self._before = None if self.allowed is None else self._cycle
        self._cycle = _Cycle(self._count, self._clock())
        self._confirmed = 0
        self._growth = known and known - rate
        self._set(max(SLOWEST_RATE, rate))
        self._bucket.empty()
        self._look(rate)

    def _look(self, rate: float) -> None:
        self._base, self._since, self._since_at = rate, self._count, self._clock()

    def _set(self, rate: float) -> None:
        self._bucket.delay(0)  # fills at the rate until now
        self._bucket.per_second = self.allowed = rate
        # A late start is made up for, but by no more than a tenth of a second's worth.
        self._bucket.capacity = max(1.0, 0.1 * rate)

    def _speed(self) -> float:
        """Return the requests a second that started lately."""
        elapsed = self._clock() - self._starts[0]
        speed = max(1, len(self._starts) - 1) / max(elapsed, 0.001)
        return speed if self.allowed is None else min(speed, self.allowed)


@dataclass
class _Cycle:
    """What started between two cuts."""

    first: int
    """The number of its first request."""
    opened: float
    refused: int = 0
    starts: int = 0
    seconds: float = 0.0


class _Noise:
    """Refusals that no quota explains."""

    def __init__(self, usual: float) -> None:
        self.usual = self.share = usual
        self.requests = 0
        self.calm = 0
        """Requests in a row that came through."""

    def add(self, throttled: bool) -> None:
        self.requests += 1
        self.calm = 0 if throttled else self.calm + 1
        self.share += (throttled - self.share) / NOISE_WINDOW
