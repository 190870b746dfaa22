"""Facts about batch jobs: their records, what they wrote, and the task that runs them."""

import asyncio
import io
import json
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from botocore.exceptions import ClientError
from run_work import (
    CLAUDE,
    NOVA,
    asked,
    config,
    forget,
    new_record,
    new_run,
    order,
    prompts,
    stored,
    write_rows,
)
from sandbox_server import Sandbox, running_sandbox

from include import batch, providers, runs, steps
from include.config import BedrockModel, Parameters
from include.errors import GenerationError
from include.operators import BATCH_SECONDS, BatchOperator, BatchTrigger
from include.records import Prompt, Turn

QUOTAS = "Minimum number of records per batch inference job for Nova Micro V1=3"
BATCHED = {**NOVA, "batch": True}
ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
MODEL = BedrockModel(**BATCHED)
PROMPTS = [Prompt(f"p{n}", f"What is {n}?") for n in range(4)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Three records are enough for Nova Micro; jobs are over in a moment."""
    settings = {"sandbox_quotas": QUOTAS, "sandbox_delays": "job=0.2"}
    with running_sandbox(tmp_path_factory.mktemp("batch"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    settings = {"sandbox_quotas": QUOTAS, "sandbox_delays": "job=600"}
    with running_sandbox(tmp_path_factory.mktemp("slow"), **settings) as running:
        yield running


@pytest.fixture
def aws(server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    return connected(server, monkeypatch)


@pytest.fixture
def slow(slow_server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    return connected(slow_server, monkeypatch)


def connected(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())
    # Bedrock is reached as Airflow does; for the rest that would take half a second a client.
    monkeypatch.setattr("include.operators.aws", lambda _: sandbox.client)
    forget(sandbox)
    return sandbox


# Records and what a job wrote


def said(text: str, stop_reason: str = "end_turn") -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"text": text}]}
    usage = {"inputTokens": 3, "outputTokens": 2}
    return {"output": {"message": message}, "stopReason": stop_reason, "usage": usage}


def line(place: int, **answer: Any) -> dict[str, Any]:
    return {"recordId": f"P{place:010d}", "modelInput": {}, **answer}


def read(*files: list[Any], ended: str = "the job is Completed") -> list[Any]:
    """Return what files of lines (rows, or bytes as they are) say to the prompts."""
    bodies = [
        b"".join(
            (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n"
            for each in lines
        )
        for lines in files
    ]
    with batch.Output(map(io.BytesIO, bodies), len(PROMPTS), ended) as output:
        return [output.response(n, prompt, "nova") for n, prompt in enumerate(PROMPTS)]


def test_a_record_says_what_converse_would_and_the_job_says_the_model_once() -> None:
    parameters = Parameters(max_tokens=9, temperature=0.5)
    dialect = providers.bedrock(MODEL, parameters)
    prompt = Prompt(
        "a", "And now?", system="Be kind.", turns=(Turn("user", "1"), Turn("assistant", "2"))
    )
    written = batch.record(7, dialect, prompt)
    assert written.endswith(b"\n")
    row = json.loads(written)
    asked_directly = dialect.request(prompt)
    assert row == {
        "recordId": "P0000000007",
        "modelInput": {k: v for k, v in asked_directly.items() if k != "modelId"},
    }
    assert [message["role"] for message in row["modelInput"]["messages"]] == [
        "user",
        "assistant",
        "user",
    ]


def test_answers_are_found_in_any_order_and_in_several_files() -> None:
    responses = read(
        [line(3, modelOutput=said("three")), line(0, modelOutput=said("zero"))],
        [line(2, modelOutput=said("two")), line(1, modelOutput=said("one"))],
    )
    assert [each.text for each in responses] == ["zero", "one", "two", "three"]
    assert {each.outcome for each in responses} == {"ok"}
    assert (responses[0].input_tokens, responses[0].output_tokens) == (3, 2)


def test_every_way_to_answer_badly_is_a_typed_row() -> None:
    error = {"errorCode": 429, "errorMessage": "Too many requests"}
    responses = read(
        [
            line(0, error=error),
            line(1, modelOutput=said("half", "max_tokens")),
            line(2, modelOutput=said("no", "guardrail_intervened")),
            line(3, modelOutput=said("  ")),
        ]
    )
    assert [(each.outcome, each.error_type, each.text) for each in responses] == [
        ("error", "429", None),
        ("truncated", None, "half"),
        ("refused", None, None),
        ("empty", None, None),
    ]
    assert responses[0].error_message == "Too many requests"


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"modelOutput": None},
        {"modelOutput": {"output": {}}},
        {"modelOutput": {"output": {"message": {"content": "text"}}}},
        {"modelOutput": {**said("x"), "stopReason": ["a list"]}},
        {"modelOutput": {**said("x"), "usage": "none"}},
        {"modelOutput": [said("x")]},
    ],
)
def test_an_answer_in_no_known_shape_is_a_typed_row(output: dict[str, Any]) -> None:
    first, *others = read([line(0, **output)])
    assert (first.outcome, first.error_type) == ("error", "UnknownAnswer")
    assert {each.error_type for each in others} == {"NotProcessed"}


def test_what_is_no_record_is_as_if_it_were_not_there() -> None:
    garbage = [
        b"",
        b"not json",
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 5000,
        b'"P0000000001"',
        {"recordId": 1, "modelOutput": said("x")},
        {"recordId": "P1", "modelOutput": said("x")},
        {"recordId": "P-000000001", "modelOutput": said("x")},
        {"recordId": "P9999999999", "modelOutput": said("x")},
        {"recordId": "P0000000004", "modelOutput": said("one past the last")},
    ]
    responses = read([*garbage, line(1, modelOutput=said("one")), *garbage], ended="it is Expired")
    assert [each.text for each in responses] == [None, "one", None, None]
    assert responses[0].error_type == "NotProcessed"
    assert responses[0].error_message == "it is Expired without an answer to it"


def test_an_answer_counts_before_an_error_to_the_same_record() -> None:
    error = {"error": {"errorCode": 500, "errorMessage": "x"}}
    good = {"modelOutput": said("yes")}
    responses = read([line(0, **error), line(0, **good), line(1, **good), line(1, **error)])
    assert [each.text for each in responses[:2]] == ["yes", "yes"]


def test_an_error_that_is_no_object_still_says_something() -> None:
    responses = read([line(0, error="boom"), line(1, error={"errorMessage": "x" * 9000})])
    assert (responses[0].error_type, responses[0].error_message) == ("BatchError", "boom")
    assert len(responses[1].error_message) == 2000


# The task


class Batched:
    """A run whose baseline is asked by batch jobs, and its task."""

    def __init__(self, sandbox: Sandbox, folder: Path, count: int = 4, **changes: Any) -> None:
        source = write_rows(folder / "prompts.jsonl", prompts(count))
        self.sandbox, self.conf = sandbox, config(source, baseline=BATCHED, **changes)
        self.record = new_record(sandbox, self.conf)
        steps.load_prompts(self.run)

    @property
    def run(self) -> runs.Run:
        return runs.open_run(self.record, self.sandbox.client)

    def reconfigure(self, **changes: Any) -> None:
        """Clear `resolve`, after a change of the config."""
        self.conf |= changes
        self.record = new_record(self.sandbox, self.conf, self.record["run_id"])

    def task(self, model: str = "nova") -> BatchOperator:
        deployment = {"model": model, "endpoint_name": None, "requests": None}
        return BatchOperator(
            task_id="batch", run=self.record, config=deployment, aws_conn_id="aws_sandbox"
        )

    def execute(self, number: int = 1, max_tries: int = 2) -> Any:
        """One try; by default the first since the task was cleared, or the very first."""
        return self.task().execute(a_try(number, max_tries))

    def deferred(self, number: int = 1, max_tries: int = 2) -> BatchTrigger:
        with pytest.raises(TaskDeferred) as caught:
            self.execute(number, max_tries)
        trigger = caught.value.trigger
        assert isinstance(trigger, BatchTrigger)
        return trigger

    def complete(self, trigger: BatchTrigger, model: str = "nova") -> Any:
        """Let the trigger wait, and the task go on with what it says."""
        self.settle(1)  # then it looks once, instead of twice with a second between
        event = asyncio.run(first_event(trigger))
        return self.task(model).execute_complete(a_try(1, 2), event.payload)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the run's jobs, the oldest first."""
        listed = self.sandbox.client("bedrock").list_model_invocation_jobs(sortOrder="Ascending")
        return [
            each
            for each in listed["invocationJobSummaries"]
            if self.record["uri"] in str(each["inputDataConfig"])
        ]

    def statuses(self) -> list[str]:
        return [each["status"] for each in self.jobs()]

    def settle(self, seconds: float) -> bool:
        """Wait for the last job, but not longer; return whether it has ended."""
        end = time.monotonic() + seconds
        while self.jobs()[-1]["status"] not in ENDED:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def until_ended(self) -> None:
        assert self.settle(20)

    def outcomes(self) -> list[str]:
        return [each.outcome for each in stored(self.run, "nova")]


async def first_event(trigger: BatchTrigger) -> Any:
    async with aclosing(trigger.run()) as events:
        return await anext(events)


def a_try(number: int, max_tries: int, retries: int = 2) -> dict[str, Any]:
    """A context of a task with retries; clearing raises max_tries to the tries so far + retries."""
    ti = {"dag_id": "d", "task_id": "batch", "run_id": "r", "map_index": 0}
    task = SimpleNamespace(retries=retries)
    return {"ti": SimpleNamespace(**ti, try_number=number, max_tries=max_tries, task=task)}


RETRY = {"number": 2, "max_tries": 2}


def test_a_job_asks_all_prompts_and_its_answers_are_taken(aws: Sandbox, tmp_path: Path) -> None:
    work = Batched(aws, tmp_path)
    generated = work.complete(work.deferred())
    assert generated == {"model": "nova", "start": 0, "stop": 4, "responses": 4}
    assert work.outcomes() == ["ok"] * 4
    (request,) = asked(aws, "CreateModelInvocationJob")
    assert request["modelInvocationType"] == "Converse"
    assert request["modelId"] == NOVA["model_id"]
    assert request["clientRequestToken"] == request["jobName"]
    assert request["timeoutDurationInHours"] == 24
    assert not asked(aws, "Converse")


def test_a_job_answers_in_the_words_in_which_the_model_answers_directly(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path)
    work.complete(work.deferred())
    model = BedrockModel(**NOVA, parameters=Parameters(max_tokens=512))
    dialect = providers.bedrock(model, model.parameters)
    for prompt, response in zip(work.run.prompts(), stored(work.run, "nova"), strict=True):
        answer = aws.client("bedrock-runtime").converse(**dialect.request(prompt))
        assert response.text == providers.read_converse(answer).text


def test_a_job_carries_the_runs_tags(aws: Sandbox, tmp_path: Path) -> None:
    work = Batched(aws, tmp_path)
    arn = work.deferred().serialized_fields["job_arn"]
    listed = aws.client("bedrock").list_tags_for_resource(resourceARN=arn)["tags"]
    tags = {tag["key"]: tag["value"] for tag in listed}
    assert tags["nova-judge:run"] == work.record["uri"]
    assert tags["nova-judge:evaluation"] == "asking"


def test_models_that_are_not_batched_need_nothing(aws: Sandbox, tmp_path: Path) -> None:
    work = Batched(aws, tmp_path)
    assert work.task("claude").execute({}) is None
    assert not work.jobs()


def test_a_second_try_attaches_to_the_running_job(slow: Sandbox, tmp_path: Path) -> None:
    work = Batched(slow, tmp_path)
    arn = work.deferred().serialized_fields["job_arn"]
    assert work.deferred(**RETRY).serialized_fields["job_arn"] == arn
    assert work.deferred().serialized_fields["job_arn"] == arn
    assert len(asked(slow, "CreateModelInvocationJob")) == 1


def test_a_job_that_ended_while_nobody_waited_is_taken_once(aws: Sandbox, tmp_path: Path) -> None:
    work = Batched(aws, tmp_path)
    work.deferred()
    work.until_ended()
    for _ in range(2):
        assert work.execute(**RETRY)["responses"] == 4
    assert len(asked(aws, "CreateModelInvocationJob")) == 1
    assert not asked(aws, "Converse")
    parts = [name for name in work.run.folder.names("responses/nova/") if "part-" in name]
    assert len(parts) == 1


def test_a_worker_that_dies_while_it_takes_answers_costs_no_second_job(
    aws: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Batched(aws, tmp_path, count=8, generation={"shard_size": 2})
    trigger, read_answer = work.deferred(), batch.Output.response

    def dies(self: batch.Output, place: int, *others: Any) -> Any:
        if place == 5:
            raise KeyboardInterrupt
        return read_answer(self, place, *others)

    with monkeypatch.context() as dying:
        dying.setattr(batch.Output, "response", dies)
        with pytest.raises(KeyboardInterrupt):
            work.complete(trigger)
    assert len(work.outcomes()) == 4
    assert work.execute(**RETRY)["responses"] == 8
    assert len(work.jobs()) == 1


def lose_the_answer(work: Batched) -> None:
    """Let Bedrock start a job, but not be heard; with status 500, boto3 would ask some more."""
    fault = {"operation": "CreateModelInvocationJob", "carried_out": True}
    order(work.sandbox, **fault, code="InternalServerException", status=400)
    with pytest.raises(ClientError, match="InternalServerException"):
        work.execute()
    forget(work.sandbox)


def test_an_answer_that_was_lost_on_its_way_costs_no_second_job(
    slow: Sandbox, tmp_path: Path
) -> None:
    work = Batched(slow, tmp_path)
    lose_the_answer(work)
    work.deferred(**RETRY)
    assert len(work.jobs()) == 1
    assert not asked(slow, "CreateModelInvocationJob")


def test_what_another_run_has_learned_meanwhile_costs_no_second_job(
    slow: Sandbox, tmp_path: Path
) -> None:
    rules = {"evaluation": f"e{time.time_ns()}", "generation": {"reuse": "baseline"}}
    work = Batched(slow, tmp_path, count=8, **rules)
    lose_the_answer(work)
    directly = {**rules, "baseline": NOVA}
    other = new_run(slow, config(work.conf["dataset"]["source"], **directly))
    (shard, _) = steps.load_prompts(other)
    steps.generate(other, steps.reserve(other, []), {**shard, "stop": 4})
    work.deferred(**RETRY)
    assert [each["jobName"][-2:] for each in work.jobs()] == ["-1"]


def test_a_worker_that_dies_before_it_has_noted_the_job_costs_no_second_one(
    slow: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when the list of jobs does not show it yet: then the token does."""
    work = Batched(slow, tmp_path)

    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("include.asking.note_batch", dies)
        with pytest.raises(KeyboardInterrupt):
            work.execute()
    with monkeypatch.context() as dying:
        dying.setattr(BatchOperator, "defer", dies)
        with pytest.raises(KeyboardInterrupt):
            work.execute(**RETRY)
    noted = "batch/nova/001/job.json"
    row = json.loads(work.run.folder.read(noted))
    work.run.folder.write(noted, json.dumps({**row, "arn": None}))
    monkeypatch.setattr(BatchOperator, "_listed", lambda *_: None)
    trigger = work.deferred(**RETRY)
    assert trigger.serialized_fields["job_arn"] == row["arn"]
    assert len(work.jobs()) == 1


def test_a_name_that_is_taken_and_not_listed_is_tried_again_later(
    slow: Sandbox, tmp_path: Path
) -> None:
    work = Batched(slow, tmp_path)
    order(slow, operation="CreateModelInvocationJob", code="ConflictException", times=None)
    with pytest.raises(GenerationError, match="cannot be found"):
        work.execute()
    forget(slow)
    work.deferred(**RETRY)


def test_answers_that_lack_are_asked_for_again_by_a_job_if_they_are_enough(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path, count=6, generation={"max_error_rate": 0.1})
    order(aws, operation="CreateModelInvocationJob", failure_reason="PartiallyCompleted")
    trigger = work.deferred()
    with pytest.raises(GenerationError, match=r"3 x NotProcessed, e\.g\. prompt p\d: .*Partially"):
        work.complete(trigger)
    assert sorted(work.outcomes()) == ["error"] * 3 + ["ok"] * 3
    assert work.complete(work.deferred(**RETRY))["responses"] == 6
    first, second = work.jobs()
    assert first["jobName"].endswith("-1")
    assert second["jobName"].endswith("-2")
    assert second["totalRecordCount"] == 3
    assert not asked(aws, "Converse")


def test_answers_that_lack_are_asked_for_one_by_one_if_they_are_few(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path, generation={"max_error_rate": 0.1, "shard_size": 1})
    order(aws, operation="CreateModelInvocationJob", failure_reason="PartiallyCompleted")
    trigger = work.deferred()
    with pytest.raises(GenerationError, match="2 x NotProcessed"):
        work.complete(trigger)
    lacking = {r.prompt_id for r in stored(work.run, "nova") if not r.usable}
    assert work.execute(**RETRY)["responses"] == 4
    assert len(work.jobs()) == 1
    assert len(asked(aws, "Converse")) == len(lacking) == 2


def test_what_is_asked_one_by_one_is_all_asked_before_its_failures_count(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path, generation={"max_error_rate": 0.25, "shard_size": 1})
    order(aws, operation="CreateModelInvocationJob", failure_reason="PartiallyCompleted")
    trigger = work.deferred()
    with pytest.raises(GenerationError):
        work.complete(trigger)
    order(aws, operation="Converse", code="ValidationException", message="Not this one.")
    assert work.execute(**RETRY)["responses"] == 3
    assert sorted(work.outcomes()) == ["error", "ok", "ok", "ok"]
    assert len(asked(aws, "Converse")) == 2


def test_a_cleared_task_asks_only_for_what_failed(aws: Sandbox, tmp_path: Path) -> None:
    work = Batched(aws, tmp_path, generation={"max_error_rate": 1.0})
    order(aws, operation="CreateModelInvocationJob", failure_reason="PartiallyCompleted")
    assert work.complete(work.deferred())["responses"] == 2
    assert work.execute(number=2, max_tries=3)["responses"] == 4
    assert len(asked(aws, "Converse")) == 2
    assert work.execute(number=3, max_tries=4)["responses"] == 4
    assert len(asked(aws, "Converse")) == 2
    assert len(work.jobs()) == 1


def test_a_job_that_failed_says_why_at_once_and_no_retry_pays_for_another(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path)
    reason = "The role cannot read the input"
    order(aws, operation="CreateModelInvocationJob", failure_reason=reason)
    trigger = work.deferred()
    with pytest.raises(AirflowFailException, match=f"-1 is Failed: {reason}"):
        work.complete(trigger)
    assert {each.error_type for each in stored(work.run, "nova")} == {"NotProcessed"}
    assert reason in str(stored(work.run, "nova")[0].error_message)
    work.deferred(number=2, max_tries=3)  # a person cleared it
    assert [each["jobName"][-2:] for each in work.jobs()] == ["-1", "-2"]


def test_a_retry_that_finds_a_failed_job_says_why_and_starts_none(
    aws: Sandbox, tmp_path: Path
) -> None:
    """As on older providers, whose trigger fails the task without asking the operator."""
    work = Batched(aws, tmp_path)
    order(aws, operation="CreateModelInvocationJob", failure_reason="No such role")
    work.deferred()
    work.until_ended()
    with pytest.raises(AirflowFailException, match="No such role"):
        work.execute(**RETRY)
    assert work.statuses() == ["Failed"]


def test_a_failure_of_bedrocks_own_is_worth_another_job(aws: Sandbox, tmp_path: Path) -> None:
    work = Batched(aws, tmp_path)
    reason = "Internal server error. Please try again."
    order(aws, operation="CreateModelInvocationJob", failure_reason=reason)
    trigger = work.deferred()
    with pytest.raises(GenerationError, match="Internal server error"):
        work.complete(trigger)
    assert work.complete(work.deferred(**RETRY))["responses"] == 4
    assert work.statuses() == ["Failed", "Completed"]


def test_a_role_that_bedrock_refuses_fails_at_once_and_another_role_is_the_remedy(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path)
    nobody = {**BATCHED, "role_arn": "arn:aws:iam::000000000000:role/nobody"}
    work.reconfigure(baseline=nobody)
    with pytest.raises(AirflowFailException, match=r"could not assume the role .*role/nobody"):
        work.execute()
    work.reconfigure(baseline=BATCHED)
    assert work.complete(work.deferred())["responses"] == 4


def denied(operation: str) -> dict[str, Any]:
    message = f"User: me is not authorized to perform: bedrock:{operation}"
    code = "AccessDeniedException"
    return {"operation": operation, "code": code, "status": 403, "message": message}


def test_who_may_not_start_jobs_is_told_so_and_not_tried_again(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path)
    order(aws, **denied("CreateModelInvocationJob"))
    with pytest.raises(AirflowFailException, match=r"bedrock:CreateModel.*\n.*docs/aws\.md"):
        work.execute()
    assert not work.jobs()


def test_who_may_not_look_for_a_job_that_may_be_there_is_told_so(
    slow: Sandbox, tmp_path: Path
) -> None:
    work = Batched(slow, tmp_path)
    lose_the_answer(work)
    order(slow, **denied("ListModelInvocationJobs"))
    with pytest.raises(AirflowFailException, match=r"bedrock:ListModel.*\n.*docs/aws\.md"):
        work.execute(**RETRY)
    work.deferred(number=2, max_tries=3)
    assert len(work.jobs()) == 1


def test_a_stopped_job_is_paid_for_so_its_answers_are_taken(
    slow: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del slow
    with running_sandbox(tmp_path, sandbox_quotas=QUOTAS, sandbox_delays="job=4") as aws:
        connected(aws, monkeypatch)
        work = Batched(aws, tmp_path, count=40)
        trigger = work.deferred()
        bedrock = aws.client("bedrock")
        arn = trigger.serialized_fields["job_arn"]
        while bedrock.get_model_invocation_job(jobIdentifier=arn)["processedRecordCount"] < 10:
            time.sleep(0.02)
        bedrock.stop_model_invocation_job(jobIdentifier=arn)
        with pytest.raises(GenerationError, match="-1 is Stopped"):
            work.complete(trigger)
        answered = work.outcomes().count("ok")
        assert 10 <= answered < 40
        work.deferred(**RETRY)
        body = work.run.folder.read("batch/nova/002/input.jsonl")
        assert len(body.splitlines()) == 40 - answered


def test_a_wait_that_ends_early_fails_the_try_instead_of_waiting_on_and_on(
    slow: Sandbox, tmp_path: Path
) -> None:
    work = Batched(slow, tmp_path)
    trigger = work.deferred()
    order(slow, operation="GetModelInvocationJob", code="AccessDeniedException", status=403)
    with pytest.raises(GenerationError, match=r"is Submitted.*AccessDenied"):
        work.complete(trigger)
    work.deferred(**RETRY)
    assert len(work.jobs()) == 1


@pytest.mark.parametrize("poll_seconds", [1, 30, 7, 100_000])
def test_a_job_is_waited_for_longer_than_bedrock_lets_it_run(
    slow: Sandbox, tmp_path: Path, poll_seconds: int
) -> None:
    work = Batched(slow, tmp_path)
    work.record["poll_seconds"] = poll_seconds
    with pytest.raises(TaskDeferred) as caught:
        work.execute()
    trigger, timeout = caught.value.trigger, caught.value.timeout
    assert trigger.waiter_delay == poll_seconds
    waits = trigger.attempts * poll_seconds
    assert waits > 25 * 3600
    assert timeout is not None
    assert timeout.total_seconds() > BATCH_SECONDS >= 26 * 3600
    if poll_seconds < 3600:
        assert timeout.total_seconds() > waits  # the trigger says why, a timeout does not


@pytest.mark.parametrize(
    ("state", "status"),
    [("failed", "Stopped"), ("success", "Stopped"), ("skipped", "Stopped"), (None, "Submitted")],
)
def test_a_waiting_job_is_stopped_when_a_person_ends_its_task_but_not_when_it_is_cleared(
    slow: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
    status: str,
) -> None:
    work = Batched(slow, tmp_path)
    trigger = work.deferred()
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="batch", run_id="r", map_index=0)
    states(monkeypatch, state)
    asyncio.run(trigger.on_kill())
    if status == "Stopped":
        work.until_ended()
    assert work.statuses() == [status]


@pytest.mark.parametrize(("state", "status"), [("failed", "Stopped"), ("running", "Submitted")])
def test_a_killed_worker_stops_the_job_only_if_a_person_ended_the_task(
    slow: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, status: str
) -> None:
    work = Batched(slow, tmp_path)
    states(monkeypatch, state)
    task = work.task()
    task.on_kill()  # before there is a job
    with pytest.raises(TaskDeferred):
        task.execute(a_try(1, 2))
    task.on_kill()
    if status == "Stopped":
        work.until_ended()
        task.on_kill()  # a job that has ended refuses; that is fine
    assert work.statuses() == [status]


def states(monkeypatch: pytest.MonkeyPatch, state: str | None) -> None:
    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", lambda **of: {of["run_ids"][0]: {"batch_0": state}}
    )


def test_a_job_that_was_stopped_with_its_task_does_not_keep_a_cleared_one_from_another(
    slow: Sandbox, tmp_path: Path
) -> None:
    work = Batched(slow, tmp_path)
    arn = work.deferred().serialized_fields["job_arn"]
    slow.client("bedrock").stop_model_invocation_job(jobIdentifier=arn)
    again = work.deferred(number=2, max_tries=3).serialized_fields["job_arn"]
    assert again != arn
    assert work.statuses() == ["Stopped", "Submitted"]


def test_changed_parameters_end_the_job_that_asks_under_the_old_ones(
    slow: Sandbox, tmp_path: Path
) -> None:
    work = Batched(slow, tmp_path)
    work.deferred()
    work.reconfigure(parameters={"max_tokens": 99})
    work.deferred(number=2, max_tries=3)
    work.deferred(**RETRY)
    first, second = work.jobs()
    assert first["status"] in ("Stopping", "Stopped")
    assert second["status"] == "Submitted"


def test_other_prompts_are_never_given_the_answers_to_the_old_ones(
    aws: Sandbox, tmp_path: Path
) -> None:
    work = Batched(aws, tmp_path)
    trigger = work.deferred()
    work.until_ended()
    rows = [{"id": f"q{n}", "prompt": f"Say {n}."} for n in range(4)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    steps.load_prompts(work.run)
    with pytest.raises(TaskDeferred) as caught:
        work.complete(trigger)
    trigger = caught.value.trigger
    assert work.complete(trigger)["responses"] == 4
    assert len(work.jobs()) == 2
    answered = {each.prompt_id for each in stored(work.run, "nova")}
    assert answered == {"q0", "q1", "q2", "q3"}


def test_the_baselines_answers_are_reused_and_the_rest_is_asked(
    aws: Sandbox, tmp_path: Path
) -> None:
    rules = {"reuse": "baseline"}
    first = Batched(aws, tmp_path, evaluation=f"e{time.time_ns()}", generation=rules)
    first.complete(first.deferred())
    again = Batched(aws, tmp_path, count=5, evaluation=first.conf["evaluation"], generation=rules)
    assert again.execute()["responses"] == 5
    assert not again.jobs()
    assert len(asked(aws, "Converse")) == 1
    ages = [each.reused_from for each in stored(again.run, "nova")]
    assert ages == [first.record["uri"]] * 4 + [None]


def test_the_log_names_the_job_and_what_became_of_it(
    aws: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Batched(aws, tmp_path, generation={"max_error_rate": 1.0})
    order(aws, operation="CreateModelInvocationJob", failure_reason="Expired")
    work.complete(work.deferred())
    name, logged = work.jobs()[0]["jobName"], capsys.readouterr().out
    assert f"Starting batch job {name} for 4 prompts" in logged
    assert f"batch job {name} is Expired" in logged
    assert work.outcomes() == ["error"] * 4


def test_two_batched_models_do_not_mix(aws: Sandbox, tmp_path: Path) -> None:
    other = {**BATCHED, "name": "nova-2", "parameters": {"max_tokens": 3}}
    work = Batched(aws, tmp_path, candidates=[other, CLAUDE])
    work.complete(work.deferred())
    with pytest.raises(TaskDeferred) as caught:
        work.task("nova-2").execute(a_try(1, 2))
    work.complete(caught.value.trigger, "nova-2")
    assert [each.outcome for each in stored(work.run, "nova-2")] == ["truncated"] * 4
    assert work.outcomes() == ["ok"] * 4


def test_memory_does_not_grow_with_what_a_job_wrote() -> None:
    import tracemalloc

    count = 20_000
    body = b"".join(
        json.dumps(line(place, modelOutput=said("x" * 200))).encode() + b"\n"
        for place in range(count)
    )
    file = io.BytesIO(body)
    tracemalloc.start()
    with batch.Output([file], count, "it") as output:
        peak = tracemalloc.get_traced_memory()[1]
        assert output.response(count - 1, PROMPTS[0], "m").text == "x" * 200
    tracemalloc.stop()
    assert peak < 15 * count
