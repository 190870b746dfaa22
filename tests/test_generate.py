"""Facts about asking models, against the sandbox over HTTP and against ways that misbehave."""

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from recording_server import JSON, Answer, Request, recording_server
from sandbox_server import SESSION, Sandbox, running_sandbox

from include import generate as generating
from include import providers
from include.config import BedrockModel, Parameters, SageMakerModel
from include.errors import GenerationError
from include.generate import HOPELESS, TRIES, Connect, Progress, ask_once, generate, tally
from include.ledger import Ledger, Parts
from include.pace import Pace
from include.providers import Again, AskError
from include.records import Prompt, Response
from include.storage import RunFolder

CLAUDE = BedrockModel(name="claude", provider="bedrock", model_id="us.anthropic.claude-sonnet-4-6")


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{n}", f"What is {n} plus {n}?") for n in range(count)]


def ids(found: Any) -> list[str]:
    return [each.prompt_id for each in found]


def folder_at(sandbox: Sandbox) -> RunFolder:
    s3 = sandbox.client("s3", max_pool_connections=10)
    return RunFolder(s3, f"s3://nova-judge-sandbox/test/{uuid4()}")


@pytest.fixture
def folder(sandbox: Sandbox) -> RunFolder:
    return folder_at(sandbox)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time before another try."""
    monkeypatch.setattr(generating, "FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setattr(generating, "LONGEST_WAIT_SECONDS", 0.05)


def book(folder: RunFolder, count: int, start: int = 0) -> Ledger:
    return Ledger(folder, "claude", start, prompts(start + count)[start:], "settings")


def claude(client: Any, most: int = 50) -> Connect:
    dialect = providers.bedrock(CLAUDE, Parameters(max_tokens=50))
    return partial(providers.connected, client, dialect, max_connections=most, timeout=60)


def client_at(service: str, url: str) -> Any:
    once = Config(retries={"total_max_attempts": 1})
    return SESSION.client(service, endpoint_url=url, config=once)


def ask_all(
    ledger: Ledger, connect: Connect, pace: Pace | None = None, **more: Any
) -> list[Response]:
    return generate(ledger, connect, pace or Pace(16, 16), max_tokens=50, **more)


class Model:
    """Answers in the test's own process, as a function of prompt and try says."""

    def __init__(self, says: Callable[[Prompt, int], str | Exception], takes: float = 0.0) -> None:
        self._says, self._takes = says, takes
        self.sent: Counter[str] = Counter()
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[generating.Ask]:
        yield self.ask

    async def ask(self, prompt: Prompt) -> providers.Answer:
        self.sent[prompt.prompt_id] += 1
        self.times.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._takes)
            said = self._says(prompt, self.sent[prompt.prompt_id])
        finally:
            self.in_flight -= 1
        if isinstance(said, Exception):
            raise said
        return providers.Answer(said, "end_turn", 3, 5)


def refusal(again: Again, kind: str = "SomeError", **more: Any) -> AskError:
    return AskError(kind, f"it is {again}", again, **more)


def failing(number: int) -> Callable[[Prompt, int], str | Exception]:
    """Fail for every prompt whose number is below."""
    return lambda prompt, _: refusal("never") if int(prompt.prompt_id[1:]) < number else prompt.text


# rows


def test_there_is_one_response_per_prompt_in_the_prompts_order(
    sandbox: Sandbox, folder: RunFolder
) -> None:
    rows = ask_all(book(folder, 130), claude(sandbox.client("bedrock-runtime")))
    assert ids(rows) == ids(prompts(130))
    assert all(row.usable and row.text and row.attempts == 1 for row in rows)
    assert all(row.input_tokens and row.output_tokens and row.latency_ms for row in rows)
    assert Counter(ids(Parts(folder, "claude").read())) == Counter(ids(prompts(130)))


def test_a_second_call_asks_only_for_failures(folder: RunFolder) -> None:
    first = Model(failing(7))
    rows = ask_all(book(folder, 30), first.connect)
    assert [row.usable for row in rows] == [n >= 7 for n in range(30)]
    assert {row.error_type for row in rows if not row.usable} == {"SomeError"}
    second = Model(failing(0))
    rows = ask_all(book(folder, 30), second.connect)
    assert sorted(second.sent) == sorted(ids(prompts(7)))
    assert all(row.usable for row in rows)
    assert ids(rows) == ids(prompts(30))


def test_nothing_is_asked_where_nothing_is_missing(folder: RunFolder) -> None:
    ask_all(book(folder, 5), Model(failing(0)).connect)

    @asynccontextmanager
    async def closed() -> AsyncIterator[generating.Ask]:
        raise AssertionError("the way was opened")
        yield

    assert ids(ask_all(book(folder, 5), closed)) == ids(prompts(5))


def test_an_unusable_answer_is_a_row_without_a_text(folder: RunFolder) -> None:
    rows = ask_all(book(folder, 2), Model(lambda *_: " \n").connect)
    assert {(row.outcome, row.text, row.error_type) for row in rows} == {("empty", None, None)}


# tries


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("again", sorted(TRIES))
def test_a_prompt_is_tried_as_often_as_its_failure_deserves(
    folder: RunFolder, again: Again
) -> None:
    model = Model(lambda *_: refusal(again))
    (row,) = ask_all(book(folder, 1), model.connect)
    assert model.sent["p0"] == row.attempts == TRIES[again]
    assert (row.error_type, row.error_message) == ("SomeError", f"it is {again}")


def test_what_may_come_right_is_tried_often_and_what_may_not_never() -> None:
    assert TRIES["never"] == 1
    assert TRIES["once"] == 2
    assert TRIES["once"] < TRIES["slow"] < TRIES["again"] == TRIES["overloaded"]
    assert TRIES["again"] >= 5


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("again", ["again", "overloaded", "slow", "once"])
def test_an_answer_to_a_later_try_counts_the_tries(folder: RunFolder, again: Again) -> None:
    model = Model(lambda prompt, nth: refusal(again) if nth == 1 else "Hi")
    (row,) = ask_all(book(folder, 1), model.connect)
    assert (row.outcome, row.text, row.attempts) == ("ok", "Hi", 2)


def test_waits_grow_and_are_random(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(generating, "LONGEST_WAIT_SECONDS", 0.2)
    model = Model(lambda *_: refusal("again"))
    ask_all(book(folder, 1), model.connect)
    gaps = [after - before for before, after in pairwise(model.times)]
    for gap, longest in zip(gaps, [0.05, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2], strict=True):
        assert 0.5 * longest <= gap < longest + 0.5
    assert len({round(gap, 3) for gap in gaps[2:]}) > 1


@pytest.mark.usefixtures("_quick")
def test_throttling_uses_up_no_tries(folder: RunFolder) -> None:
    said: list[str | Exception] = [refusal("throttled"), refusal("once")] * (TRIES["once"] - 1)
    said += [refusal("throttled"), "Hi"]
    model = Model(lambda _, nth: said[nth - 1])
    (row,) = ask_all(book(folder, 1), model.connect)
    assert (row.outcome, row.attempts) == ("ok", len(said))


def test_who_is_throttled_for_too_long_is_a_row(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "PATIENCE_SECONDS", 0.5)
    model = Model(lambda *_: refusal("throttled", "ThrottlingException"))
    (row,) = ask_all(book(folder, 1), model.connect)
    assert (row.outcome, row.error_type) == ("error", "ThrottlingException")
    assert row.attempts == model.sent["p0"] > 1


@pytest.mark.parametrize("again", ["throttled", "overloaded"])
def test_a_service_is_left_alone_as_long_as_it_wants(folder: RunFolder, again: Again) -> None:
    model = Model(lambda _, nth: refusal(again, retry_after=1.5) if nth == 1 else "Hi")
    (row,) = ask_all(book(folder, 1), model.connect)
    assert row.usable
    assert 1.5 <= model.times[1] - model.times[0] < 3


# outages


def test_a_total_outage_ends_soon_and_a_second_call_asks_for_exactly_the_rest(
    folder: RunFolder,
) -> None:
    count = 4 * HOPELESS
    dead = Model(lambda *_: refusal("never", "AccessDeniedException"), takes=0.01)
    rows = ask_all(book(folder, count), dead.connect)
    assert ids(rows) == ids(prompts(count))
    kinds = Counter(row.error_type for row in rows)
    assert HOPELESS <= kinds["AccessDeniedException"] < HOPELESS + 16
    assert kinds["AccessDeniedException"] + kinds["NotAsked"] == count
    assert dead.sent.total() == kinds["AccessDeniedException"]
    not_asked = [row for row in rows if row.error_type == "NotAsked"]
    assert {row.attempts for row in not_asked} == {0}
    assert f"the last {HOPELESS} prompts in a row failed" in (not_asked[0].error_message or "")
    alive = Model(failing(0))
    rows = ask_all(book(folder, count), alive.connect)
    assert alive.sent == Counter(ids(prompts(count)))
    assert all(row.usable for row in rows)


def test_failures_between_answers_are_no_outage(folder: RunFolder) -> None:
    count = 4 * HOPELESS
    model = Model(lambda p, _: "Hi" if int(p.prompt_id[1:]) % 10 == 0 else refusal("never"))
    rows = ask_all(book(folder, count), model.connect)
    assert model.sent.total() == count
    assert "NotAsked" not in {row.error_type for row in rows}


def test_prompts_that_always_fail_do_not_stop_those_that_were_not_asked(
    folder: RunFolder,
) -> None:
    count = 3 * HOPELESS
    poisoned = failing(HOPELESS)
    assert sum(row.usable for row in ask_all(book(folder, count), Model(poisoned).connect)) < count
    rows = ask_all(book(folder, count), Model(poisoned).connect)
    assert [row.usable for row in rows] == [n >= HOPELESS for n in range(count)]


def test_a_service_that_is_away_for_a_moment_costs_no_row(folder: RunFolder) -> None:
    back = time.monotonic() + 2
    model = Model(lambda *_: refusal("again") if time.monotonic() < back else "Hi")
    rows = ask_all(book(folder, 40), model.connect)
    assert all(row.usable for row in rows)


def test_at_the_end_of_its_time_every_prompt_is_a_row(folder: RunFolder) -> None:
    slow = Model(lambda p, _: "Hi", takes=0.4)
    started = time.monotonic()
    rows = ask_all(book(folder, 20), slow.connect, Pace(4, 4), deadline_seconds=1)
    assert time.monotonic() - started < 5
    assert ids(rows) == ids(prompts(20))
    late = [row for row in rows if not row.usable]
    assert 0 < len(late) < 20
    assert {row.error_type for row in late} == {"OutOfTime"}
    assert {row.attempts for row in late} == {0, 1}, "some were in flight"
    rest = Model(failing(0))
    assert all(row.usable for row in ask_all(book(folder, 20), rest.connect))
    assert sorted(rest.sent) == sorted(ids(late))


def test_what_waits_for_another_try_at_the_end_says_why_it_failed(folder: RunFolder) -> None:
    model = Model(lambda *_: refusal("again", "InternalServerException", retry_after=60))
    (row,) = ask_all(book(folder, 1), model.connect, deadline_seconds=0.3)
    assert (row.error_type, row.attempts) == ("InternalServerException", 1)
    assert "the task's time is up" in (row.error_message or "")


# what ends a task


def test_a_mistake_of_ours_surfaces_and_what_came_is_kept(folder: RunFolder) -> None:
    def says(prompt: Prompt, _: int) -> str | Exception:
        return ZeroDivisionError("a mistake") if prompt.prompt_id == "p20" else "Hi"

    with pytest.raises(ZeroDivisionError, match="a mistake"):
        ask_all(book(folder, 40), Model(says, takes=0.01).connect, Pace(4, 4))
    known = book(folder, 40)
    assert len(known.responses()) >= 15
    assert all(row.usable for row in known.responses())
    rest = Model(failing(0))
    ask_all(known, rest.connect)
    assert rest.sent.total() == 40 - len(set(ids(Parts(folder, "claude").read())) - set(rest.sent))


def test_a_way_that_does_not_open_surfaces(folder: RunFolder) -> None:
    @asynccontextmanager
    async def closed() -> AsyncIterator[generating.Ask]:
        raise LookupError("no such certificate")
        yield

    with pytest.raises(LookupError, match="no such certificate"):
        ask_all(book(folder, 2), closed)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_is_interrupted_keeps_what_came(
    folder: RunFolder, signal_number: signal.Signals
) -> None:
    class Killed(BaseException):
        """What Airflow raises in a task that is to end."""

    def end(*_: Any) -> None:
        raise Killed

    before = signal.signal(signal.SIGTERM, end)
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal_number))

    def says(prompt: Prompt, _: int) -> str:
        if prompt.prompt_id == "p40":
            timer.start()
        return "Hi"

    model = Model(says, takes=0.05)
    try:
        with pytest.raises((KeyboardInterrupt, Killed)):
            ask_all(book(folder, 400), model.connect, Pace(4, 4))
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)
    kept = book(folder, 400).responses()
    assert 36 <= len(kept) < 400
    assert model.sent.total() - len(kept) <= 4, "no more is lost than was in flight"


class Broken(RunFolder):
    """An S3 that takes no parts until a time."""

    until = 0.0

    def add_part(self, prefix: str, records: Any) -> str:
        if time.monotonic() < Broken.until:
            error = {"Error": {"Code": "AccessDenied", "Message": "no"}}
            raise ClientError(error, "PutObject")
        return super().add_part(prefix, records)


def test_a_storage_that_fails_for_good_ends_the_task(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "KEEPING_SECONDS", 1.0)
    monkeypatch.setattr(Broken, "until", float("inf"))
    model = Model(lambda *_: "Hi", takes=0.05)
    broken = Broken(folder.s3, folder.uri)
    started = time.monotonic()
    with pytest.raises(ClientError, match="AccessDenied"):
        ask_all(book(broken, 5000), model.connect, Pace(16, 16))
    assert time.monotonic() - started < 10
    assert model.sent.total() < 5000, "it went on asking for what cannot be kept"


def test_a_storage_that_fails_for_a_moment_costs_nothing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "until", time.monotonic() + 2)
    model = Model(lambda *_: "Hi", takes=0.05)
    rows = ask_all(book(Broken(folder.s3, folder.uri), 250), model.connect)
    assert all(row.usable for row in rows)
    assert Counter(ids(Parts(folder, "claude").read())) == model.sent == Counter(ids(prompts(250)))


# what a person sees


def test_progress_says_how_far_a_shard_is(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "REPORT_SECONDS", 0.2)
    seen: list[dict[str, Any]] = []

    class Watched(RunFolder):
        def write(self, name: str, body: Any, content_type: str = "application/json") -> str:
            if name.startswith("progress/"):
                seen.append({"name": name, **json.loads(body)})
            return super().write(name, body, content_type)

    ask_all(book(folder, 3, 100), Model(failing(0)).connect)
    throttled_once = Model(
        lambda p, nth: (
            refusal("throttled")
            if p.prompt_id == "p105" and nth == 1
            else failing(110)(p, nth)
            if p.prompt_id == "p109"
            else "Hi"
        ),
        takes=0.1,
    )
    ask_all(book(Watched(folder.s3, folder.uri), 60, 100), throttled_once.connect, Pace(4, 4))
    assert {each["name"] for each in seen} == {"progress/claude/000100.json"}
    first, last = seen[0], seen[-1]
    assert (first["start"], first["stop"], first["done"], first["failed"]) == (100, 160, 3, 0)
    assert last["done"] + last["failed"] == 60
    assert (last["failed"], last["throttled"], last["in_flight"]) == (1, 1, 0)
    middle = seen[len(seen) // 2]
    assert 0 < middle["in_flight"] <= 4
    assert 5 < middle["rows_per_second"] < 45
    assert middle["expected_end"] >= middle["updated_at"]
    updated = datetime.fromisoformat(last["updated_at"])
    assert abs((datetime.now(UTC) - updated).total_seconds()) < 60
    stored = json.loads(folder.read("progress/claude/000100.json"))
    assert set(stored) == set(asdict(Progress("claude", 0, 1)))
    assert stored["done"] == 59


def test_a_short_shard_fails_only_if_its_model_does() -> None:
    refused = tally([Response("p500", "m", "refused", None)])
    refused.check("m", 0.05, of=501)
    failed = tally([Response(f"p{n}", "m", "error", None, "X", "why") for n in range(26)])
    failed.check("m", 0.05, of=520)
    with pytest.raises(GenerationError, match="26 of 26 responses cannot be used"):
        failed.check("m", 0.05, of=519)


def test_a_shard_in_which_asking_was_given_up_fails_however_few_they_are() -> None:
    rows = [Response(f"p{n}", "m", "error", None, kind, "why") for n, kind in enumerate("AB")]
    rows.append(Response("p2", "m", "error", None, "NotAsked", "the last 50 failed"))
    with pytest.raises(GenerationError, match=r"m: asking was given up:\n.*1 x NotAsked"):
        tally([rows[-1]]).check("m", 0.05, of=10_000)
    with pytest.raises(GenerationError, match="asking was given up"):
        tally(rows).check("m", 0.05, of=10_000)


def test_too_many_failures_are_told_with_the_three_commonest_and_an_example_each() -> None:
    def error(number: int, kind: str) -> Response:
        return Response(f"p{number}", "m", "error", None, kind, f"why {kind}")

    kinds = ["A"] * 5 + ["B"] * 3 + ["C"] * 2 + ["D"]
    rows = [error(n, kind) for n, kind in enumerate(kinds)]
    rows += [Response("e", "m", "empty", None) for _ in range(4)]
    rows += [Response("x", "m", "ok", "Hi") for _ in range(85)]
    counted = tally(rows)
    assert (counted.total, counted.failed) == (100, 15)
    counted.check("m", 0.15)
    assert counted.problem("m", 0.15) is None
    with pytest.raises(GenerationError) as caught:
        counted.check("m", 0.14)
    message = str(caught.value)
    assert (
        message == f"{counted.problem('m', 0.14)}\nClear this task to ask for exactly these again."
    )
    assert message.startswith("m: 15 of 100 responses cannot be used")
    assert "generation.max_error_rate = 0.14" in message
    assert re.findall(r"^  .*$", message, re.MULTILINE) == [
        "  5 x A, e.g. prompt p0: why A",
        "  4 x empty, e.g. prompt e: no text",
        "  3 x B, e.g. prompt p5: why B",
    ]


def test_one_prompt_is_asked_patiently_and_kept_nowhere() -> None:
    model = Model(lambda _, nth: refusal("throttled") if nth == 1 else "Hi")
    row = ask_once(prompts(1)[0], "claude", model.connect)
    assert (row.outcome, row.attempts, row.model) == ("ok", 2, "claude")


# what is no answer of AWS's


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("status", "body", "kind", "tries"),
    [
        (200, b"\xff\xfe\x00", "UnknownAnswer", TRIES["once"]),
        (200, b"<html>a login page</html>", "UnknownAnswer", TRIES["once"]),
        (200, b"[1]", "UnknownAnswer", TRIES["once"]),
        (502, b"<html>Bad Gateway</html>", "HTTP 502", TRIES["again"]),
        (503, b"\xff\xfe\x00", "HTTP 503", TRIES["overloaded"]),
        (403, b"<html>Forbidden</html>", "HTTP 403", TRIES["never"]),
    ],
)
@pytest.mark.parametrize("service", ["bedrock-runtime", "sagemaker-runtime"])
def test_whatever_a_proxy_says_is_a_row(
    folder: RunFolder, service: str, status: int, body: bytes, kind: str, tries: int
) -> None:
    endpoint = SageMakerModel(name="claude", provider="sagemaker", endpoint_name="e")
    dialect = (
        providers.bedrock(CLAUDE, Parameters())
        if service == "bedrock-runtime"
        else providers.sagemaker(endpoint, "e", Parameters())
    )
    with recording_server(lambda _: (status, {"Content-Type": "text/html"}, body)) as server:
        client = client_at(service, server.url)
        connect = partial(providers.connected, client, dialect, max_connections=1, timeout=9)
        (row,) = ask_all(book(folder, 1), connect)
    assert (row.outcome, row.error_type, row.attempts) == ("error", kind, tries)
    assert len(server.requests) == tries


# how many at once


@pytest.fixture
def slow_bedrock() -> Iterator[Any]:
    """A server that takes a tenth of a second for each answer and counts those in flight."""
    said = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
    }

    def answer(_: Request) -> Answer:
        time.sleep(0.1)
        return 200, JSON, json.dumps(said).encode()

    with recording_server(answer) as recording:
        yield recording


def test_never_more_requests_are_in_flight_than_allowed(
    folder: RunFolder, slow_bedrock: Any
) -> None:
    rows = ask_all(
        book(folder, 60), claude(client_at("bedrock-runtime", slow_bedrock.url)), Pace(2, 6)
    )
    assert all(row.usable for row in rows)
    assert slow_bedrock.most_in_flight == 6
    assert len(slow_bedrock.requests) == 60


def test_it_starts_gradually(folder: RunFolder) -> None:
    model = Model(lambda *_: "Hi", takes=0.3)
    ask_all(book(folder, 60), model.connect, Pace(2, 40))
    started = [at - model.times[0] for at in model.times]
    assert sum(at < 0.25 for at in started) == 2, "more than start_concurrency at once"
    assert model.most_in_flight > 4, "it does not grow"


def test_requests_count_as_started_before_their_tasks_run(folder: RunFolder) -> None:
    seen: list[int] = []
    pace = Pace(3, 3)

    class Watching(Model):
        async def ask(self, prompt: Prompt) -> providers.Answer:
            seen.append(pace.in_flight)
            return await super().ask(prompt)

    model = Watching(lambda *_: "Hi", takes=0.05)
    ask_all(book(folder, 9), model.connect, pace)
    assert max(seen) == seen[0] == 3, "the first ran before the others counted"
    assert model.most_in_flight == 3
    assert pace.in_flight == 0


def test_two_shards_at_once_share_the_limit(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "REPORT_SECONDS", 0.2)
    in_flight: list[tuple[float, int]] = []

    class Shared(Model):
        async def ask(self, prompt: Prompt) -> providers.Answer:
            in_flight.append((time.monotonic(), sum(each.in_flight for each in models)))
            return await super().ask(prompt)

    models = [Shared(lambda *_: "Hi", takes=0.1) for _ in range(2)]

    def shard(number: int) -> None:
        ask_all(book(folder, 150, 1000 * number), models[number].connect, Pace(8, 8))

    threads = [threading.Thread(target=shard, args=(number,)) for number in range(2)]
    started = time.monotonic()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    late = [number + 1 for at, number in in_flight if at - started > 1.5]
    assert len(late) > 50
    assert max(late) <= 8
    assert sorted(Counter(late))[-1] > 4, "it is not used"
    assert len(book(folder, 150).responses()) == len(book(folder, 150, 1000).responses()) == 150


def test_a_shard_that_is_over_takes_no_part_of_the_limit(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "REPORT_SECONDS", 0.2)
    ask_all(book(folder, 20), Model(lambda *_: "Hi").connect, Pace(8, 8))
    model = Model(lambda *_: "Hi", takes=0.1)
    pace = Pace(8, 8)
    ask_all(book(folder, 60, 1000), model.connect, pace)
    assert pace.share == 1
    assert model.most_in_flight == 8
    half = {"start": 0, "stop": 20, "done": 9, "failed": 1}
    folder.write("progress/claude/000000.json", json.dumps(half))
    ask_all(book(folder, 30, 2000), model.connect, pace)
    assert pace.share == 2, "one that wrote a moment ago and has half to go"


# a service that throttles


def test_a_fifth_throttled_at_random_costs_no_row_and_doubles_none(tmp_path: Path) -> None:
    faults = "throttle=0.2,latency_ms=20,seed=3"
    with running_sandbox(tmp_path, sandbox_faults=faults) as sandbox:
        folder = folder_at(sandbox)
        pace = Pace(8, 50)
        rows = ask_all(book(folder, 400), claude(sandbox.client("bedrock-runtime")), pace)
        assert ids(rows) == ids(prompts(400))
        assert all(row.usable for row in rows)
        assert Counter(ids(Parts(folder, "claude").read())) == Counter(ids(prompts(400)))
        assert sum(row.attempts - 1 for row in rows) == pace.throttled > 40


def test_the_sandboxs_retry_after_is_honoured(tmp_path: Path) -> None:
    faults = "throttle=0.2,latency_ms=20,retry_after=2,seed=3"
    with running_sandbox(tmp_path, sandbox_faults=faults) as sandbox:
        sent: dict[str, list[float]] = {}
        client = sandbox.client("bedrock-runtime", user_agent_extra="watched")
        folder = folder_at(sandbox)

        @asynccontextmanager
        async def watched() -> AsyncIterator[Callable[[Prompt], Awaitable[providers.Answer]]]:
            async with claude(client)() as ask:

                async def noted(prompt: Prompt) -> providers.Answer:
                    sent.setdefault(prompt.prompt_id, []).append(time.monotonic())
                    return await ask(prompt)

                yield noted

        rows = ask_all(book(folder, 60), watched, Pace(16, 50))
    assert all(row.usable for row in rows)
    gaps = [b - a for times in sent.values() for a, b in pairwise(times)]
    assert len(gaps) > 3
    assert min(gaps) >= 2


def test_a_request_is_on_its_way_before_the_next_is_made(folder: RunFolder) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[generating.Ask]:
        yield ask

    async def ask(prompt: Prompt) -> providers.Answer:
        seen.append("made")
        await asyncio.sleep(0)  # as aiohttp, which sends in the loop's next pass
        seen.append("sent")
        await asyncio.sleep(0.01)
        return providers.Answer(prompt.text, "end_turn", 3, 5)

    ask_all(book(folder, 40), connect, Pace(10, 10))
    assert seen == ["made", "sent"] * 40


def test_more_start_as_soon_as_the_limit_has_grown(folder: RunFolder) -> None:
    model = Model(lambda prompt, _: prompt.text, takes=0.02)
    ask_all(book(folder, 200), model.connect, Pace(2, 16))
    assert model.most_in_flight == 16


# money


def test_when_the_budget_is_reached_the_rest_is_left_out_and_what_is_stored_counts(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "REPORT_SECONDS", 0.1)
    stored: list[int] = []

    def over() -> str | None:
        stored.append(len(list(Parts(folder, "claude").read())))
        return "all is spent" if stored[-1] >= 6 else None

    model = Model(lambda p, _: "Hi", takes=0.1)
    rows = ask_all(book(folder, 200), model.connect, Pace(2, 2), over_budget=over)
    assert ids(rows) == ids(prompts(200))
    answered = [row for row in rows if row.usable]
    assert 6 <= len(answered) < 60
    left_out = [row for row in rows if not row.usable]
    assert {(row.error_type, row.attempts) for row in left_out} == {("OverBudget", 0)}
    assert left_out[0].error_message == "all is spent, so the rest was not asked"
    assert stored[0] == 0 and stored == sorted(stored), "looked at before and while it asks"
    counted = tally(rows)
    assert (counted.total, counted.failed) == (len(answered), 0)
    again = Model(failing(0))
    assert all(row.usable for row in ask_all(book(folder, 200), again.connect))
    assert again.sent.total() == len(left_out)


def test_nothing_is_asked_with_nothing_left(folder: RunFolder) -> None:
    model = Model(failing(0))
    rows = ask_all(book(folder, 5), model.connect, over_budget=lambda: "all is spent")
    assert {row.error_type for row in rows} == {"OverBudget"}
    assert not model.sent


def test_whose_next_try_the_budget_cuts_off_has_not_failed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(generating, "FIRST_WAIT_SECONDS", 60.0)
    monkeypatch.setattr(generating, "LONGEST_WAIT_SECONDS", 60.0)
    looks: list[str | None] = [None, None, None, "all is spent"]
    model = Model(lambda *_: refusal("again"))
    rows = ask_all(
        book(folder, 3), model.connect, over_budget=lambda: looks.pop(0) if looks else "spent"
    )
    assert {(row.error_type, row.attempts) for row in rows} == {("OverBudget", 1)}
    assert tally(rows).problem("m", 0.0) is None
