"""Facts about money while it is spent: what is counted, where a run stops, what is left of it."""

import copy
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from priced import PRICES, config_folder
from run_work import (
    CLAUDE,
    NOVA,
    asked,
    config,
    forget,
    generate,
    new_run,
    order,
    prompts,
    stored,
    write_rows,
)
from sandbox_server import Sandbox, running_sandbox

from include import costs, judging, ledger, spending, steps, storage, texts
from include.errors import BudgetError, ConfigError, ResultsError
from include.operators import (
    BatchOperator,
    DeleteEndpointOperator,
    DeployEndpointOperator,
    NovaJudgeOperator,
)
from include.records import OVER_BUDGET, Pair, Response
from include.runs import Deployment, JudgeJob, Run, Shard
from include.spending import Cap, Spending
from include.tasks import clean
from include.web import spent

TINY = {
    "name": "tiny",
    "provider": "sagemaker",
    "deploy": {"model_id": "T/t", "image_uri": "tgi", "instance_types": ["ml.g5.2xlarge"]},
}
ASKING = ("Converse", "InvokeEndpoint", "CreateModelInvocationJob", "CreateTrainingJob")
SHORT = {"parameters": {"max_tokens": 20}, "generation": {"shard_size": 1}}
PER_PROMPT = 4 / 1e6 * 3000 + 20 / 1e6 * 15000
"""What Claude's answer of twenty tokens to one of these prompts costs."""
ENOUGH_FOR_FIVE = 3.2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    quota = "Minimum number of records per batch inference job for Nova Micro V1=3"
    settings = {"sandbox_delays": "endpoint=0.1,delete=0,job=0.3", "sandbox_quotas": quota}
    with running_sandbox(tmp_path_factory.mktemp("spending"), **settings) as running:
        yield running


@pytest.fixture
def aws(server: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    forget(server)
    connect(server, monkeypatch)
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(config_folder(tmp_path / "c", PRICES)))
    return server


def connect(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """Return the file of prompts, of which there are seven."""
    return write_rows(tmp_path / "prompts.jsonl", prompts(7))


def money(run: Run) -> Spending:
    return Spending(run.config, run.folder, lambda: run.client("sagemaker"))


def amounts(run: Run) -> dict[str, float]:
    found: dict[str, float] = {}
    for use in money(run).uses():
        found[use.what] = found.get(use.what, 0.0) + use.amount
    return found


def paid(run: Run, model: str, price_in: float, price_out: float) -> float:
    """Return what a model's answers cost, each asked for once."""
    rows = stored(run, model)
    tokens_in, tokens_out = (
        sum(getattr(row, f"{kind}_tokens") or 0 for row in rows) for kind in ("input", "output")
    )
    return (tokens_in * price_in + tokens_out * price_out) / 1e6


def in_service(aws: Sandbox, endpoint: str) -> None:
    aws.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )


def operator(cls: Any, run: Run, record: Any) -> Any:
    return cls(task_id=cls.__name__, run=run.record, config=record, aws_conn_id="aws_sandbox")


def begun(run: Run, **judges: float) -> list[Shard]:
    """Load the prompts and keep money for the judge, as `plan` does."""
    shards = steps.load_prompts(run)
    kept = {"estimated": None, "judges": judges or {"claude": 1.842}}
    run.folder.write(storage.ESTIMATE, json.dumps(kept))
    return shards


# tokens


def test_tokens_of_all_rows_count_once_with_failed_tries_and_without_what_was_reused(
    aws: Sandbox, rows: str
) -> None:
    run = new_run(aws, config(rows))
    row = Response("p0", "claude", "ok", "Hi", latency_ms=5.0, input_tokens=1000, output_tokens=100)
    usable = [row, Response(**{**vars(row), "outcome": "empty", "text": None})]
    run.folder.add_part("responses/claude/000000-000007", usable)
    reused = Response(**{**vars(row), "reused_from": "s3://b/earlier"})
    run.folder.add_part("responses/claude/000000-000007", [reused])
    looking = money(run)
    assert looking.spent() == looking.spent() == pytest.approx(2 * (3.0 + 1.5))
    later = Response(**{**vars(row), "prompt_id": "p1"})
    run.folder.add_part("responses/claude/000000-000007", [later])
    assert looking.spent() == pytest.approx(3 * 4.5)


def test_lines_of_a_part_that_are_no_responses_cost_nothing_and_hide_nothing(
    aws: Sandbox, rows: str
) -> None:
    run = new_run(aws, config(rows))
    row = Response("p0", "claude", "ok", "Hi", latency_ms=5.0, input_tokens=1000, output_tokens=100)
    whole = json.dumps(vars(row))
    damaged = (whole[:-9], "7", "{}", "[" * 100_000, '{"input_tokens": "many"}', "\0")
    name = "responses/claude/000000-000007/part-1.jsonl"
    run.folder.write(name, "\n".join([*damaged, whole]))
    assert money(run).spent() == pytest.approx(4.5)


def test_what_a_batch_job_answered_has_batch_prices_and_the_rest_has_not(
    aws: Sandbox, rows: str
) -> None:
    run = new_run(aws, config(rows, baseline={**NOVA, "batch": True}))
    row = Response("p0", "nova", "ok", "Hi", input_tokens=100_000, output_tokens=10_000)
    alone = Response(**{**vars(row), "prompt_id": "p1", "latency_ms": 9.0})
    run.folder.add_part("responses/nova/000000-000007", [row, alone])
    assert amounts(run) == {
        "batch input of nova": pytest.approx(2.0),
        "batch output of nova": pytest.approx(0.8),
        "input of nova": pytest.approx(4.0),
        "output of nova": pytest.approx(1.6),
    }


# endpoints


def reserved(aws: Sandbox, rows: str) -> tuple[Run, Deployment]:
    """Return a run whose endpoint has its name, and is not there yet."""
    run = new_run(aws, config(rows, baseline=TINY))
    steps.load_prompts(run)
    return run, steps.reserve(run, [])[0]


def test_an_endpoint_costs_from_its_creation_to_its_deletion_however_often_its_tasks_run(
    aws: Sandbox, rows: str
) -> None:
    run, deployment = reserved(aws, rows)
    deploy = operator(DeployEndpointOperator, run, deployment)
    for _ in range(2):
        with pytest.raises(TaskDeferred):
            deploy.execute({})
    sagemaker, name = aws.client("sagemaker"), deployment["endpoint_name"]
    created = sagemaker.describe_endpoint(EndpointName=name)["CreationTime"]
    (first, life), *others = json.loads(run.folder.read("spent/endpoints/tiny.json")).items()
    assert not others
    assert datetime.fromisoformat(first) == created
    told = {"endpoint_name": name, "instance_type": "ml.g5.2xlarge", "instances": 1}
    assert life == {**told, "deleted_at": None}
    before = amounts(run)["endpoint of tiny"]
    time.sleep(1)
    assert amounts(run)["endpoint of tiny"] - before > 0.9 * 1.8 / 3600
    delete = operator(DeleteEndpointOperator, run, deployment)
    in_service(aws, name)
    delete.execute({})
    after = amounts(run)
    delete.execute({})
    time.sleep(0.5)
    assert amounts(run) == after


def test_an_endpoint_that_the_janitor_has_deleted_costs_nothing_any_more(
    aws: Sandbox, rows: str
) -> None:
    run, deployment = reserved(aws, rows)
    with pytest.raises(TaskDeferred):
        operator(DeployEndpointOperator, run, deployment).execute({})
    in_service(aws, deployment["endpoint_name"])
    state = {
        "get_dr_count": lambda states, **_: "success" in states,
        "get_task_states": lambda **_: {},
    }
    params = {"dry_run": False, "max_age_hours": 26}
    lines = clean.function("sandbox", ti=SimpleNamespace(**state), params=params)
    assert any(deployment["endpoint_name"] in line for line in lines)
    after = amounts(run)
    time.sleep(0.5)
    assert amounts(run) == after


def test_an_endpoint_of_an_earlier_config_costs_until_it_is_gone(aws: Sandbox, rows: str) -> None:
    run, deployment = reserved(aws, rows)
    with pytest.raises(TaskDeferred):
        operator(DeployEndpointOperator, run, deployment).execute({})
    name, sagemaker = deployment["endpoint_name"], aws.client("sagemaker")
    in_service(aws, name)
    variant = {"InstanceType": "ml.g5.2xlarge", "InitialInstanceCount": 1}
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    spending.endpoint_created(run.folder, "tiny", f"{name}-old", variant, long_ago)
    sagemaker.create_endpoint(EndpointName=f"{name}-old", EndpointConfigName=name)
    delete = operator(DeleteEndpointOperator, run, deployment)
    delete.execute({})
    assert spending.open_endpoints(run.folder, "tiny") == {f"{name}-old"}
    in_service(aws, f"{name}-old")
    sagemaker.delete_endpoint(EndpointName=f"{name}-old")
    sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=f"{name}-old", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    delete.execute({})  # cleared, after somebody has deleted it by hand
    assert spending.open_endpoints(run.folder, "tiny") == set()


def test_without_prices_nothing_is_noted_and_the_cost_is_null(
    aws: Sandbox, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(config_folder(tmp_path / "none", None)))
    run, deployment = reserved(aws, rows)
    assert "priced" not in deployment
    with pytest.raises(TaskDeferred):
        operator(DeployEndpointOperator, run, deployment).execute({})
    in_service(aws, deployment["endpoint_name"])
    operator(DeleteEndpointOperator, run, deployment).execute({})
    assert judging.within_budget(run, judge_record(run), {"a": 1}) == {"a": 1}
    steps.report(run)
    summary = json.loads(run.folder.read(storage.SUMMARY))
    assert summary["cost"] is None and summary["status"] == "failed"
    assert not {w["code"] for w in summary["warnings"]} & {"cost_unknown", "capped"}
    assert not run.folder.names("spent/") and not run.folder.names("capped/")
    assert not run.folder.names(storage.ESTIMATE)


def judge_record(run: Run, candidate: str = "claude") -> JudgeJob:
    return JudgeJob(candidate=candidate, token="t", pairs=1, request=None)


# before


def test_a_run_that_would_exceed_its_budget_is_refused_before_anybody_is_asked(
    aws: Sandbox, rows: str
) -> None:
    run = new_run(aws, config(rows, **SHORT, budget_usd=2.9))
    with pytest.raises(
        ConfigError, match=r"about 2\.99 USD, more than its budget_usd of 2\.90 USD"
    ):
        steps.plan(run, steps.load_prompts(run))
    assert not any(asked(aws, operation) for operation in ASKING)


# while models are asked


def test_what_a_run_has_cost_so_far_can_be_looked_at_again_and_again(
    aws: Sandbox, rows: str
) -> None:
    run = new_run(aws, config(rows, **SHORT))
    shards = steps.load_prompts(run)
    steps.plan(run, shards)
    assert spent.so_far(run.record, "today", run.client) == "0 USD"
    generate(run, shards)
    asking = paid(run, "nova", 40, 160) + paid(run, "claude", 3000, 15_000)
    assert spent.so_far(run.record, "today", run.client) == costs.usd(asking)
    assert spent.so_far(run.record, "today", run.client) == costs.usd(asking)


def test_a_run_that_exceeds_its_budget_on_the_way_ends_capped_with_what_is_complete_judged(
    aws: Sandbox, rows: str
) -> None:
    gate = {"rule": "superiority"}
    run = new_run(aws, config(rows, **SHORT, gate=gate, budget_usd=ENOUGH_FOR_FIVE))
    shards = steps.load_prompts(run)
    steps.plan(run, shards)
    forget(aws)
    generated = generate(run, shards)
    assert len(asked(aws, "Converse")) == 7 + 5
    answers = stored(run, "claude")
    assert [row.error_type for row in answers] == [None] * 5 + [OVER_BUDGET] * 2
    assert {row.attempts for row in answers if row.left_out} == {0}
    asking = paid(run, "nova", 40, 160) + paid(run, "claude", 3000, 15_000)
    assert 5 * PER_PROMPT < asking < 5 * PER_PROMPT + 0.03
    assert answers[-1].error_message == (
        f"{costs.usd(asking)} of budget_usd 3.20 USD are spent, 0 USD of it since the last look, "
        "and 1.84 USD are kept for the judge, so the rest was not asked"
    )
    job = judging.write_judge_input(run, "claude", generated)
    assert job["request"]
    pairs = list(run.folder.read_records("pairs/claude/pairs.jsonl", Pair))
    assert [pair.prompt_id for pair in pairs] == ["p0", "p1", "p2", "p3", "p4"]
    judged = judge(aws, run, job)
    described = aws.client("sagemaker").describe_training_job(TrainingJobName=judged["job_name"])
    left = ENOUGH_FOR_FIVE - asking
    assert described["StoppingCondition"]["MaxRuntimeInSeconds"] == int(left / 7.2 * 3600)
    judging.summarize(run, judged)
    summary = reported(run)
    assert summary["status"] == "capped"
    (comparison,) = summary["comparisons"]
    assert comparison["counts"]["prompts"] == 5
    assert comparison["counts"]["generation_errors"] == {"baseline": 0, "candidate": 0}
    assert comparison["partial"] == "2 of 7 prompts were left out when the budget was reached"
    assert comparison["partial"] in run.folder.read(storage.REPORT).decode()
    asked_of = summary["models"][1]["responses"]
    assert (asked_of["missing"], asked_of["error"]) == (2, 0), "never asked is no failure"
    assert {warning["code"] for warning in summary["warnings"]} == {"capped"}
    cost = summary["cost"]
    assert cost["estimated"] == pytest.approx(2.99, abs=0.01)
    assert cost["actual"] == pytest.approx(sum(part["amount"] for part in cost["parts"]))
    hours = described["BillableTimeInSeconds"] / 3600
    assert cost["actual"] == pytest.approx(asking + 7.2 * hours, abs=1e-5)
    said = (
        f"The budget stopped the run at asking claude: {costs.usd(cost['actual'])} of 3.20 USD are "
        "spent."
    )
    assert summary["gate"] == {"outcome": "inconclusive", "reason": said, "threshold": None}
    with pytest.raises(ResultsError, match=r"the run is capped: The budget stopped the run at"):
        steps.gate(run, "uri")
    assert steps.approval(run, "uri") is None


def judge(aws: Sandbox, run: Run, job: JudgeJob) -> JudgeJob:
    """Do what the task `judge` does."""
    task = operator(NovaJudgeOperator, run, job)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    name = deferred.value.trigger.job_name
    describe, end = aws.client("sagemaker").describe_training_job, time.monotonic() + 30
    while describe(TrainingJobName=name)["TrainingJobStatus"] in ("InProgress", "Stopping"):
        assert time.monotonic() < end
        time.sleep(0.1)
    found: JudgeJob = task.execute_complete({}, {"status": "success", "job_name": name})
    return found


def reported(run: Run) -> dict[str, Any]:
    steps.report(run)
    summary: dict[str, Any] = json.loads(run.folder.read(storage.SUMMARY))
    return summary


def test_what_was_left_out_is_asked_once_there_is_more_money(aws: Sandbox, rows: str) -> None:
    conf = config(rows, **SHORT, budget_usd=ENOUGH_FOR_FIVE)
    run = new_run(aws, conf, "again")
    generate(run, begun(run))
    assert [cap.where for cap in spending.caps(run.folder)] == ["asking claude"] * 2
    forget(aws)
    richer = new_run(aws, {**conf, "budget_usd": 20}, "again")
    generated = generate(richer, begun(richer))
    assert len(asked(aws, "Converse")) == 2
    assert all(row.usable for row in stored(richer, "claude"))
    assert spending.caps(richer.folder) == []
    assert judging.write_judge_input(richer, "claude", generated)["pairs"] > 5


def test_without_a_complete_pair_no_judge_is_paid_and_the_run_is_capped(
    aws: Sandbox, rows: str
) -> None:
    nothing = new_run(aws, config(rows, **SHORT, budget_usd=1.8421))
    generated = generate(nothing, begun(nothing))
    assert all(row.left_out for row in stored(nothing, "claude"))
    with pytest.raises(BudgetError, match="before any prompt was asked of both nova and claude"):
        judging.write_judge_input(nothing, "claude", generated)
    summary = reported(nothing)
    assert summary["status"] == "capped"
    assert summary["comparisons"] == []


def test_failures_of_a_model_are_not_hidden_behind_what_was_left_out(
    aws: Sandbox, rows: str
) -> None:
    run = new_run(aws, config(rows, **SHORT, budget_usd=ENOUGH_FOR_FIVE))
    shards = begun(run)
    order(aws, operation="Converse", code="ValidationException", message="No.", times=1)
    with pytest.raises(Exception, match="1 of 1 responses cannot be used"):
        generate(run, shards)


def test_a_batch_job_is_not_started_when_the_money_is_spent(aws: Sandbox, rows: str) -> None:
    batched = {**NOVA, "batch": True}
    run = new_run(aws, config(rows, **SHORT, baseline=CLAUDE, candidates=[batched], budget_usd=2.2))
    generate(run, begun(run))
    forget(aws)
    nova = next(each for each in steps.reserve(run, []) if each["model"] == "nova")
    done = operator(BatchOperator, run, nova).execute({})
    assert done == {"model": "nova", "start": 0, "stop": 7, "responses": 0}
    assert not asked(aws, "CreateModelInvocationJob")
    assert {row.error_type for row in stored(run, "nova")} == {OVER_BUDGET}
    assert "the batch job of nova" in [cap.where for cap in spending.caps(run.folder)]


def test_asking_stops_before_a_look_that_would_be_too_late(aws: Sandbox, rows: str) -> None:
    run = new_run(aws, config(rows, **SHORT, budget_usd=11.842))
    begun(run)
    allowance = spending.Allowance(money(run))
    answer = Response("p0", "claude", "ok", "Hi", latency_ms=5.0, input_tokens=0, output_tokens=200)
    looks = []
    for number in range(3):
        looks.append(allowance.over())
        row = Response(**{**vars(answer), "prompt_id": f"p{number}"})
        run.folder.add_part("responses/claude/000000-000007", [row])
    assert looks == [None, None, None]
    said = allowance.over()
    assert said and said.startswith("9.00 USD of budget_usd 11.84 USD are spent, 3.00 USD of it")


# the judge


def input_written(aws: Sandbox, rows: str, **changes: Any) -> tuple[Run, JudgeJob]:
    run = new_run(aws, config(rows, **{**SHORT, **changes}))
    generated = generate(run, begun(run))
    return run, judging.write_judge_input(run, "claude", generated)


def test_every_attempt_of_a_judge_job_counts(aws: Sandbox, rows: str) -> None:
    run, job = input_written(aws, rows)
    sagemaker = aws.client("sagemaker")
    assert job["request"]
    base = job["request"]["TrainingJobName"]
    order(aws, operation="CreateTrainingJob", failure_reason="InternalServerError: again", times=1)
    with pytest.raises(Exception, match="InternalServerError"):
        judge(aws, run, job)
    judge(aws, run, job)
    seconds = [
        sagemaker.describe_training_job(TrainingJobName=f"{base}-{n}")["BillableTimeInSeconds"]
        for n in (1, 2)
    ]
    uses = [use for use in money(run).uses() if use.what == "judge of claude"]
    assert sorted(use.quantity * 3600 for use in uses) == pytest.approx(sorted(seconds))
    assert reported(run)["cost"]["actual"] == pytest.approx(costs.total(money(run).uses()))


def test_a_judge_job_that_is_refused_costs_nothing(aws: Sandbox, rows: str) -> None:
    run, job = input_written(aws, rows)
    order(aws, operation="CreateTrainingJob", code="ResourceLimitExceeded", times=1)
    with pytest.raises(Exception, match="SageMaker refuses judge job"):
        operator(NovaJudgeOperator, run, job).execute({})
    assert run.folder.names("spent/judge/")
    assert "judge of claude" not in amounts(run)


def test_a_judge_job_is_not_started_with_too_little_money(
    aws: Sandbox, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, job = input_written(aws, rows, budget_usd=ENOUGH_FOR_FIVE)
    monkeypatch.setattr(costs, "LEAST_JUDGE_SECONDS", 100_000)
    assert job["request"]
    job["request"]["StoppingCondition"]["MaxRuntimeInSeconds"] = 86_400
    with pytest.raises(AirflowFailException, match=r"BudgetError: 1\.6. USD of the budget"):
        operator(NovaJudgeOperator, run, job).execute({})
    assert not asked(aws, "CreateTrainingJob")
    assert "the judge of claude" in [cap.where for cap in spending.caps(run.folder)]
    assert reported(run)["status"] == "capped"


def test_the_rest_of_the_budget_is_shared_by_the_candidates_as_it_was_kept(
    aws: Sandbox, rows: str
) -> None:
    other = {**NOVA, "name": "other"}
    run = new_run(aws, config(rows, **SHORT, candidates=[CLAUDE, other], budget_usd=20))
    spent = Spending(run.config, run.folder, lambda: run.client("sagemaker"))
    row = Response("p0", "claude", "ok", "Hi", latency_ms=5.0, input_tokens=0, output_tokens=400)
    run.folder.add_part("responses/claude/000000-000007", [row])
    begun(run, claude=1.0, other=3.0)
    assert spent.left_for_judge("claude") == pytest.approx(3.5)
    assert spent.left_for_judge("other") == pytest.approx(10.5)


def test_a_judge_job_whose_money_is_up_caps_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = copy.deepcopy(PRICES)
    prices["models"] = {each: {"input": 0, "output": 0} for each in prices["models"]}
    with running_sandbox(tmp_path / "s", sandbox_delays="job=8") as slow:
        connect(slow, monkeypatch)
        monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(config_folder(tmp_path / "c", prices)))
        monkeypatch.setattr(costs, "LEAST_JUDGE_SECONDS", 1)
        rows = write_rows(tmp_path / "prompts.jsonl", prompts(7))
        run = new_run(slow, config(rows, **SHORT))
        generated = generate(run, begun(run))
        poor = run.config.model_copy(update={"budget_usd": 2.5 / 3600 * 7.2})
        stored_config = {"config": poor.model_dump(mode="json", by_alias=True)}
        run.folder.write(storage.CONFIG, json.dumps(stored_config))
        job = judging.write_judge_input(run, "claude", generated)
        with pytest.raises(AirflowFailException, match="MaxRuntimeExceeded: the budget allowed it"):
            judge(slow, run, job)
        assert [cap.where for cap in spending.caps(run.folder)] == ["the judge of claude"]


# notes


def test_a_cap_can_be_taken_back(aws: Sandbox) -> None:
    folder = storage.RunFolder(aws.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}/run")
    spending.cap(folder, "a", None)
    assert folder.names("capped/") == []
    spending.cap(folder, "a", Cap("asking a", 1.5))
    assert spending.caps(folder) == [Cap("asking a", 1.5)]
    spending.cap(folder, "a", None)
    assert spending.caps(folder) == []


def test_aws_that_does_not_answer_leaves_the_report_without_the_actual_cost(
    aws: Sandbox, rows: str
) -> None:
    run, job = input_written(aws, rows)
    judge(aws, run, job)
    order(aws, operation="DescribeTrainingJob", code="AccessDeniedException", times=None)
    try:
        summary = reported(run)
    finally:
        forget(aws)
    assert summary["cost"]["actual"] is None
    assert "cost_unknown" in [w["code"] for w in summary["warnings"]]


def test_money_is_looked_at_once_for_each_part_that_is_stored(aws: Sandbox, rows: str) -> None:
    run = new_run(aws, config(rows, **SHORT))
    generate(run, begun(run))
    looking, read = money(run), []
    counted = looking.folder.lines

    def noted(name: str) -> Any:
        read.append(name)
        return counted(name)

    object.__setattr__(looking.folder, "lines", noted)
    looking.spent()
    assert len(read) == len(set(read)) == 14
    looking.spent()
    assert len(read) == 14
    assert all(ledger.RANGE.search(name) for name in read)


def test_what_was_spent_is_known_when_the_texts_are_gone(aws: Sandbox, rows: str) -> None:
    run = new_run(aws, config(rows, **SHORT, store_text=False))
    generate(run, steps.load_prompts(run))
    before = amounts(run)
    assert sum(before.values()) > 0
    texts.remove(run.folder)
    assert amounts(run) == pytest.approx(before)
