"""Facts about recipes."""

import pytest
import yaml

from include import recipes
from include.errors import ConfigError


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_for_the_judge_and_its_model_matches_its_type(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe["evaluation"] == {"task": "llm_judge", "strategy": "judge", "metric": "all"}
    size = name.split("_")[1]
    assert recipe["run"]["model_type"].startswith(f"amazon.nova-{size}-v1")
    assert recipe["run"]["model_name_or_path"] == f"nova-{size}/prod"
    assert "max_new_tokens" not in recipe["inference"]


def test_an_override_changes_one_key_and_not_the_file() -> None:
    changed = recipes.load("nova_micro_llm_judge", {"inference": {"top_p": 0.9}})
    assert changed["inference"]["top_p"] == 0.9
    assert recipes.load("nova_micro_llm_judge")["inference"]["top_p"] == 1.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"inference": {"topp": 1}}, "did you mean 'inference.top_p'"),
        ({"evaluation": {"task": "mmlu"}}, "does not let this be changed"),
        ({"run": {"model_type": "x"}}, "judge.overrides.run.model_type"),
    ],
)
def test_an_override_that_cannot_be_applied_is_named(overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        recipes.load("nova_micro_llm_judge", overrides)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nova_micro_llm_judge'"):
        recipes.load("nova_micro_judge")


def test_what_is_sent_reads_back_as_the_recipe() -> None:
    recipe = recipes.load("nova_pro_llm_judge")
    assert yaml.safe_load(recipes.to_yaml(recipe)) == recipe
