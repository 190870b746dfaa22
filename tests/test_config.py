"""Facts about config: what is refused, with which words, and what is resolved."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from include.config_files import (
    evaluation_files,
    load_environment,
    load_evaluation,
    read_config,
    resolve_config,
)
from include.errors import ConfigError

ROOT = Path(__file__).parent.parent
DEPLOYED = {"model_id": "Q/q", "instance_types": ["ml.g5.2xlarge"]}
BASE: dict[str, Any] = {
    "evaluation": "test",
    "dataset": {"source": "prompts.jsonl"},
    "baseline": {"name": "old", "provider": "sagemaker", "deploy": DEPLOYED},
    "candidates": ["claude"],
}


def conf(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


def error(changes: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_config(conf(**changes), environ={})
    return str(caught.value)


def bedrock(model_id: str, **more: Any) -> dict[str, Any]:
    return {"name": "m", "provider": "bedrock", "model_id": model_id, **more}


def test_models_and_environment_are_looked_up_by_name() -> None:
    config = resolve_config(conf(), environ={})
    assert config.environment.name == "sandbox"
    assert config.environment.kind == "sandbox"
    assert [model.name for model in config.models] == ["old", "claude"]
    assert config.candidates[0].model_id == "us.anthropic.claude-sonnet-4-6"


@pytest.mark.parametrize(
    ("tags", "batch", "said"),
    [
        ({"dept": "R&D"}, False, "tags.dept: a value has at most 256 letters"),
        ({"team": "x" * 257}, False, "tags.team: a value has at most 256 letters"),
        ({"team": "Büro"}, True, "tags.team: Bedrock's batch jobs take ASCII only, found 'Büro'"),
        ({"aws:x": "y"}, False, "'aws:x' is no key"),
        ({str(n): "x" for n in range(41)}, False, "41 are there, and 40 have room beside ours"),
        ({"cost center": "a/b=c@d", "team": "Büro"}, False, None),
    ],
)
def test_tags_that_aws_refuses_are_refused_before(
    tmp_path: Path, tags: dict[str, str], batch: bool, said: str | None
) -> None:
    (tmp_path / "environments").mkdir()
    known = yaml.safe_load((ROOT / "dags/environments/sandbox.yaml").read_text())
    text = yaml.safe_dump({**known, "tags": tags})
    (tmp_path / "environments/sandbox.yaml").write_text(text)
    asked = conf(candidates=[bedrock("us.amazon.nova-lite-v1:0", batch=batch)])
    environ = {"NOVA_JUDGE_CONFIG_DIR": str(tmp_path)}
    if said is None:
        assert resolve_config(asked, environ=environ).environment.tags == tags
        return
    with pytest.raises(ConfigError) as caught:
        resolve_config(asked, environ=environ)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"judge": {"canaries": True}}, "judge.canaries: should be a valid integer"),
        ({"dataset": {"source": "p.jsonl", "limit": True}}, "an integer, found 'true'"),
        ({"budget_usd": True}, "budget_usd: should be a valid number"),
        ({"gate": None}, "gate: expected keys with their values, found nothing"),
        ({"candidates": "claude"}, "candidates: expected a list, such as [a, b], found 'claude'"),
        ({"schedule": {"assets": ["a"], "catchup_from": "2026-01-01"}}, "catchup_from needs cron"),
        ({"schedule": {"assets": [""]}}, "schedule.assets.0"),
    ],
)
def test_a_value_of_another_kind_is_told_with_what_to_write(
    changes: dict[str, Any], said: str
) -> None:
    assert said in error(changes)


def test_yaml_that_cannot_be_read_is_told_with_its_line_and_what_is_likely(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("evaluation: e\nschedule:\n  cron: */5 * * * *\n")
    with pytest.raises(ConfigError, match=r"e\.yaml .*line 3: .*begins with \* .* needs quotes"):
        read_config(path)


def test_the_environment_comes_from_the_config_then_the_variable_then_the_sandbox(
    tmp_path: Path,
) -> None:
    assert "no environment 'prod'" in error({"environment": "prod"})
    with pytest.raises(ConfigError, match="no environment 'other'"):
        resolve_config(conf(), environ={"NOVA_JUDGE_ENVIRONMENT": "other"})


def test_a_models_parameters_go_over_the_evaluations_key_by_key() -> None:
    config = resolve_config(
        conf(
            parameters={"temperature": 0.7, "top_p": 0.9},
            candidates=[bedrock("amazon.nova-pro-v1:0", parameters={"top_p": None})],
        ),
        environ={},
    )
    assert config.baseline.parameters.model_dump() == {
        "max_tokens": 512,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": None,
    }
    assert config.candidates[0].parameters.top_p is None
    assert config.candidates[0].parameters.temperature == 0.7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judg": {}}, ["judg: there is no such key", "did you mean 'judge'"]),
        ({"judge": {"recipie": "x"}}, ["judge.recipie", "did you mean 'recipe'"]),
        ({"judge": {"min_consistency": 2}}, ["judge.min_consistency", "found 2"]),
        ({"dataset": {}}, ["dataset.source: is needed"]),
        ({"candidates": []}, ["candidates", "at least 1"]),
        ({"candidates": ["clod"]}, ["no model 'clod'", "did you mean 'claude'"]),
        (
            {"candidates": [{"name": "x", "provider": "azure"}]},
            ["expected sagemaker, bedrock or responses"],
        ),
        ({"candidates": [{**bedrock("a.b"), "modl": 1}]}, ["candidates.0.modl", "model_id"]),
        ({"baseline": {**BASE["baseline"], "endpoint_name": "e"}}, ["one of deploy and endpoint"]),
        ({"candidates": ["claude", bedrock("a.b", name="CLAUDE")]}, ["different names"]),
        ({"gate": {"rule": "better"}}, ["gate.rule", "non_inferiority"]),
        ({"confidence_level": 95}, ["confidence_level", "less than 1"]),
        ({"schedule": {"cron": "99 * * * *"}}, ["schedule.cron", "0 6 * * 1"]),
        ({"schedule": {"cron": "0 6 * * 1", "timezone": "Mars"}}, ["schedule.timezone", "Mars"]),
        ({"evaluation": 7}, ["evaluation: expected text", "in quotes, found 7"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_remedy(
    changes: dict[str, Any], words: list[str]
) -> None:
    message = error(changes)
    assert all(word in message for word in words), message
    assert "pydantic" not in message


def test_more_judge_jobs_than_airflow_maps_are_refused() -> None:
    candidates = [
        {"name": f"m{n}", "provider": "bedrock", "model_id": "us.amazon.nova-lite-v1:0"}
        for n in range(45)
    ]
    message = error({"candidates": candidates, "comparison": "round_robin"})
    assert "45 candidates are 1,035 judge jobs" in message and "comparison: baseline" in message


def test_all_mistakes_are_named_at_once() -> None:
    message = error({"gate": {"rle": "x"}, "judge": {"recipie": "y"}, "confidence_level": 2})
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    ("model_id", "parameters", "message"),
    [
        ("us.anthropic.claude-sonnet-4-6", {"temperature": 1, "top_p": 0.5}, "beside top_p"),
        ("global.anthropic.claude-sonnet-5", {"temperature": 1}, "refuses temperature"),
        ("us.anthropic.claude-opus-4-7", {"top_p": 0.5}, "{top_p: null}"),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", {}, "2026-04-28"),
    ],
)
def test_what_bedrock_would_refuse_is_refused_before_the_run(
    model_id: str, parameters: dict[str, float], message: str
) -> None:
    assert message in error({"parameters": parameters, "candidates": [bedrock(model_id)]})


@pytest.mark.parametrize("key", ["HF_TOKEN", "OPENAI_API_KEY", "db_password"])
def test_a_secret_is_refused_without_being_repeated(key: str) -> None:
    deploy = {**DEPLOYED, "environment": {key: "hf_abc"}}
    message = error({"baseline": {"name": "old", "provider": "sagemaker", "deploy": deploy}})
    assert "looks like a secret" in message
    assert "hf_abc" not in message


def test_a_limit_of_tokens_is_no_secret() -> None:
    deploy = {**DEPLOYED, "environment": {"MAX_TOTAL_TOKENS": "4096"}}
    changes = {"baseline": {"name": "old", "provider": "sagemaker", "deploy": deploy}}
    resolve_config(conf(**changes), environ={})


@pytest.mark.parametrize("key", ["notify"])
def test_a_reserved_key_takes_only_its_default(tmp_path: Path, key: str) -> None:
    (tmp_path / "environments").mkdir()
    known = yaml.safe_load((ROOT / "dags/environments/sandbox.yaml").read_text())
    (tmp_path / "environments" / "sandbox.yaml").write_text(yaml.safe_dump({**known, key: ["x"]}))
    with pytest.raises(ConfigError, match=rf"sandbox\.yaml:\d+: {key}: "):
        load_environment("sandbox", {"NOVA_JUDGE_CONFIG_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"messages_field": "m", "prompt_template": "{q}"}, "prompt_template and messages_field"),
        ({"system_prompt": "a", "system_prompt_file": "b"}, "system_prompt and system_prompt_file"),
        ({"system_prompt_version": "2"}, "goes with system_prompt_file"),
    ],
)
def test_what_excludes_each_other_is_refused(dataset: dict[str, str], message: str) -> None:
    assert message in error({"dataset": {"source": "p.jsonl", **dataset}})


def test_responses_that_exist_need_something_to_be_joined_by() -> None:
    mine = {"name": "mine", "provider": "responses", "source": "r.jsonl"}
    assert "joined by id or by prompt" in error({"candidates": [mine]})
    for way in ({"id_field": "id"}, {"prompt_field": "q"}):
        resolve_config(conf(candidates=[{**mine, **way}]), environ={})
    by_id = {"source": "p.jsonl", "id_field": "id"}
    resolve_config(conf(candidates=[mine], dataset=by_id), environ={})


def test_files_are_named_with_the_line_of_the_mistake(tmp_path: Path) -> None:
    file = tmp_path / "weekly.yaml"
    file.write_text("evaluation: weekly\ndataset:\n  source: a\n  limt: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_evaluation(file)
    assert "weekly.yaml:4: dataset.limt" in str(caught.value)
    assert "did you mean 'limit'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "weekly.yaml:3: a is there twice"),
        ("- a\n- b\n", "expected keys and values"),
        ("a: [1\n", "not YAML or JSON"),
        ("", "expected keys and values"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "weekly.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(file)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "absent.yaml")


def test_an_account_id_without_quotes_is_explained(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/prod.yaml").write_text(
        "account_id: 012345670123\nregion: us-east-1\n"
        "execution_role_arn: arn:aws:iam::012345670123:role/r\noutput_s3_uri: s3://my-bucket\n"
    )
    given = conf(environment="prod", candidates=[bedrock("a.b")])
    with pytest.raises(ConfigError, match=r"prod\.yaml:1: account_id: expected 12 digits"):
        resolve_config(given, environ={"NOVA_JUDGE_CONFIG_DIR": str(tmp_path)})


def test_the_digest_depends_on_content_alone() -> None:
    one = resolve_config(conf(), environ={})
    same = resolve_config(dict(reversed(conf().items())), environ={})
    other = resolve_config(conf(confidence_level=0.9), environ={})
    assert one.digest() == same.digest() != other.digest()


@pytest.mark.parametrize("changes", [{}, {"dataset": {"source": "t", "messages_field": "talk"}}])
def test_a_resolved_config_reads_back_as_itself(changes: dict[str, Any]) -> None:
    config = resolve_config(conf(**changes), environ={})
    stored = json.loads(json.dumps(config.model_dump(mode="json", by_alias=True)))
    assert type(config).model_validate(stored) == config


@pytest.mark.parametrize("file", evaluation_files(), ids=lambda file: file.stem)
def test_every_evaluation_in_the_folder_resolves(file: Path) -> None:
    assert resolve_config(load_evaluation(file), environ={}).models


EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_resolves_and_its_files_are_there(file: Path) -> None:
    config = resolve_config({**read_config(file), "environment": "sandbox"}, environ={})
    sources = [config.dataset.source, *(getattr(each, "source", "") for each in config.models)]
    for source in sources:
        assert not source.endswith(".jsonl") or (file.parent.parent / source).is_file()


def test_the_notebooks_example_is_whole() -> None:
    given = read_config(Path(__file__).parent.parent / "examples/notebook.yaml")
    config = resolve_config({**given, "environment": "sandbox"}, environ={})
    assert config.dataset.limit == 6
    assert config.judge.instance_type == "ml.g5.24xlarge"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(key=st.sampled_from([*BASE, "judge", "gate", "parameters", "schedule", "x"]), value=values)
def test_whatever_is_written_ends_in_a_config_or_a_config_error(key: str, value: Any) -> None:
    try:
        resolve_config(conf(**{key: value}), environ={})
    except ConfigError as problem:
        assert str(problem)
