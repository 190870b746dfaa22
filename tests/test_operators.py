"""Facts about the SageMaker operators: what a second try, a shortage and a failure do."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import requests
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from botocore.exceptions import ClientError
from sandbox_server import ROOT, Sandbox, running_sandbox

from include import judging, runs, steps, storage, texts
from include.config_files import resolve_config
from include.errors import DeploymentError, GenerationError, JudgeJobError, ResponsesError
from include.operators import (
    STOPPING,
    DeleteEndpointOperator,
    DeployEndpointOperator,
    NovaJudgeOperator,
)
from include.records import Prompt
from include.tasks import readable_errors

BUCKET = "s3://nova-judge-sandbox"
CONF = {
    "evaluation": "operators",
    "dataset": {"source": "x.jsonl"},
    "baseline": {
        "name": "tiny",
        "provider": "sagemaker",
        "deploy": {
            "model_id": "Tiny/Tiny-1B",
            "image_uri": "tgi",
            "instance_types": ["ml.g5.2xlarge", "ml.g5.4xlarge"],
        },
    },
    "candidates": ["claude"],
}


@pytest.fixture
def aws(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    return connected(sandbox, monkeypatch)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=600,job=600") as running:
        yield connected(running, monkeypatch)


@pytest.fixture
def scarce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    settings = {"sandbox_faults": "capacity=1", "sandbox_delays": "endpoint=1,delete=0"}
    with running_sandbox(tmp_path, **settings) as running:
        yield connected(running, monkeypatch)


def connected(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())
    return sandbox


def new_run(sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
    uri = f"{BUCKET}/runs/{uuid4()}"
    config = resolve_config({**CONF, **changes}, environ={})
    folder = storage.RunFolder(sandbox.client("s3"), uri)
    stored = {"config": config.model_dump(mode="json", by_alias=True), "digest": config.digest()}
    folder.write(storage.CONFIG, json.dumps(stored))
    folder.write_records("prompts/000000.jsonl", [Prompt("p1", "Why is the sky blue?")])
    index = {"count": 1, "conversations": 0, "sha256": "", "blocks": [0], "notices": []}
    folder.write(storage.PROMPTS, json.dumps(index))
    folder.write(storage.RECIPE, (ROOT / "recipes/nova_micro_llm_judge.yaml").read_bytes())
    return {
        "uri": uri,
        "aws_conn_id": "aws_sandbox",
        "poll_seconds": 1,
        "dag_id": "d",
        "run_id": uri,
        "started_at": "2026-11-24T06:00:00+00:00",
    }


def deployment(sandbox: Sandbox, run: Any) -> Any:
    return steps.reserve(runs.open_run(run, sandbox.client), ["claude"])[0]


def operator(cls: Any, run: Any, config: Any) -> Any:
    return cls(task_id=cls.__name__, run=run, config=config, aws_conn_id="aws_sandbox")


def deferred(task: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute({})
    return caught.value


def wait_for(sandbox: Sandbox, endpoint: str) -> None:
    sandbox.client("sagemaker").get_waiter("endpoint_in_service").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 10}
    )


def names(sandbox: Sandbox, contains: str) -> list[str]:
    sagemaker = sandbox.client("sagemaker")
    return [
        *(e["EndpointName"] for e in sagemaker.list_endpoints(NameContains=contains)["Endpoints"]),
        *(
            c["EndpointConfigName"]
            for c in sagemaker.list_endpoint_configs(NameContains=contains)["EndpointConfigs"]
        ),
        *(m["ModelName"] for m in sagemaker.list_models(NameContains=contains)["Models"]),
    ]


def test_a_deployment_is_deployed_once_tried_and_deleted_whole(aws: Sandbox) -> None:
    run = new_run(aws)
    config = deployment(aws, run)
    task = operator(DeployEndpointOperator, run, config)
    deferred(task)
    deferred(task)  # a second try finds what the first has made
    wait_for(aws, config["endpoint_name"])
    event = {"status": "success", "job_name": config["endpoint_name"]}
    assert task.execute_complete({}, event) == config
    delete = operator(DeleteEndpointOperator, run, config)
    delete.execute({})
    assert names(aws, config["endpoint_name"]) == []
    delete.execute({})  # nothing to delete is fine


def test_deletion_waits_without_a_worker_for_an_endpoint_that_is_being_created(
    slow: Sandbox,
) -> None:
    run = new_run(slow)
    config = deployment(slow, run)
    deferred(operator(DeployEndpointOperator, run, config))
    waiting = deferred(operator(DeleteEndpointOperator, run, config))
    assert waiting.trigger.job_name == config["endpoint_name"]
    assert waiting.method_name == "execute_again"


def test_resources_carry_the_runs_tags(aws: Sandbox) -> None:
    run = new_run(aws)
    config = deployment(aws, run)
    deferred(operator(DeployEndpointOperator, run, config))
    sagemaker = aws.client("sagemaker")
    arn = sagemaker.describe_endpoint(EndpointName=config["endpoint_name"])["EndpointArn"]
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags["nova-judge:evaluation"] == "operators"
    assert tags["nova-judge:run"] == run["uri"]
    wait_for(aws, config["endpoint_name"])
    operator(DeleteEndpointOperator, run, config).execute({})


def test_a_shortage_moves_on_to_the_next_instance_type_and_then_is_a_value(scarce: Sandbox) -> None:
    run = new_run(scarce)
    config = deployment(scarce, run)
    task = operator(DeployEndpointOperator, run, config)
    assert deferred(task).kwargs == {"choice": 0}
    until_failed(scarce, config["endpoint_name"])
    event = {"status": "failed", "job_name": config["endpoint_name"], "message": "Failed"}
    with pytest.raises(TaskDeferred) as second:
        task.execute_complete({}, event, choice=0)
    assert second.value.kwargs == {"choice": 1}
    used = scarce.client("sagemaker").describe_endpoint(EndpointName=config["endpoint_name"])
    assert used["EndpointConfigName"] == f"{config['endpoint_name']}-2"
    until_failed(scarce, config["endpoint_name"])
    result = task.execute_complete({}, event, choice=1)
    assert "InsufficientInstanceCapacity" in result["error"]
    operator(DeleteEndpointOperator, run, config).execute({})
    assert names(scarce, config["endpoint_name"]) == []


def test_a_wait_that_ends_early_is_no_failed_deployment(
    slow: Sandbox, aws: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected(slow, monkeypatch)
    run = new_run(slow)
    config = deployment(slow, run)
    task = operator(DeployEndpointOperator, run, config)
    deferred(task)
    event = {"status": "error", "message": "ExpiredTokenException"}
    first, last = ({"ti": SimpleNamespace(try_number=number, max_tries=4)} for number in (1, 5))
    with pytest.raises(DeploymentError, match="is being created, but the wait for it has ended"):
        task.execute_complete(first, event)
    assert "ExpiredTokenException" in task.execute_complete(last, event)["error"]
    connected(aws, monkeypatch)
    run = new_run(aws)
    config = deployment(aws, run)
    task = operator(DeployEndpointOperator, run, config)
    deferred(task)
    wait_for(aws, config["endpoint_name"])
    assert task.execute_complete(first, event) == config, "it is there"
    operator(DeleteEndpointOperator, run, config).execute({})


def test_another_container_is_another_endpoint(aws: Sandbox) -> None:
    run = new_run(aws)
    before = deployment(aws, run)["endpoint_name"]
    assert deployment(aws, run)["endpoint_name"] == before
    changed = json.loads(json.dumps(CONF["baseline"]))
    changed["deploy"]["image_uri"] = "tgi:2"
    folder = storage.RunFolder(aws.client("s3"), run["uri"])
    config = resolve_config({**CONF, "baseline": changed}, environ={})
    folder.write(
        storage.CONFIG,
        json.dumps({"config": config.model_dump(mode="json", by_alias=True), "digest": "d"}),
    )
    assert deployment(aws, run)["endpoint_name"] != before


def until_failed(sandbox: Sandbox, endpoint: str) -> None:
    describe = sandbox.client("sagemaker").describe_endpoint
    end = time.monotonic() + 30
    while describe(EndpointName=endpoint)["EndpointStatus"] != "Failed":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_endpoint_that_failed_in_an_earlier_try_is_not_waited_for_again(aws: Sandbox) -> None:
    run = new_run(aws)
    config = deployment(aws, run)
    container = config["requests"]["Model"]["PrimaryContainer"]
    container["Environment"] = {**container["Environment"], "SANDBOX_FAIL": "out of memory"}
    task = operator(DeployEndpointOperator, run, config)
    deferred(task)
    until_failed(aws, config["endpoint_name"])
    assert "out of memory" in task.execute({})["error"]
    operator(DeleteEndpointOperator, run, config).execute({})


def test_a_model_without_an_endpoint_of_its_own_needs_nothing(aws: Sandbox) -> None:
    run = new_run(aws)
    config = {"model": "claude", "endpoint_name": None, "requests": None}
    assert operator(DeployEndpointOperator, run, config).execute({}) == config
    operator(DeleteEndpointOperator, run, config).execute({})


def judge_job(aws: Sandbox, run: Any, body: bytes | None = None) -> Any:
    folder = storage.RunFolder(aws.client("s3"), run["uri"])
    row = {"prompt": "Why?", "response_A": "Because.", "response_B": "Because of light."}
    uri = folder.write("pairs/c/llm_judge.jsonl", body or json.dumps(row))
    opened = runs.open_run(run, aws.client)
    from include import judge, recipes

    request = judge.training_job(
        opened.config.environment,
        opened.config.judge,
        recipes.load("nova_micro_llm_judge"),
        name=f"job-{uuid4().hex[:12]}",
        input_uri=uri,
        recipe_uri=folder.at(storage.RECIPE),
        output_uri=folder.at("judge/c"),
        max_runtime=3600,
        tags=opened.tags,
    )
    return {"key": "c", "token": "t", "pairs": 1, "request": request}


def jobs(aws: Sandbox, contains: str) -> list[str]:
    listed = aws.client("sagemaker").list_training_jobs(NameContains=contains)
    return sorted(job["TrainingJobName"] for job in listed["TrainingJobSummaries"])


def until_ended(aws: Sandbox, name: str) -> str:
    sagemaker = aws.client("sagemaker")
    while True:
        status = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        if status not in ("InProgress", "Stopping"):
            return status
        time.sleep(0.1)


def test_a_second_try_attaches_to_the_running_and_to_the_completed_job(aws: Sandbox) -> None:
    run = new_run(aws)
    config = judge_job(aws, run)
    base = config["request"]["TrainingJobName"]
    task = operator(NovaJudgeOperator, run, config)
    deferred(task)
    deferred(task)
    assert until_ended(aws, f"{base}-1") == "Completed"
    assert task.execute({})["job_name"] == f"{base}-1"
    assert jobs(aws, base) == [f"{base}-1"]


def test_a_task_that_had_succeeded_and_is_cleared_starts_another_job(aws: Sandbox) -> None:
    run = new_run(aws)
    config = judge_job(aws, run)
    base = config["request"]["TrainingJobName"]
    task = operator(NovaJudgeOperator, run, config)
    deferred(task)
    assert until_ended(aws, f"{base}-1") == "Completed"
    opened = runs.open_run(run, aws.client)
    judging.mark_summarized(opened, config, f"{base}-1")
    anew = operator(NovaJudgeOperator, run, {**config, "token": "of an input written anew"})
    assert anew.execute({})["job_name"] == f"{base}-1"  # nobody asked for another judgment
    deferred(task)
    assert jobs(aws, base) == [f"{base}-1", f"{base}-2"]


def test_a_job_of_the_same_name_that_does_something_else_is_not_ours(aws: Sandbox) -> None:
    run = new_run(aws)
    config = judge_job(aws, run)
    deferred(operator(NovaJudgeOperator, run, config))
    config["request"]["HyperParameters"]["base_model"] = "nova-lite/prod"
    with pytest.raises(AirflowFailException, match="HyperParameters is not this comparison's"):
        operator(NovaJudgeOperator, run, config).execute({})


def test_after_a_stopped_job_the_next_try_starts_another(aws: Sandbox) -> None:
    run = new_run(aws)
    config = judge_job(aws, run)
    base = config["request"]["TrainingJobName"]
    task = operator(NovaJudgeOperator, run, config)
    deferred(task)
    aws.client("sagemaker").stop_training_job(TrainingJobName=f"{base}-1")
    assert until_ended(aws, f"{base}-1") == "Stopped"
    with pytest.raises(JudgeJobError, match="Stopped"):
        task.execute_complete({}, {"status": "stopped", "job_name": f"{base}-1"})
    deferred(task)
    assert jobs(aws, base) == [f"{base}-1", f"{base}-2"]


def test_a_job_that_refused_its_input_is_paid_for_again_only_when_a_person_clears_it(
    aws: Sandbox,
) -> None:
    run = new_run(aws)
    config = judge_job(aws, run, b"not json")
    base = config["request"]["TrainingJobName"]
    task = operator(NovaJudgeOperator, run, config)
    deferred(task)
    assert until_ended(aws, f"{base}-1") == "Failed"
    with pytest.raises(AirflowFailException, match="line 1 is not JSON") as failed:
        task.execute_complete({}, {"status": "failed", "job_name": f"{base}-1"})
    assert "The end of its log" in str(failed.value)
    with pytest.raises(AirflowFailException, match="line 1 is not JSON"):
        task.execute(a_try(number=2, max_tries=2))
    assert jobs(aws, base) == [f"{base}-1"]
    with pytest.raises(TaskDeferred):
        task.execute(a_try(number=3, max_tries=4))
    assert jobs(aws, base) == [f"{base}-1", f"{base}-2"]
    with pytest.raises(TaskDeferred):  # its worker died: the retry attaches, whatever was before
        task.execute(a_try(number=4, max_tries=4))
    assert jobs(aws, base) == [f"{base}-1", f"{base}-2"]


def test_a_run_without_texts_repeats_nothing_that_a_container_said(aws: Sandbox) -> None:
    run = new_run(aws, store_text=False)
    config = judge_job(aws, run, b"a secret that is not json")
    base = config["request"]["TrainingJobName"]
    task = operator(NovaJudgeOperator, run, config)
    deferred(task)
    assert until_ended(aws, f"{base}-1") == "Failed"
    with pytest.raises(AirflowFailException, match="is Failed: Failed: AlgorithmError") as failed:
        task.execute_complete({}, {"status": "failed", "job_name": f"{base}-1"})
    assert "line 1" not in str(failed.value) and "log" not in str(failed.value)


def test_a_run_whose_texts_are_gone_starts_no_judge_job(aws: Sandbox) -> None:
    run = new_run(aws, store_text=False)
    config = judge_job(aws, run)
    texts.remove(storage.RunFolder(aws.client("s3"), run["uri"]))
    with pytest.raises(AirflowFailException, match="keeps no texts"):
        operator(NovaJudgeOperator, run, config).execute({})
    assert jobs(aws, config["request"]["TrainingJobName"]) == []


def test_a_job_whose_time_is_up_is_not_paid_for_again_by_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_sandbox(tmp_path, sandbox_delays="job=600") as slow:
        connected(slow, monkeypatch)
        run = new_run(slow)
        config = judge_job(slow, run)
        config["request"]["StoppingCondition"]["MaxRuntimeInSeconds"] = 1
        base = config["request"]["TrainingJobName"]
        task = operator(NovaJudgeOperator, run, config)
        deferred(task)
        slow.client("sagemaker").get_waiter("training_job_completed_or_stopped").wait(
            TrainingJobName=f"{base}-1", WaiterConfig={"Delay": 1, "MaxAttempts": 200}
        )
        with pytest.raises(AirflowFailException, match="MaxRuntimeExceeded"):
            task.execute(a_try(number=2, max_tries=2))
        assert jobs(slow, base) == [f"{base}-1"]


@pytest.mark.parametrize(("number", "raises"), [(1, True), (3, False)])
def test_a_throttled_deployment_is_tried_again_and_only_then_handed_on(
    aws: Sandbox, number: int, raises: bool
) -> None:
    run = new_run(aws)
    config = deployment(aws, run)
    fault = {
        "operation": "CreateEndpoint",
        "resource": config["endpoint_name"],
        "code": "ThrottlingException",
        "times": None,
    }
    requests.post(f"{aws.url}/sandbox/faults", json=fault, timeout=10)
    task = operator(DeployEndpointOperator, run, config)
    context = a_try(number=number, max_tries=2)
    try:
        if raises:
            with pytest.raises(ClientError, match="Throttling"):
                task.execute(context)
        else:
            assert "Throttling" in task.execute(context)["error"]
    finally:
        requests.delete(f"{aws.url}/sandbox/faults", timeout=10)
    operator(DeleteEndpointOperator, run, config).execute({})


def a_try(number: int, max_tries: int, retries: int = 2) -> dict[str, Any]:
    """A context of a task with retries; clearing raises max_tries to the tries so far + retries."""
    task = SimpleNamespace(retries=retries)
    return {"ti": SimpleNamespace(try_number=number, max_tries=max_tries, task=task)}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("failed", "Stopped"),
        ("success", "Stopped"),
        ("skipped", "Stopped"),
        (None, "InProgress"),
        ("queued", "InProgress"),
    ],
)
def test_a_waiting_job_is_stopped_when_a_person_ends_its_task_but_not_when_it_is_cleared(
    slow: Sandbox, monkeypatch: pytest.MonkeyPatch, state: str | None, status: str
) -> None:
    run = new_run(slow)
    config = judge_job(slow, run)
    trigger = deferred(operator(NovaJudgeOperator, run, config)).trigger
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="judge", run_id="r", map_index=0)
    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", lambda **of: {of["run_ids"][0]: {"judge_0": state}}
    )
    asyncio.run(trigger.on_kill())
    name = f"{config['request']['TrainingJobName']}-1"
    if status == "Stopped":
        assert until_ended(slow, name) == "Stopped"
    described = slow.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert described["TrainingJobStatus"] == status


def test_a_job_is_stopped_also_if_the_triggerer_cancels_its_trigger_again(
    slow: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(slow)
    config = judge_job(slow, run)
    trigger = deferred(operator(NovaJudgeOperator, run, config)).trigger
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="judge", run_id="r", map_index=0)

    def answer_late(**of: Any) -> Any:
        time.sleep(0.5)
        return {of["run_ids"][0]: {"judge_0": "failed"}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", answer_late)

    async def kill_and_cancel() -> None:
        killing = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0.1)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        await asyncio.gather(*STOPPING)

    asyncio.run(kill_and_cancel())
    assert until_ended(slow, f"{config['request']['TrainingJobName']}-1") == "Stopped"


@pytest.mark.parametrize(("state", "stops"), [("failed", True), ("running", False)])
def test_a_killed_worker_stops_the_job_only_if_a_person_ended_the_task(
    slow: Sandbox, monkeypatch: pytest.MonkeyPatch, state: str, stops: bool
) -> None:
    run = new_run(slow)
    config = judge_job(slow, run)
    task = operator(NovaJudgeOperator, run, config)
    ti = SimpleNamespace(dag_id="d", task_id="judge", run_id="r", map_index=0)
    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", lambda **of: {of["run_ids"][0]: {"judge_0": state}}
    )
    task.on_kill()  # before there is a job
    with pytest.raises(TaskDeferred):
        task.execute({"ti": vars_of_a_try(ti)})
    task.on_kill()
    name = f"{config['request']['TrainingJobName']}-1"
    status = until_ended(slow, name) if stops else describe(slow, name)["TrainingJobStatus"]
    assert status == ("Stopped" if stops else "InProgress")


def vars_of_a_try(ti: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(**vars(ti), **vars(a_try(1, 2)["ti"]))


def describe(sandbox: Sandbox, name: str) -> Any:
    return sandbox.client("sagemaker").describe_training_job(TrainingJobName=name)


def test_nothing_to_judge_starts_no_job(aws: Sandbox) -> None:
    config = {"key": "c", "token": "t", "pairs": 0, "request": None}
    assert operator(NovaJudgeOperator, new_run(aws), config).execute({}) == config


def test_a_quota_that_is_used_up_moves_on_to_the_next_instance_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = "ml.g5.2xlarge for endpoint usage=0"
    with running_sandbox(tmp_path, sandbox_quotas=quota, sandbox_delays="endpoint=600") as poor:
        connected(poor, monkeypatch)
        run = new_run(poor)
        config = deployment(poor, run)
        assert deferred(operator(DeployEndpointOperator, run, config)).kwargs == {"choice": 1}
        used = poor.client("sagemaker").describe_endpoint(EndpointName=config["endpoint_name"])
        assert used["EndpointConfigName"] == f"{config['endpoint_name']}-2"


def test_a_job_that_sagemaker_refuses_fails_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = "ml.g5.12xlarge for training job usage=0"
    with running_sandbox(tmp_path, sandbox_quotas=quota) as poor:
        connected(poor, monkeypatch)
        run = new_run(poor)
        task = operator(NovaJudgeOperator, run, judge_job(poor, run))
        with pytest.raises(JudgeJobError, match="account-level service limit"):
            task.execute({})


def test_only_what_may_pass_is_tried_again() -> None:
    said = r"^ResponsesError: nova was not asked yet$"
    with pytest.raises(AirflowFailException, match=said), readable_errors():
        raise ResponsesError("nova was not asked yet")
    with pytest.raises(GenerationError), readable_errors():
        raise GenerationError("nova does not answer now")
