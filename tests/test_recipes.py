"""Facts about recipes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from include import recipes
from include.errors import ConfigError

ROOT = Path(__file__).parent.parent
MICRO, RUBRIC = "nova_micro_llm_judge", "nova_2_lite_rubric_llm_judge"


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Write a recipe of one's own: that of micro with changes, `section.key` to value."""

    def write(changes: dict[str, Any] | None = None, base: str = MICRO) -> str:
        recipe = recipes.load(base)
        for key, value in (changes or {}).items():
            section, _, last = key.partition(".")
            if last:
                recipe.setdefault(section, {})[last] = value
            else:
                recipe[section] = value
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "model_type", "path", "task"),
    [
        (MICRO, "amazon.nova-micro-v1:0:128k", "nova-micro/prod", "llm_judge"),
        ("nova_lite_llm_judge", "amazon.nova-lite-v1:0:300k", "nova-lite/prod", "llm_judge"),
        ("nova_pro_llm_judge", "amazon.nova-pro-v1:0:300k", "nova-pro/prod", "llm_judge"),
        (RUBRIC, "amazon.nova-2-lite-v1:0:256k", "nova-lite-2/prod", "rubric_llm_judge"),
    ],
)
def test_there_is_one_recipe_per_model_and_task_as_aws_publishes_it(
    name: str, model_type: str, path: str, task: str
) -> None:
    recipe = recipes.load(name)
    assert recipe["evaluation"] == {"task": task, "strategy": "judge", "metric": "all"}
    assert (recipe["run"]["model_type"], recipe["run"]["model_name_or_path"]) == (model_type, path)
    empty = ("data_s3_path", "output_s3_path", "mlflow_tracking_uri")
    empty += ("mlflow_experiment_name", "mlflow_run_name")
    assert all(recipe["run"][key] == "" for key in empty)
    sampling = {"top_k": 50, "top_p": 1.0, "temperature": 0, "top_logprobs": 0}
    longest = {"max_new_tokens": 32768} if task == "rubric_llm_judge" else {}
    assert recipe["inference"] == {**sampling, **longest}


def test_these_are_all_recipes() -> None:
    assert recipes.names() == sorted([MICRO, RUBRIC, "nova_lite_llm_judge", "nova_pro_llm_judge"])


@pytest.mark.parametrize("name", recipes.names())
def test_every_line_of_a_recipe_says_whether_it_may_be_changed(name: str) -> None:
    section, marked = "", {}
    for line in (ROOT / "recipes" / f"{name}.yaml").read_text().splitlines():
        if match := re.match(r"(\w+):", line):
            section = match[1]
        elif match := re.match(r"  (\w+): \S+.*# (un)?modifiable\b", line):
            marked[f"{section}.{match[1]}"] = match[2] is None
    recipe = recipes.load(name)
    keys = {f"{section}.{key}" for section, keys in recipe.items() for key in keys}
    assert marked.keys() == keys
    assert {key for key, modifiable in marked.items() if not modifiable} == recipes.FIXED


def test_an_override_changes_one_key_and_not_the_file() -> None:
    changed = recipes.load(MICRO, {"inference": {"top_p": 0.9}})
    assert changed["inference"]["top_p"] == 0.9
    assert recipes.load(MICRO)["inference"]["top_p"] == 1.0


def test_an_override_may_add_a_key_that_the_schema_has_and_the_file_has_not() -> None:
    assert "reasoning_effort" not in recipes.load(RUBRIC)["inference"]
    changed = recipes.load(RUBRIC, {"inference": {"reasoning_effort": "low"}})
    assert changed["inference"]["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"inference": {"topp": 1}}, "did you mean 'inference.top_p'"),
        ({"top_p": 1}, "judge.overrides.top_p: the recipe has no such key; did you mean"),
        ({"run": {"top_k": 1}}, "did you mean 'inference.top_k'"),
        ({"evaluation": {"task": "mmlu"}}, "does not let this be changed"),
        ({"run": {"model_type": "x"}}, "judge.overrides.run.model_type"),
        ({"run": {"model_name_or_path": "s3://b/c"}}, "a checkpoint needs a recipe of your own"),
        ({"inference": {"top_p": 1.1}}, "judge.overrides.inference.top_p: expected a number from"),
        ({"inference": {"top_p": "0.5"}}, "from 0 to 1, is '0.5'"),
        ({"inference": {"top_p": {}}}, "is {}"),
        ({"inference": {"temperature": float("nan")}}, "from 0 to 2, is nan"),
        ({"inference": {"temperature": 2.5}}, "from 0 to 2, is 2.5"),
        ({"inference": {"top_k": 1.5}}, "a whole number, -1 for no limit, is 1.5"),
        ({"inference": {"top_logprobs": 21}}, "from 0 to 20, is 21"),
        ({"inference": {"max_new_tokens": 200}}, "does not exist for amazon.nova-micro-v1:0:128k"),
        ({"inference": {"reasoning_effort": "low"}}, "does not exist for amazon.nova-micro"),
        ({"run": {"replicas": 17}}, "a whole number from 1 to 16, is 17"),
        ({"run": {"replicas": True}}, "a whole number from 1 to 16, is True"),
        ({"run": {"name": ""}}, "judge.overrides.run.name: expected a name"),
    ],
)
def test_an_override_that_cannot_be_applied_is_named(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        recipes.load(MICRO, overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_new_tokens": 32_769}, "from 1 to 32768, is 32769"),
        ({"reasoning_effort": "medium"}, "null, low or high, is 'medium'"),
    ],
)
def test_the_rubric_judge_has_bounds_of_its_own(overrides: dict[str, Any], message: str) -> None:
    recipes.load(RUBRIC, {"inference": {"max_new_tokens": 12_000, "reasoning_effort": None}})
    with pytest.raises(ConfigError, match=re.escape(message)):
        recipes.load(RUBRIC, {"inference": overrides})


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        recipes.load(MICRO, {"inference": {"top_p": 2, "temperature": -1}})
    assert len(str(raised.value).splitlines()) == 2


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nova_micro_llm_judge'"):
        recipes.load("nova_micro_judge")


def test_a_recipe_of_ones_own_is_a_path_absolute_or_from_the_projects_root(own: Any) -> None:
    assert recipes.load(own({"inference.top_k": -1}))["inference"]["top_k"] == -1
    assert recipes.load("recipes/nova_pro_llm_judge.yaml") == recipes.load("nova_pro_llm_judge")


def test_a_recipe_of_ones_own_may_judge_with_a_checkpoint(own: Any) -> None:
    mine = own({"run.model_name_or_path": "s3://escrow/checkpoint"})
    assert recipes.load(mine)["run"]["model_name_or_path"] == "s3://escrow/checkpoint"


def test_a_recipe_of_ones_own_takes_overrides_but_not_of_fixed_keys(own: Any) -> None:
    assert recipes.load(own(), {"run": {"name": "mine"}})["run"]["name"] == "mine"
    with pytest.raises(ConfigError, match="does not let this be changed"):
        recipes.load(own(), {"evaluation": {"strategy": "zs"}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inference.tempreature": 0}, "did you mean 'inference.temperature'"),
        ({"processor.lambda_arn": "x"}, "mine.yaml: processor: a judge's recipe has no such key"),
        ({"evaluation.task": "mmlu"}, "evaluation.task: expected llm_judge or rubric_llm_judge"),
        ({"evaluation.task": "rubric_llm_judge"}, "expected llm_judge for amazon.nova-micro-v1"),
        ({"evaluation.strategy": "zs_cot"}, "evaluation.strategy: expected judge, is 'zs_cot'"),
        ({"evaluation.metric": "f1"}, "evaluation.metric: expected all, is 'f1'"),
        ({"run.model_name_or_path": "nova-pro/prod"}, "expected nova-micro/prod or the s3:// URI"),
        ({"run.model_type": "amazon.nova-micro-v1:0:128"}, "did you mean 'amazon.nova-micro-v1"),
        ({"run.data_s3_path": "s3://b/k"}, 'expected "", as for every training job'),
        ({"inference": None}, "inference: expected a section, is None"),
        ({"inference.max_new_tokens": 200}, "does not exist for amazon.nova-micro"),
    ],
)
def test_a_recipe_of_ones_own_is_checked_against_the_same_schema(
    own: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        recipes.load(own(changes))
    assert "mine.yaml" in str(raised.value)


@pytest.mark.parametrize("section", ["run", "evaluation", "inference"])
def test_a_missing_section_is_named(own: Any, section: str) -> None:
    path = Path(own())
    recipe = yaml.safe_load(path.read_text())
    del recipe[section]
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(ConfigError, match=f"{section}: is missing"):
        recipes.load(str(path))


@pytest.mark.parametrize("content", ["a: [", "just text", "", "\ud800", "- 1"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(ConfigError, match=r"broken\.yaml: expected"):
        recipes.load(str(path))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read: No such file"):
        recipes.load("recipes/nowhere.yaml")


def test_a_recipe_on_s3_is_read_by_the_function_that_is_given() -> None:
    body = (ROOT / "recipes" / f"{RUBRIC}.yaml").read_bytes()
    asked: list[str] = []

    def read(uri: str) -> bytes:
        asked.append(uri)
        return body

    assert recipes.load("s3://bucket/mine.yaml", read=read) == recipes.load(RUBRIC)
    assert asked == ["s3://bucket/mine.yaml"]
    with pytest.raises(ConfigError, match="only where there is a way to AWS"):
        recipes.load("s3://bucket/mine.yaml")


def test_a_recipe_that_s3_refuses_is_an_error_with_its_uri() -> None:
    from botocore.exceptions import ClientError

    def read(uri: str) -> bytes:
        raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "no"}}, "GetObject")

    with pytest.raises(ConfigError, match=r"s3://b/x\.yaml cannot be read: .*NoSuchKey"):
        recipes.load("s3://b/x.yaml", read=read)


def test_an_override_of_an_unknown_section_is_refused_even_if_it_is_empty() -> None:
    with pytest.raises(ConfigError, match=r"judge\.overrides\.none: the recipe has no such key"):
        recipes.load(MICRO, {"none": {}})
    assert recipes.load(MICRO, {"run": {}}) == recipes.load(MICRO)


def test_what_is_sent_reads_back_as_the_recipe() -> None:
    recipe = recipes.load("nova_pro_llm_judge")
    assert yaml.safe_load(recipes.to_yaml(recipe)) == recipe


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from([key.split(".")[1] for key in recipes.KEYS]) | SCALARS


@given(
    st.dictionaries(
        st.sampled_from(["run", "evaluation", "inference"]) | st.text(max_size=3) | st.integers(),
        SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(KEYS, SCALARS, max_size=4),
        max_size=4,
    )
)
def test_any_file_is_a_recipe_or_a_config_error(content: dict[Any, Any]) -> None:
    body = yaml.safe_dump(content, allow_unicode=True).encode(errors="surrogatepass")
    with pytest.raises(ConfigError):
        recipes.load("s3://b/x.yaml", read=lambda _: body)
    with pytest.raises(ConfigError):
        recipes.load(MICRO, {"none": {}, "run": 1, **content})
