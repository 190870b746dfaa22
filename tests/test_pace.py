"""Facts about the pace, simulated on a virtual clock: services that throttle, and how they are met.

A service is a function of the time that grants a request or refuses it. Answers and refusals take
their time; what is refused is asked again a little later, as `generate` does it.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.pace import BACK_OFF, SLOWEST_RATE, Pace, Ticket


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


Grants = Callable[[float, random.Random], bool]


class Quota:
    """A service's token bucket: full at first, `per_second` may change at a time."""

    def __init__(self, per_second: float, burst: float, later: tuple[float, float] | None = None):
        self.per_second, self.burst, self.level, self.at = per_second, burst, burst, 0.0
        self.later = later

    def __call__(self, now: float, rng: random.Random) -> bool:
        per_second = self.per_second
        if self.later and now >= self.later[0]:
            per_second = self.later[1]
        self.level = min(self.burst, self.level + (now - self.at) * per_second)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


def by_chance(share: float) -> Grants:
    """Refuse a share of all requests, however many there are."""
    return lambda now, rng: rng.random() >= share


@dataclass
class Asked:
    """What came of asking: when each request came in at the service, and whether it granted it."""

    paces: list[Pace]
    end: float
    log: list[tuple[float, bool]] = field(default_factory=list)

    def granted(self, start: float, stop: float = math.inf) -> int:
        return sum(ok for at, ok in self.log if start <= at < stop)

    def refused(self, start: float, stop: float = math.inf) -> int:
        return sum(not ok for at, ok in self.log if start <= at < stop)

    def throttled(self, start: float) -> float:
        return self.refused(start) / max(1, self.refused(start) + self.granted(start))


def ask(
    grants: Grants,
    *,
    seconds: float = math.inf,
    rows: float = math.inf,
    latency: float = 0.1,
    refusal: float = 0.01,
    tasks: int = 1,
    seed: int = 0,
    **limits: Any,
) -> Asked:
    """Ask for so many rows, or for so long, with one pace or several that know of each other."""
    rng, clock = random.Random(seed), Clock()
    paces = [Pace(**{"start": 8, "most": 50, "clock": clock, **limits}) for _ in range(tasks)]
    for pace in paces:
        pace.share = tasks
    asked = Asked(paces, 0.0)
    coming: list[tuple[float, int, Pace, Ticket, int, bool | None]] = []
    again: dict[int, list[tuple[float, int]]] = {id(pace): [] for pace in paces}
    fresh, done, number = rows, 0, 0
    while done < rows and clock.now < seconds:
        at = coming[0][0] if coming else math.inf
        for pace in paces:
            waiting = again[id(pace)]
            while True:
                is_due = bool(waiting) and waiting[0][0] <= clock.now
                delay = pace.delay()
                if not is_due and not fresh:
                    at = min(at, waiting[0][0] if waiting else math.inf)
                    break
                if delay != 0:
                    at = min(at, math.inf if delay is None else clock.now + delay)
                    break
                tries = heapq.heappop(waiting)[1] if is_due else 0
                fresh -= not is_due
                number += 1
                arrives = clock.now + rng.expovariate(1000)
                heapq.heappush(coming, (arrives, number, pace, pace.start(), tries, None))
                at = min(at, arrives)
        clock.now = max(clock.now + 1e-6, at)
        while coming and coming[0][0] <= clock.now:
            _, order, pace, ticket, tries, ok = heapq.heappop(coming)
            if ok is None:
                ok = grants(clock.now, rng)
                asked.log.append((clock.now, ok))
                takes = latency * rng.uniform(0.8, 1.2) if ok else refusal
                heapq.heappush(coming, (clock.now + takes, order, pace, ticket, tries, ok))
                continue
            pace.done(ticket, throttled=not ok)
            done += ok
            if not ok:
                wait = rng.uniform(0.5, 1) * min(20.0, 0.1 * 1.5**tries)
                heapq.heappush(again[id(pace)], (clock.now + wait, tries + 1))
    asked.end = clock.now
    return asked


# quotas that nobody has named


@pytest.mark.parametrize(
    ("per_second", "burst", "latency", "refusal"),
    [
        (50, 50, 0.1, 0.01),
        (50, 50, 0.1, 0.1),
        (50, 5, 0.1, 0.01),
        (200, 200, 0.1, 0.01),
        (200, 200, 0.2, 0.2),
        (20, 20, 0.5, 0.05),
        (10, 600, 0.5, 0.01),
        (5, 50, 1, 0.01),
        (5, 50, 1, 1),
        (5, 5, 2, 0.05),
    ],
)
def test_a_quota_is_used_up_with_less_than_one_in_a_hundred_throttled(
    per_second: float, burst: float, latency: float, refusal: float
) -> None:
    quota = Quota(per_second, burst)
    asked = ask(quota, seconds=240, latency=latency, refusal=refusal)
    assert asked.granted(60) >= 0.95 * per_second * 180
    assert asked.throttled(60) < 0.01
    assert asked.refused(0, 60) < 200


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("burst", "refusal"), [(3, 0.05), (30, 0.05), (3, 3)])
def test_thirty_a_minute_are_found_in_five_minutes(burst: float, refusal: float, seed: int) -> None:
    asked = ask(Quota(0.5, burst), seconds=900, latency=3, refusal=refusal, seed=seed)
    assert asked.granted(300) >= 0.9 * 0.5 * 600
    assert asked.throttled(300) < 0.01


def test_a_quota_without_a_burst_is_not_overrun() -> None:
    """Requests that come a little too close to one another are refused however many there are."""
    asked = ask(Quota(20, 1), seconds=240, latency=0.5)
    assert asked.throttled(60) < 0.01
    assert asked.granted(60) > 0.7 * 20 * 180


@pytest.mark.parametrize(("tasks", "per_second"), [(2, 50), (3, 50), (5, 20), (8, 50)])
def test_tasks_that_know_of_each_other_share_a_quota(tasks: int, per_second: float) -> None:
    asked = ask(Quota(per_second, per_second), seconds=240, latency=0.3, tasks=tasks)
    assert asked.granted(60) >= 0.95 * per_second * 180
    assert asked.throttled(60) < 0.01


@pytest.mark.parametrize(("start", "most"), [(8, 200), (1, 200), (1, 8)])
def test_a_burst_of_its_own_at_the_start_does_not_hide_the_quota(start: int, most: int) -> None:
    """Where few requests are in flight, what came through is less than the quota."""
    per_second = min(50.0, 1.2 * most / 3)
    quota = Quota(per_second, 5)
    asked = ask(quota, seconds=300, latency=3, refusal=0.1, start=start, most=most)
    assert asked.granted(120) >= 0.9 * min(per_second, most / 3) * 180
    assert asked.throttled(120) < 0.02


def test_after_an_outage_the_quota_is_found_again() -> None:
    quota = Quota(50, 50)
    asked = ask(lambda now, rng: now >= 120 and quota(now, rng), seconds=400)
    assert asked.granted(300) >= 0.9 * 50 * 100
    assert asked.throttled(300) < 0.01


@pytest.mark.parametrize("later", [35.0, 15.0, 5.0])
def test_a_quota_that_shrinks_is_kept_soon(later: float) -> None:
    asked = ask(Quota(50, 50, (100, later)), seconds=300)
    assert asked.granted(130) >= 0.95 * later * 170
    assert asked.throttled(130) < 0.01


def test_a_quota_that_grows_is_found() -> None:
    asked = ask(Quota(50, 50, (100, 200)), seconds=240)
    assert asked.granted(150) >= 0.9 * 200 * 90


def test_where_nothing_is_throttled_nothing_is_held_back() -> None:
    asked = ask(by_chance(0), rows=3000)
    assert asked.end < 1.1 * 3000 / 50 * 0.1
    assert asked.paces[0].rate is None


# throttling that no rate ends


@pytest.mark.parametrize("seed", range(6))
def test_a_fifth_throttled_by_chance_costs_less_than_a_third(seed: int) -> None:
    asked = ask(by_chance(0.2), rows=2000, seed=seed)
    assert asked.end <= 1.3 * 2000 / 0.8 / 50 * 0.1


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.3])
def test_other_shares_by_chance_cost_little_over_time(share: float) -> None:
    asked = ask(by_chance(share), rows=6000)
    assert asked.end <= 1.3 * 6000 / (1 - share) / 50 * 0.1


@pytest.mark.parametrize("seed", range(3))
def test_slow_refusals_by_chance_cost_little_over_time(seed: int) -> None:
    asked = ask(by_chance(0.2), rows=6000, refusal=0.1, seed=seed)
    assert asked.end <= 1.3 * 6000 / 0.8 / 50 * 0.1


def test_a_quota_is_used_up_even_where_others_are_refused_by_chance() -> None:
    quota = Quota(50, 50)
    asked = ask(lambda now, rng: rng.random() >= 0.05 and quota(now, rng), seconds=240)
    assert asked.granted(60) >= 0.9 * 50 * 180
    assert asked.throttled(60) < 0.3


def test_a_total_outage_slows_to_the_slowest_rate_and_is_over_when_it_is_over() -> None:
    asked = ask(lambda now, rng: now >= 300, seconds=600)
    assert asked.refused(0) < 200
    assert asked.refused(200, 300) == pytest.approx(100 * SLOWEST_RATE, abs=3)
    assert asked.granted(500) > 0.95 * 100 * 50 / 0.1


# quotas that the config names


def test_requests_per_minute_are_kept() -> None:
    asked = ask(by_chance(0), seconds=300, requests_per_minute=120)
    for start in range(240):
        assert asked.granted(start, start + 60) <= 120 + 2
    assert asked.granted(60) >= 0.98 * 2 * 240


def test_a_fraction_of_a_request_a_minute_is_kept() -> None:
    asked = ask(by_chance(0), seconds=3600, requests_per_minute=0.5)
    assert asked.granted(0) == pytest.approx(30, abs=1)


def spend(
    seconds: float, reserved: float, used: tuple[int, int], weight: float, latency: float = 1.0
) -> list[tuple[float, float, bool]]:
    """Ask with a quota of 6,000 tokens a minute.

    Returns when how many tokens were taken, negative if they came back, and whether by a start.
    """
    clock = Clock()
    pace = Pace(50, 50, tokens_per_minute=6000, output_token_weight=weight, clock=clock)
    coming: list[tuple[float, int, Ticket]] = []
    ledger: list[tuple[float, float, bool]] = []
    number = 0
    while clock.now < seconds:
        while coming and coming[0][0] <= clock.now:
            ticket = heapq.heappop(coming)[2]
            pace.done(ticket, input_tokens=used[0], output_tokens=used[1])
            ledger.append((clock.now, used[0] + weight * used[1] - reserved, False))
        delay = pace.delay(reserved)
        if delay == 0:
            number += 1
            heapq.heappush(coming, (clock.now + latency, number, pace.start(reserved)))
            ledger.append((clock.now, reserved, True))
            continue
        assert delay is not None or coming, "it is stuck"
        next_end = coming[0][0] if coming else math.inf
        clock.now = min(next_end, math.inf if delay is None else clock.now + delay + 1e-9)
    return ledger


@pytest.mark.parametrize(
    ("reserved", "used", "weight"),
    [(1000, (100, 50), 1), (1000, (500, 500), 1), (300, (100, 200), 5), (9000, (50, 50), 1)],
)
def test_tokens_per_minute_are_kept(reserved: float, used: tuple[int, int], weight: float) -> None:
    """A bucket like Bedrock's, full at first, is never overdrawn by what one request may."""
    level, at = 6000.0, 0.0
    for now, tokens, is_start in spend(300, reserved, used, weight):
        level = min(6000.0, level + (now - at) * 100)
        at = now
        if is_start:
            assert level >= min(tokens, 6000) - 1e-3
        level -= tokens


def test_tokens_that_were_reserved_and_not_used_come_back() -> None:
    started = [at for at, _, is_start in spend(300, 1000, (100, 50), 1) if is_start]
    assert sum(at >= 60 for at in started) == pytest.approx(240 * 100 / 150, rel=0.05)


def test_output_tokens_count_as_often_as_the_quota_counts_them() -> None:
    started = [at for at, _, is_start in spend(300, 300, (100, 40), 5) if is_start]
    assert sum(at >= 60 for at in started) == pytest.approx(240 * 100 / 300, rel=0.05)


def test_a_throttled_request_gives_all_its_tokens_back() -> None:
    clock = Clock()
    pace = Pace(8, 8, tokens_per_minute=600, clock=clock)
    ticket = pace.start(600)
    assert pace.delay(600) == pytest.approx(60)
    pace.done(ticket, throttled=True)
    clock.now += 1 / SLOWEST_RATE
    assert pace.delay(600) == 0


def test_an_answer_that_does_not_count_its_tokens_has_used_what_was_reserved() -> None:
    pace = Pace(8, 8, tokens_per_minute=600, clock=Clock())
    pace.done(pace.start(600))
    assert pace.delay(60) == pytest.approx(6)


def test_a_request_that_needs_more_than_a_minutes_tokens_is_let_through_when_all_are_there() -> (
    None
):
    clock = Clock()
    pace = Pace(8, 8, tokens_per_minute=600, clock=clock)
    assert pace.delay(10_000) == 0
    pace.done(pace.start(10_000))
    assert pace.delay(10) == pytest.approx((10_000 - 600 + 10) / 10)


# how many at once


def answer_all(pace: Pace, clock: Clock, after: float = 1.0, **how: bool) -> int:
    """Start all that may start, let them end together and return how many there were."""
    tickets = []
    while pace.delay() == 0:
        tickets.append(pace.start())
    clock.now += after
    for ticket in tickets:
        pace.done(ticket, **how)
    return len(tickets)


def test_requests_in_flight_double_every_round_up_to_the_most() -> None:
    clock = Clock()
    pace = Pace(2, 40, clock=clock)
    assert [answer_all(pace, clock) for _ in range(7)] == [2, 4, 8, 16, 32, 40, 40]


def test_more_at_the_start_than_at_the_most_is_the_most() -> None:
    assert Pace(64, 5, clock=Clock()).limit == 5


def test_what_is_not_used_does_not_grow() -> None:
    clock = Clock()
    pace = Pace(8, 50, clock=clock)
    for _ in range(20):
        ticket = pace.start()
        clock.now += 1
        pace.done(ticket)
    assert pace.limit == 8


def test_an_overloaded_service_gets_fewer_at_once_and_then_slowly_more() -> None:
    clock = Clock()
    pace = Pace(40, 40, clock=clock)
    answer_all(pace, clock)
    answer_all(pace, clock, overloaded=True)
    assert pace.limit == int(40 * BACK_OFF), "many at once are overloaded: that is one back-off"
    for _ in range(20):
        answer_all(pace, clock, overloaded=True)
    assert pace.limit == 1
    rounds = [answer_all(pace, clock) for _ in range(12)]
    assert rounds == sorted(rounds)
    assert rounds[-1] <= 13, "it does not double any more"


def test_throttling_does_not_change_how_many_may_be_in_flight() -> None:
    asked = ask(by_chance(0.2), rows=2000)
    assert asked.paces[0].limit == 50


@pytest.mark.parametrize(("share", "limit"), [(1, 16), (2, 8), (3, 6), (16, 1), (100, 1)])
def test_each_of_several_tasks_takes_its_part_of_the_places(share: int, limit: int) -> None:
    pace = Pace(16, 16, clock=Clock())
    pace.share = share
    assert pace.limit == limit


def test_each_of_several_tasks_takes_its_part_of_the_quotas() -> None:
    asked = ask(by_chance(0), seconds=300, requests_per_minute=120, tasks=4)
    assert asked.granted(60) == pytest.approx(2 * 240, rel=0.02)
    for start in range(240):
        assert asked.granted(start, start + 60) <= 120 + 2 * 4


def test_throttled_requests_are_counted() -> None:
    asked = ask(by_chance(0.2), rows=300)
    assert asked.paces[0].throttled == asked.refused(0)
    assert asked.paces[0].in_flight == 0


# whatever happens


def events() -> st.SearchStrategy[list[tuple[str, float]]]:
    """What may happen to a pace, in any order: tokens, seconds, or which request ends how."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("start"), st.floats(0, 5000)),
            st.tuples(st.just("wait"), st.floats(0, 100)),
            st.tuples(
                st.sampled_from(["answered", "throttled", "overloaded", "failed"]), st.floats(0, 1)
            ),
            st.tuples(st.just("share"), st.floats(1, 9)),
        ),
        max_size=120,
    )


def happen(pace: Pace, clock: Clock, what: list[tuple[str, float]]) -> Iterator[str]:
    """Let it happen; yield after each."""
    flying: list[Ticket] = []
    for kind, number in what:
        if kind == "start":
            if pace.delay(number) == 0:
                flying.append(pace.start(number))
        elif kind == "wait":
            clock.now += number
        elif kind == "share":
            pace.share = int(number)
        elif flying:
            ticket = flying.pop(int(number * (len(flying) - 1)))
            known = {"input_tokens": 10, "output_tokens": 900} if kind == "answered" else {}
            pace.done(
                ticket, throttled=kind == "throttled", overloaded=kind == "overloaded", **known
            )
        assert pace.in_flight == len(flying)
        yield kind


LIMITS = st.fixed_dictionaries(
    {"start": st.integers(1, 60), "most": st.integers(1, 60)},
    optional={
        "requests_per_minute": st.floats(0.1, 10_000),
        "tokens_per_minute": st.floats(1, 1_000_000),
        "output_token_weight": st.floats(1, 5),
    },
)


@given(limits=LIMITS, what=events())
def test_whatever_happens_no_wait_is_negative_and_none_is_without_an_end(
    limits: dict[str, Any], what: list[tuple[str, float]]
) -> None:
    clock = Clock()
    pace = Pace(**limits, clock=clock)
    for _ in happen(pace, clock, what):
        for tokens in (0.0, 100.0, 1e6):
            delay = pace.delay(tokens)
            if delay is None:
                assert pace.in_flight, "nothing is in flight, and nothing may start"
            else:
                assert 0 <= delay < math.inf
        assert 1 <= pace.limit <= limits["most"]
        assert pace.rate is None or SLOWEST_RATE <= pace.rate < math.inf


@given(limits=LIMITS, what=events())
def test_whatever_happens_a_wait_is_long_enough(
    limits: dict[str, Any], what: list[tuple[str, float]]
) -> None:
    clock = Clock()
    pace = Pace(**limits, clock=clock)
    for _ in happen(pace, clock, what):
        pass
    delay = pace.delay(100)
    if delay is not None:
        clock.now += delay + 1e-6 * (1 + delay)
        assert pace.delay(100) == pytest.approx(0, abs=1e-6)


@given(limits=LIMITS, what=events())
def test_whatever_happens_no_more_start_than_the_limit_allows(
    limits: dict[str, Any], what: list[tuple[str, float]]
) -> None:
    clock = Clock()
    pace = Pace(**limits, clock=clock)
    for kind in happen(pace, clock, what):
        while kind == "start" and pace.delay() == 0:
            before = pace.in_flight
            pace.start()
            assert before < pace.limit
            pace.in_flight -= 1  # it is not one of those that end
            break
