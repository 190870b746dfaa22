"""Facts about the steps from prompts to the judge's input, against the sandbox, without Airflow."""

import dataclasses
import json
import tracemalloc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import run_work
from run_work import (
    CLAUDE,
    NOVA,
    asked,
    config,
    forget,
    new_run,
    order,
    prompts,
    stored,
    write_rows,
)
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import create_endpoint, create_model, name, wait

from include import asking, judging, ledger, preflight, runs, steps
from include import generate as generating
from include.errors import ConfigError, DatasetError, GenerationError, ResponsesError
from include.records import Pair, Response
from include.runs import Run, Shard

BATCHED = {**NOVA, "batch": True}
ASKING = ("Converse", "InvokeEndpoint", "InvokeModel", "CreateModelInvocationJob")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    settings = {
        "sandbox_delays": "endpoint=0.1,delete=0,job=0.1",
        "sandbox_quotas": "ml.g5.2xlarge for endpoint usage=100",
    }
    with running_sandbox(tmp_path_factory.mktemp("asking"), **settings) as running:
        yield running


@pytest.fixture
def aws(server: Sandbox) -> Sandbox:
    forget(server)
    return server


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return the file of prompts, of which there are seven."""
    path = tmp_path / "prompts.jsonl"
    write_rows(path, prompts(7))
    return path


def existing(endpoint: str, **more: Any) -> dict[str, Any]:
    return {"name": "there", "provider": "sagemaker", "endpoint_name": endpoint, **more}


def responses(folder: Path, name: str, count: int, text: str = "Answer {n} of {name}") -> Any:
    """Return a model whose first responses exist already."""
    rows = [{"id": f"p{n}", "response": text.format(n=n, name=name)} for n in range(count)]
    source = write_rows(folder / f"{name}.jsonl", rows)
    return {"name": name, "provider": "responses", "source": source}


def loaded(
    aws: Sandbox, conf: dict[str, Any], run_id: str | None = None
) -> tuple[Run, list[Shard]]:
    run = new_run(aws, conf, run_id)
    return run, steps.load_prompts(run)


def generated(aws: Sandbox, conf: dict[str, Any], run_id: str | None = None) -> tuple[Run, Any]:
    run, shards = loaded(aws, conf, run_id)
    return run, run_work.generate(run, shards)


def run_id_of(run: Run) -> str:
    return run.record["run_id"]


def pairs(run: Run, candidate: str) -> list[Pair]:
    return list(run.folder.read_records(f"pairs/{candidate}/pairs.jsonl", Pair))


def judged(run: Run, candidate: str) -> list[dict[str, Any]]:
    body = run.folder.read(f"pairs/{candidate}/llm_judge.jsonl")
    return [json.loads(line) for line in body.splitlines()]


# load_prompts


def test_what_there_is_of_prompts_is_read_once_per_opened_run(aws: Sandbox, rows: Path) -> None:
    loading, _ = loaded(aws, config(str(rows), generation={"shard_size": 1}))
    run = runs.open_run(loading.record, aws.client)
    with run_work.reads(run.folder) as read:
        assert [len(list(run.prompts())) for _ in range(3)] == [7, 7, 7]
    assert sum(key.endswith("prompts/index.json") for key in read) == 1


def test_a_run_that_loads_its_prompts_anew_knows_the_new_ones(
    aws: Sandbox, rows: Path, tmp_path: Path
) -> None:
    run, _ = loaded(aws, config(str(rows), generation={"shard_size": 3}))
    assert run.index()["blocks"] == [0, 3, 6]
    write_rows(rows, prompts(2))
    steps.load_prompts(run)
    assert run.index()["blocks"] == [0]
    assert [each.prompt_id for each in run.prompts()] == ["p0", "p1"]


def test_prompts_are_kept_in_blocks_and_every_models_work_is_cut_by_them(
    aws: Sandbox, rows: Path, tmp_path: Path
) -> None:
    old = responses(tmp_path, "old", 7)
    conf = config(
        str(rows), baseline=BATCHED, candidates=[CLAUDE, old], generation={"shard_size": 3}
    )
    run, shards = loaded(aws, conf)
    index = run.index()
    assert (index["count"], index["blocks"], index["conversations"]) == (7, [0, 3, 6], 0)
    assert run.folder.names("prompts/") == [
        "prompts/000000.jsonl",
        "prompts/000003.jsonl",
        "prompts/000006.jsonl",
        "prompts/index.json",
    ]
    assert [(shard["model"], shard["start"], shard["stop"]) for shard in shards] == [
        ("nova", 0, 7),
        ("claude", 0, 3),
        ("claude", 3, 6),
        ("claude", 6, 7),
        ("old", 0, 7),
    ]


def test_any_part_of_the_prompts_can_be_read(aws: Sandbox, rows: Path) -> None:
    run, _ = loaded(aws, config(str(rows), generation={"shard_size": 3}))
    everything = [f"p{n}" for n in range(7)]
    assert [each.prompt_id for each in run.prompts()] == everything
    for start in range(8):
        for stop in range(start, 9):
            found = [each.prompt_id for each in run.prompts(start, stop)]
            assert found == everything[start:stop], (start, stop)


@pytest.mark.parametrize("candidates", [1, 2, 6, 8, 19])
def test_a_run_has_never_more_tasks_than_airflow_maps(
    aws: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidates: int
) -> None:
    monkeypatch.setattr(steps, "MOST_TASKS", 20)
    source = write_rows(tmp_path / "p.jsonl", prompts(23))
    others = [{**CLAUDE, "name": f"claude-{n}"} for n in range(candidates)]
    conf = config(source, candidates=others, generation={"shard_size": 1})
    run, shards = loaded(aws, conf)
    assert len(shards) <= 20
    for model in run.config.models:
        own = [shard for shard in shards if shard["model"] == model.name]
        starts, stops = [s["start"] for s in own], [s["stop"] for s in own]
        assert [0, *stops] == [*starts, 23]


def test_prompts_of_another_data_set_leave_nothing_of_the_first_in_play(
    aws: Sandbox, rows: Path
) -> None:
    conf = config(str(rows), generation={"shard_size": 3})
    first, _ = generated(aws, conf)
    write_rows(rows, [{"id": f"p{n}", "prompt": f"Say {n}."} for n in (5, 6)])
    second, shards = loaded(aws, conf, run_id_of(first))
    assert [each.text for each in second.prompts()] == ["Say 5.", "Say 6."]
    assert {shard["stop"] for shard in shards} == {2}
    with pytest.raises(ResponsesError, match="nova was not asked prompt p5"):
        judging.write_judge_input(second, "claude", cover(second))
    done = run_work.generate(second, shards)
    assert judging.write_judge_input(second, "claude", done)["pairs"] == 2


def cover(run: Run) -> Any:
    """Return what tasks that asked everything would return."""
    count = run.index()["count"]
    return [
        {"model": model.name, "start": 0, "stop": count, "responses": count}
        for model in run.config.models
    ]


def test_a_data_set_without_rows_is_refused(aws: Sandbox, rows: Path) -> None:
    rows.write_text("")
    with pytest.raises(DatasetError, match=r"prompts\.jsonl"):
        loaded(aws, config(str(rows)))


# plan


def test_too_many_missing_responses_are_refused_before_any_model_is_asked(
    aws: Sandbox, rows: Path, tmp_path: Path
) -> None:
    old = responses(tmp_path, "old", 4)
    run, shards = loaded(aws, config(str(rows), candidates=[CLAUDE, old]))
    with pytest.raises(DatasetError, match="old: 3 of 7 responses cannot be used") as caught:
        steps.plan(run, shards)
    assert "3 x MissingResponse, e.g. prompt p4" in str(caught.value)
    assert "Clear this task" not in str(caught.value)
    assert not asked(aws, "Converse")


def test_a_batch_of_too_few_prompts_is_refused(aws: Sandbox, rows: Path) -> None:
    run, shards = loaded(aws, config(str(rows), baseline=BATCHED))
    with pytest.raises(ConfigError, match=r"batch of nova: 7 prompts; a batch job .* takes 100"):
        steps.plan(run, shards)
    assert not asked(aws, "Converse")


def test_conversations_do_not_go_as_raw_text(aws: Sandbox, tmp_path: Path) -> None:
    said = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    source = write_rows(tmp_path / "c.jsonl", [{"id": "a", "messages": said}])
    endpoint = ready(aws)
    conf = config(source, candidates=[existing(endpoint, schema="inputs")])
    conf["dataset"]["messages_field"] = "messages"
    run, shards = loaded(aws, conf)
    with pytest.raises(ConfigError, match="there: schema inputs sends raw text, and 1 prompts"):
        steps.plan(run, shards)
    assert not asked(aws, "Converse")


def ready(aws: Sandbox) -> str:
    """Return the name of an endpoint in service."""
    endpoint = name("there")
    create_endpoint(aws, endpoint)
    wait(aws, endpoint, "InService")
    return endpoint


def with_component(aws: Sandbox, model: str) -> tuple[str, str]:
    """Return an endpoint that answers by component, and one of a model on it, in service."""
    sagemaker, endpoint, component = aws.client("sagemaker"), name("bare"), name("component")
    variant = {
        "VariantName": "AllTraffic",
        "InstanceType": "ml.g5.2xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=endpoint,
        ExecutionRoleArn="arn:aws:iam::000000000000:role/nova-judge-execution",
        ProductionVariants=[variant],
    )
    sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    wait(aws, endpoint, "InService")
    container = {"Image": "tgi", "Environment": {"HF_MODEL_ID": model}}
    needs = {"NumberOfAcceleratorDevicesRequired": 1, "MinMemoryRequiredInMb": 1024}
    sagemaker.create_inference_component(
        InferenceComponentName=component,
        EndpointName=endpoint,
        VariantName="AllTraffic",
        Specification={"Container": container, "ComputeResourceRequirements": needs},
        RuntimeConfig={"CopyCount": 1},
    )
    describe = sagemaker.describe_inference_component
    while describe(InferenceComponentName=component)["InferenceComponentStatus"] != "InService":
        pass
    return endpoint, component


def test_an_endpoint_that_cannot_be_asked_is_refused_with_what_is_wrong_about_it(
    aws: Sandbox, rows: Path
) -> None:
    def problem(**model: Any) -> str:
        run, shards = loaded(aws, config(str(rows), candidates=[existing(**model)]))
        with pytest.raises(ConfigError) as caught:
            steps.plan(run, shards)
        return str(caught.value)

    assert "there is no nowhere" in problem(endpoint="nowhere")
    broken = name("broken")
    create_endpoint(aws, broken, SANDBOX_FAIL="no disk")
    wait(aws, broken, "Failed")
    assert f"{broken} is Failed, not InService" in problem(endpoint=broken)
    endpoint, component = with_component(aws, "Tiny/Tiny-1B")
    other = ready(aws)
    belongs = problem(endpoint=other, inference_component_name=component)
    assert f"{component} belongs to endpoint {endpoint}" in belongs
    assert "there is no nothing" in problem(endpoint=endpoint, inference_component_name="nothing")
    assert not asked(aws, "Converse")
    assert not asked(aws, "InvokeEndpoint")


def test_whoever_is_there_already_is_asked_a_question_of_sixteen_tokens(
    aws: Sandbox, rows: Path
) -> None:
    parameters = {"max_tokens": 512, "temperature": 0.5}
    there = existing(ready(aws))
    conf = config(str(rows), candidates=[CLAUDE, there], parameters=parameters)
    run, shards = loaded(aws, conf)
    assert steps.plan(run, shards) == ["claude", "there"]
    tiny = asked(aws, "Converse")
    assert [each["inferenceConfig"] for each in tiny] == [{"maxTokens": 16, "temperature": 0.5}] * 2
    assert tiny[0]["messages"] == [{"role": "user", "content": [{"text": "What is 0 plus 0?"}]}]
    (to_endpoint,) = asked(aws, "InvokeEndpoint")
    assert (to_endpoint["max_tokens"], to_endpoint["temperature"]) == (16, 0.5)
    assert not run.folder.names("responses/")


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("`temperature` is deprecated for this model.", "temperature"),
        ("`temperature` and `top_p` cannot both be specified for this model.", "top_p"),
        ("The model returned the following errors: topP: extraneous key", "top_p"),
        ("This model doesn't support the stopSequences field.", "stop"),
    ],
)
def test_a_refused_parameter_is_one_message_with_what_to_write(
    aws: Sandbox, rows: Path, message: str, key: str
) -> None:
    parameters = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["END"]}
    run, shards = loaded(aws, config(str(rows), parameters=parameters, candidates=[NOVA_LITE]))
    order(aws, operation="Converse", code="ValidationException", message=message)
    with pytest.raises(ConfigError) as caught:
        steps.plan(run, shards)
    assert str(caught.value) == (
        f"model nova: {NOVA['model_id']} does not answer: ValidationException: {message}\n"
        f"write `parameters: {{{key}: null}}` on the model nova"
    )
    assert len(asked(aws, "Converse")) == 1


NOVA_LITE = {"name": "lite", "provider": "bedrock", "model_id": "us.amazon.nova-lite-v1:0"}


def test_a_refusal_of_another_kind_recommends_nothing(aws: Sandbox, rows: Path) -> None:
    unknown = {"name": "x", "provider": "bedrock", "model_id": "nobody.knows-this"}
    run, shards = loaded(aws, config(str(rows), candidates=[unknown]))
    with pytest.raises(ConfigError, match="identifier is invalid") as caught:
        steps.plan(run, shards)
    assert "null" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"code": "ThrottlingException", "status": 429, "times": None}, "ThrottlingException"),
        ({"latency_ms": 5000}, "OutOfTime: no answer within 1 s"),
    ],
)
def test_a_model_that_does_not_answer_now_is_worth_a_retry(
    aws: Sandbox,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr(generating, "ONCE_SECONDS", 1)
    run, shards = loaded(aws, config(str(rows)))
    order(aws, operation="Converse", **fault)
    with pytest.raises(GenerationError, match=f"nova: .* does not answer: {said}"):
        steps.plan(run, shards)


# generate


def test_a_run_of_responses_that_exist_asks_nobody(
    aws: Sandbox, rows: Path, tmp_path: Path
) -> None:
    old, new = responses(tmp_path, "old", 7), responses(tmp_path, "new", 7)
    run, shards = loaded(aws, config(str(rows), baseline=old, candidates=[new]))
    steps.plan(run, shards)
    done = run_work.generate(run, shards)
    assert judging.write_judge_input(run, "new", done)["pairs"] == 7
    assert judged(run, "new")[3] == {
        "prompt": "What is 3 plus 3?",
        "response_A": "Answer 3 of old",
        "response_B": "Answer 3 of new",
    }
    for operation in ASKING:
        assert not asked(aws, operation), operation


def test_a_corrected_file_of_responses_takes_the_place_of_the_first(
    aws: Sandbox, rows: Path, tmp_path: Path
) -> None:
    conf = config(
        str(rows),
        baseline=responses(tmp_path, "old", 7),
        candidates=[responses(tmp_path, "new", 7)],
    )
    run, shards = loaded(aws, conf)
    run_work.generate(run, shards)
    responses(tmp_path, "new", 7, "Better answer {n}")
    done = run_work.generate(run, shards)
    judging.write_judge_input(run, "new", done)
    assert judged(run, "new")[0]["response_B"] == "Better answer 0"


def test_a_cleared_task_asks_only_for_what_failed(aws: Sandbox, rows: Path) -> None:
    conf = config(str(rows), generation={"max_error_rate": 0.5, "shard_size": 4})
    run, shards = loaded(aws, conf)
    order(aws, operation="Converse", code="ValidationException", times=2)
    run_work.generate(run, shards)
    failed = [each.prompt_id for each in stored(run, "nova") if not each.usable]
    assert len(failed) == 2
    forget(aws)
    run_work.generate(run, shards)
    again = [each["messages"][0]["content"][0]["text"] for each in asked(aws, "Converse")]
    wanted = [each.text for each in run.prompts() if each.prompt_id in failed]
    assert sorted(again) == sorted(wanted)
    assert all(each.usable for each in stored(run, "nova"))


def test_shards_together_have_every_prompt_once(aws: Sandbox, rows: Path) -> None:
    run, done = generated(aws, config(str(rows), generation={"shard_size": 4}))
    places = [(each["model"], each["start"], each["stop"]) for each in done]
    assert places == [("nova", 0, 4), ("nova", 4, 7), ("claude", 0, 4), ("claude", 4, 7)]
    assert len(asked(aws, "Converse")) == 14
    for model in ("nova", "claude"):
        written = [each.prompt_id for each in ledger.Parts(run.folder, model).read()]
        assert sorted(written) == [f"p{n}" for n in range(7)]


def test_changed_parameters_make_all_responses_stale_and_no_pairs_are_made_of_them(
    aws: Sandbox, rows: Path
) -> None:
    conf = config(str(rows), parameters={"max_tokens": 50, "temperature": 0.1})
    run, done = generated(aws, conf)
    assert judging.write_judge_input(run, "claude", done)["pairs"] == 7
    conf["parameters"]["temperature"] = 0.2
    changed, shards = loaded(aws, conf, run_id_of(run))
    with pytest.raises(ResponsesError, match=r"nova was asked with parameters .*clear its gener"):
        judging.write_judge_input(changed, "claude", done)
    nova_only = [shard for shard in shards if shard["model"] == "nova"]
    run_work.generate(changed, nova_only)
    with pytest.raises(ResponsesError, match="claude was asked with parameters"):
        judging.write_judge_input(changed, "claude", done)
    forget(aws)
    done = run_work.generate(changed, shards)
    assert len(asked(aws, "Converse")) == 7  # the baseline has been asked already
    assert judging.write_judge_input(changed, "claude", done)["pairs"] == 7


def test_shards_that_were_asked_under_different_configs_are_not_mixed(
    aws: Sandbox, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "p.jsonl", prompts(40))
    conf = config(source, generation={"shard_size": 39, "max_error_rate": 0.5})
    run, done = generated(aws, conf)
    conf["parameters"] = {"max_tokens": 5}
    changed, shards = loaded(aws, conf, run_id_of(run))
    again = [shard for shard in shards if (shard["model"], shard["start"]) != ("claude", 39)]
    run_work.generate(changed, again)
    with pytest.raises(ResponsesError, match="claude was not asked prompt p39 under"):
        judging.write_judge_input(changed, "claude", done)


def test_an_inference_component_of_an_endpoint_answers(aws: Sandbox, rows: Path) -> None:
    endpoint, component = with_component(aws, "Meta/Llama-70B")
    there = existing(endpoint, inference_component_name=component)
    plain = {**existing(ready(aws)), "name": "plain"}
    run, shards = loaded(aws, config(str(rows), baseline=plain, candidates=[there]))
    steps.plan(run, shards)
    done = run_work.generate(run, shards)
    assert judging.write_judge_input(run, "there", done)["pairs"] == 7
    runtime = aws.client("sagemaker-runtime")
    body = {"messages": [{"role": "user", "content": "What is 0 plus 0?"}], "max_tokens": 512}
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint,
        InferenceComponentName=component,
        ContentType="application/json",
        Body=json.dumps(body),
    )
    said = json.loads(answer["Body"].read())["choices"][0]["message"]["content"]
    assert judged(run, "there")[0]["response_B"] == said


def test_what_is_behind_an_endpoint_matters_not_only_its_name(aws: Sandbox, rows: Path) -> None:
    endpoint = ready(aws)
    run, shards = loaded(aws, config(str(rows), candidates=[existing(endpoint)]))
    mine = [shard for shard in shards if shard["model"] == "there"]
    run_work.generate(run, mine)
    other = name("other")
    create_model(aws, other, HF_MODEL_ID="Huge/Huge-400B")
    sagemaker = aws.client("sagemaker")
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": other,
        "InstanceType": "ml.g5.2xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=other, ProductionVariants=[variant])
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=other)
    wait(aws, endpoint, "InService")
    forget(aws)
    run_work.generate(run, mine)
    assert len(asked(aws, "InvokeEndpoint")) == 7


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ValidationException", 'Could not find endpoint "there".'),
        ("AccessDeniedException", "not authorized to perform: sagemaker:DescribeEndpoint"),
    ],
)
def test_an_endpoint_that_may_not_be_looked_at_is_a_clear_error(
    aws: Sandbox, rows: Path, code: str, message: str
) -> None:
    endpoint = ready(aws)
    run, shards = loaded(aws, config(str(rows), candidates=[existing(endpoint)]))
    order(aws, operation="DescribeEndpoint", code=code, message=message)
    with pytest.raises(ConfigError, match=f"endpoint {endpoint}: .*{message[-20:]}"):
        run_work.generate(run, [shard for shard in shards if shard["model"] == "there"])


def test_conversations_arrive_as_conversations_at_bedrock_and_at_endpoints(
    aws: Sandbox, tmp_path: Path
) -> None:
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is Bern?"},
        {"role": "assistant", "content": "In Switzerland."},
        {"role": "user", "content": "And Berlin?"},
    ]
    source = write_rows(tmp_path / "c.jsonl", [{"id": "a", "talk": said}])
    conf = config(source, candidates=[existing(ready(aws))])
    conf["dataset"]["messages_field"] = "talk"
    run, done = generated(aws, conf)
    (at_bedrock,) = asked(aws, "Converse")
    assert at_bedrock["system"] == [{"text": "Be brief."}]
    assert at_bedrock["messages"] == [
        {"role": each["role"], "content": [{"text": each["content"]}]} for each in said[1:]
    ]
    (at_endpoint,) = asked(aws, "InvokeEndpoint")
    assert at_endpoint["messages"] == said
    judging.write_judge_input(run, "there", done)
    (row,) = judged(run, "there")
    assert row["prompt"] == (
        "Be brief.\n\nUser: Where is Bern?\n\nAssistant: In Switzerland.\n\nUser: And Berlin?"
    )


def test_the_size_of_a_batch_jobs_input_is_known_before_it_is_written(
    aws: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "many.jsonl", prompts(100))
    run, shards = loaded(aws, config(source, baseline=BATCHED))
    size = asking.batch_bytes(run, run.config.baseline)
    monkeypatch.setattr(preflight, "GIGABYTE", size - 1)
    with pytest.raises(ConfigError, match=r"batch of nova: .* GB of records"):
        steps.plan(run, shards)
    assert asking.next_batch(run, run.config.baseline)
    assert len(run.folder.read("batch/nova/001/input.jsonl")) == size


# reuse


def test_earlier_runs_are_listed_once_for_a_batch_job_however_many_blocks_it_asks_for(
    aws: Sandbox, rows: Path
) -> None:
    conf = config(str(rows), evaluation=f"e{uuid4().hex[:8]}", generation={"reuse": "baseline"})
    generated(aws, conf)
    conf = {**conf, "baseline": BATCHED, "generation": {"reuse": "baseline", "shard_size": 1}}
    run, _ = loaded(aws, conf)
    with run_work.listings(run.folder) as listed:
        assert asking.next_batch(run, run.config.baseline) is None
    assert len(stored(run, "nova")) == 7
    assert sum(prefix.endswith("responses/nova/") for prefix in listed) == 2
    assert sum(prefix.endswith("responses/nova/settings.json") for prefix in listed) == 2


def reusing(source: str, **changes: Any) -> dict[str, Any]:
    rules = {"reuse": "baseline", "reuse_max_age_days": 7}
    return config(source, evaluation=name("reusing"), generation=rules, **changes)


def test_a_second_run_asks_the_baseline_nothing_and_the_candidate_everything(
    aws: Sandbox, rows: Path
) -> None:
    conf = reusing(str(rows))
    first, _ = generated(aws, conf)
    forget(aws)
    second, done = generated(aws, conf)
    assert ["claude" in path for path in asked(aws, "Converse", "path")] == [True] * 7
    baseline, before = stored(second, "nova"), stored(first, "nova")
    assert [each.text for each in baseline] == [each.text for each in before]
    assert {each.reused_from for each in baseline} == {first.folder.uri}
    assert {each.reused_from for each in stored(second, "claude")} == {None}
    assert judging.write_judge_input(second, "claude", done)["pairs"] == 7


def test_the_report_says_how_many_responses_are_reused_and_how_old(
    aws: Sandbox, rows: Path
) -> None:
    conf = reusing(str(rows))
    first, _ = generated(aws, conf)
    generated(aws, conf)
    third, _ = generated(aws, conf)
    steps.report(third)
    nova, claude = json.loads(third.folder.read("summary.json"))["models"]
    assert (nova["reused"], claude["reused"]) == (7, 0)
    assert nova["oldest"] == min(each.created_at for each in stored(first, "nova"))
    assert claude["oldest"] is None
    assert {each.reused_from for each in stored(third, "nova")} == {first.folder.uri}


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"max_tokens": 50}},
        {"parameters": {"max_tokens": 512, "temperature": 0.3}},
        {"template": "Please: {prompt}"},
        {"system_prompt": "Be kind."},
        {"baseline": {**NOVA, "model_id": "us.amazon.nova-lite-v1:0"}},
        {"reuse": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_another_question_was_answered_is_not_reused(
    aws: Sandbox, rows: Path, change: dict[str, Any]
) -> None:
    conf = reusing(str(rows))
    generated(aws, conf)
    change = dict(change)
    if "template" in change:
        conf["dataset"]["prompt_template"] = change.pop("template")
    if "system_prompt" in change:
        conf["dataset"]["system_prompt"] = change.pop("system_prompt")
    if "reuse" in change:
        conf["generation"]["reuse"] = change.pop("reuse")
    forget(aws)
    second, _ = generated(aws, conf | change)
    assert len(asked(aws, "Converse")) == 14
    assert {each.reused_from for each in stored(second, "nova")} == {None}


def test_only_changed_prompts_are_asked_again(aws: Sandbox, rows: Path) -> None:
    conf = reusing(str(rows))
    generated(aws, conf)
    changed = prompts(7)
    changed[2]["prompt"] = "Something else?"
    write_rows(rows, [*changed, {"id": "p7", "prompt": "One more?"}])
    second, _ = generated(aws, conf)
    fresh = [each.prompt_id for each in stored(second, "nova") if each.reused_from is None]
    assert fresh == ["p2", "p7"]


def test_responses_that_are_too_old_are_not_reused(aws: Sandbox, rows: Path) -> None:
    conf = reusing(str(rows))
    first, _ = generated(aws, conf)
    (part,) = [name for name in first.folder.names("responses/nova/") if "part-" in name]
    old, now = list(first.folder.read_records(part, Response)), datetime.now(UTC)
    first.folder.write_records(
        part,
        [
            dataclasses.replace(
                each, created_at=(now - timedelta(days=7.01 if n < 3 else 6.99)).isoformat()
            )
            for n, each in enumerate(old)
        ],
    )
    second, _ = generated(aws, conf)
    fresh = sorted(each.prompt_id for each in stored(second, "nova") if each.reused_from is None)
    assert fresh == sorted(each.prompt_id for each in old[:3])


def test_a_failure_is_not_reused(aws: Sandbox, rows: Path) -> None:
    conf = reusing(str(rows))
    conf["generation"]["max_error_rate"] = 0.5
    first, shards = loaded(aws, conf)
    order(aws, operation="Converse", code="ValidationException", times=2)
    run_work.generate(first, shards)
    forget(aws)
    second, _ = generated(aws, conf)
    assert len(asked(aws, "Converse")) == 2 + 7
    assert all(each.usable for each in stored(second, "nova"))


# write_judge_input


@pytest.mark.parametrize("size", [1, 4])
def test_the_stored_responses_are_listed_once_a_model_however_many_blocks_there_are(
    aws: Sandbox, rows: Path, tmp_path: Path, size: int
) -> None:
    there = responses(tmp_path, "there", 7)
    rules = {"shard_size": size}
    run, shards = loaded(aws, config(str(rows), candidates=[there], generation=rules))
    with run_work.listings(run.folder) as listed:
        done = run_work.generate(run, [shard for shard in shards if shard["model"] == "there"])
    assert sum(prefix.endswith("responses/there/") for prefix in listed) == 1
    done += run_work.generate(run, [shard for shard in shards if shard["model"] == "nova"])
    with run_work.listings(run.folder) as listed:
        judging.write_judge_input(run, "there", done)
    for model in ("nova", "there"):
        assert sum(prefix.endswith(f"responses/{model}/") for prefix in listed) == 1


def test_every_kind_of_pair_is_typed_and_only_those_for_the_judge_are_in_its_input(
    aws: Sandbox, rows: Path, tmp_path: Path
) -> None:
    long = "x" * 50_000
    left = ["same", "a", "a", None, "a", long, None]
    right = ["same", "b", None, "b", "b", "b", None]

    def model(name: str, texts: Sequence[str | None]) -> Any:
        there = [
            {"id": f"p{n}", "response": text} for n, text in enumerate(texts) if text is not None
        ]
        source = write_rows(tmp_path / f"{name}.jsonl", there)
        return {"name": name, "provider": "responses", "source": source}

    conf = config(
        str(rows),
        baseline=model("left", left),
        candidates=[model("right", right)],
        generation={"max_error_rate": 0.5, "shard_size": 2},
    )
    run, done = generated(aws, conf)
    job = judging.write_judge_input(run, "right", done)
    assert [each.status for each in pairs(run, "right")] == [
        "identical",
        "judged",
        "candidate_failed",
        "baseline_failed",
        "judged",
        "too_long",
        "both_failed",
    ]
    assert job["pairs"] == 2
    assert [row["prompt"] for row in judged(run, "right")] == [
        "What is 1 plus 1?",
        "What is 4 plus 4?",
    ]


def test_nothing_for_the_judge_is_no_job(aws: Sandbox, rows: Path, tmp_path: Path) -> None:
    same = "The same"
    conf = config(
        str(rows),
        baseline=responses(tmp_path, "old", 7, same),
        candidates=[responses(tmp_path, "new", 7, same)],
    )
    run, done = generated(aws, conf)
    job = judging.write_judge_input(run, "new", done)
    assert (job["pairs"], job["request"]) == (0, None)
    assert {each.status for each in pairs(run, "new")} == {"identical"}


@pytest.mark.parametrize(
    ("missing", "place"), [([0], 0), ([1], 3), ([2], 6), ([0, 1], 0), ([0, 1, 2], 0)]
)
def test_a_gap_in_the_responses_is_named_by_its_first_prompt(
    aws: Sandbox, rows: Path, missing: list[int], place: int
) -> None:
    run, _ = loaded(aws, config(str(rows), generation={"shard_size": 3}))
    parts = [(0, 3), (3, 6), (6, 7)]
    there = [
        {"model": "claude", "start": start, "stop": stop, "responses": 0}
        for number, (start, stop) in enumerate(parts)
        if number not in missing
    ]
    whole = {"model": "nova", "start": 0, "stop": 7, "responses": 0}
    with pytest.raises(ResponsesError, match=f"claude .* from prompt {place} on .* clear it"):
        judging.write_judge_input(run, "claude", [whole, *reversed(there), None])


def test_what_batch_tasks_returned_counts_as_well(aws: Sandbox, rows: Path) -> None:
    run, done = generated(aws, config(str(rows)))
    nova = [each for each in done if each["model"] == "nova"]
    claude = [each for each in done if each["model"] == "claude"]
    assert judging.write_judge_input(run, "claude", claude, [*nova, None])["pairs"] == 7
    with pytest.raises(ResponsesError, match="task of nova has not succeeded"):
        judging.write_judge_input(run, "claude", [*claude, None], [None])


def test_too_many_failures_end_the_comparison_with_examples(aws: Sandbox, rows: Path) -> None:
    run, shards = loaded(aws, config(str(rows)))
    order(aws, operation="Converse", code="ValidationException", message="No.", times=1)
    with pytest.raises(GenerationError):
        run_work.generate(run, shards)
    run_work.generate(run, [shard for shard in shards if shard["model"] == "claude"])
    with pytest.raises(
        ResponsesError, match=r"nova: 1 of 7 .*\n  1 x ValidationException.*No\."
    ) as said:
        judging.write_judge_input(run, "claude", cover(run))
    assert str(said.value).endswith("\nClear its generate or batch tasks to ask again.")


def test_a_comparison_that_is_about_to_be_made_anew_is_taken_back(aws: Sandbox, rows: Path) -> None:
    run, done = generated(aws, config(str(rows)))
    run.folder.write("comparisons/claude.json", json.dumps({"comparison": {}}))
    with pytest.raises(ResponsesError):
        judging.write_judge_input(run, "claude", done[:1])
    assert json.loads(run.folder.read("comparisons/claude.json")) is None


def test_memory_does_not_grow_with_the_prompts(aws: Sandbox, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        source = write_rows(tmp_path / "p.jsonl", prompts(count))
        text = "Answer {n} of {name} " + "x" * 20_000
        conf = config(
            source,
            baseline=responses(tmp_path, "old", count, text),
            candidates=[responses(tmp_path, "new", count, text)],
            generation={"shard_size": 50},
        )
        run, done = generated(aws, conf)
        tracemalloc.start()
        job = judging.write_judge_input(run, "new", done)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert job["pairs"] == count
        return memory

    peak(50)  # what is imported and cached stays
    assert peak(1000) < peak(100) + 24 * 2**20  # two files and a piece of 8 MB in memory, of 80
