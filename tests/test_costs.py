"""Facts about money: how prices must look, what a run is estimated at, and what is refused."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from priced import CLAUDE, NOVA, PRICES, config_folder

from include import costs
from include.config import ANCHORS, RunConfig
from include.config_files import check_file, resolve_config
from include.costs import Use, Work
from include.errors import ConfigError
from include.records import Notice

DEPLOYED = {
    "name": "qwen",
    "provider": "sagemaker",
    "deploy": {"model_id": "Q/q", "image_uri": "tgi", "instance_types": ["ml.g5.2xlarge"]},
}
BEDROCK = {"name": "claude", "provider": "bedrock", "model_id": CLAUDE}


def conf(**changes: Any) -> dict[str, Any]:
    return {
        "evaluation": "cost",
        "environment": "sandbox",
        "dataset": {"source": "prompts.jsonl"},
        "parameters": {"max_tokens": 100},
        "baseline": DEPLOYED,
        "candidates": [BEDROCK],
        **changes,
    }


def priced(
    folder: Path, prices: Any = PRICES, environment: dict[str, Any] | None = None, **changes: Any
) -> RunConfig:
    home = config_folder(folder / "config", prices, **(environment or {}))
    return resolve_config(conf(**changes), environ={"NOVA_JUDGE_CONFIG_DIR": str(home)})


def without(*path: str) -> dict[str, Any]:
    prices = copy.deepcopy(PRICES)
    part = prices
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return prices


# the price file


def test_a_run_has_the_prices_that_it_needs_and_no_others(tmp_path: Path) -> None:
    config = priced(tmp_path)
    assert config.prices
    assert set(config.prices.instances) == {"ml.g5.2xlarge", "ml.g5.12xlarge"}
    assert set(config.prices.models) == {CLAUDE}
    stored = config.model_dump(mode="json", by_alias=True)
    assert stored["prices"]["models"][CLAUDE]["output"] == 15000.0
    assert RunConfig.model_validate(stored) == config


@pytest.mark.parametrize(
    ("environment", "evaluation", "counts"),
    [(None, None, None), (10, None, 10), (None, 4, 4), (10, 4, 4), (3, 4, 3)],
)
def test_the_smaller_budget_counts(
    tmp_path: Path, environment: float | None, evaluation: float | None, counts: float | None
) -> None:
    found = priced(tmp_path, environment={"budget_usd": environment}, budget_usd=evaluation)
    assert found.budget_usd == counts


@pytest.mark.parametrize("budget", [0, -1, "much", float("nan"), float("inf")])
def test_a_budget_is_an_amount(tmp_path: Path, budget: Any) -> None:
    with pytest.raises(ConfigError, match="budget_usd"):
        priced(tmp_path, budget_usd=budget)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("priced_at: 2026-11-25\nregon: us-east-1\n", ["prices.yaml:2: regon", "'region'"]),
        (
            "priced_at: 2026-11-25\nregion: us-east-1\ninstances:\n"
            "  ml.g5.2xlarge: {hostin: 1.0}\n",
            ["prices.yaml:4: instances.ml.g5.2xlarge.hostin", "did you mean 'hosting'"],
        ),
        (
            "priced_at: 2026-11-25\nregion: us-east-1\nmodels:\n  m:\n    input: -1\n",
            ["prices.yaml:5: models.m.input", "greater than or equal to 0"],
        ),
        ("region: us-east-1\n", ["priced_at: is needed"]),
        ("priced_at: soon\nregion: us-east-1\n", ["prices.yaml:1: priced_at", "expected a day"]),
        ("priced_at: 2026-11-25\nregion: us-east-1\ncurrency: EUR\n", ["currency", "USD"]),
        ("priced_at: 2026-11-25\nregion: eu-west-1\n", ["prices.yaml:2", "prices of eu-west-1"]),
        ("- 1\n", ["prices.yaml: expected keys and values"]),
    ],
)
def test_a_mistake_in_the_price_file_is_named_with_its_line(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        priced(tmp_path, text)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_price_file_that_is_not_there_is_named_with_what_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = config_folder(tmp_path, PRICES)
    (home / "prices.yaml").unlink()
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(home))
    with pytest.raises(ConfigError, match=r"no price file .*prices.yaml; make prices ENV=sandbox"):
        check_file("environments", home / "environments/sandbox.yaml")


# the estimate

WORK = Work(prompts=100, characters=40_000, judged={"claude": 100})


def estimated(config: RunConfig, work: Work = WORK) -> tuple[dict[str, float], dict[str, float]]:
    found = costs.plan(config, work)
    assert found
    return ({u.what: u.amount for u in found.likely}, {u.what: u.amount for u in found.most})


def test_an_estimate_counts_endpoints_tokens_and_judges(tmp_path: Path) -> None:
    likely, most = estimated(priced(tmp_path))
    asking = 100 * costs.SECONDS_PER_RESPONSE / 16
    assert likely == {
        "endpoint of qwen": pytest.approx(1.8 * (600 + asking) / 3600),
        "input of claude": pytest.approx(10_000 / 1e6 * 3000),
        "output of claude": pytest.approx(100 * 50 / 1e6 * 15000),
        "judge of claude": pytest.approx(7.2 * (900 + 300) / 3600),
    }
    assert most == {
        "endpoint of qwen": pytest.approx(1.8 * (900 + 2700 + 720 * 60) / 3600),
        "input of claude": pytest.approx(30.0),
        "output of claude": pytest.approx(150.0),
        "judge of claude": pytest.approx(7.2 * (3600 + 1500) / 3600),
    }


def test_a_batch_has_its_own_prices_and_keeps_no_endpoint_waiting(tmp_path: Path) -> None:
    nova = {"name": "nova", "provider": "bedrock", "model_id": NOVA, "batch": True}
    likely, _ = estimated(priced(tmp_path, candidates=[nova], baseline={**BEDROCK, "name": "b"}))
    assert likely["batch input of nova"] == pytest.approx(10_000 / 1e6 * 20)
    assert likely["batch output of nova"] == pytest.approx(5_000 / 1e6 * 80)
    assert "endpoint of nova" not in likely


def test_what_exists_already_costs_nothing(tmp_path: Path) -> None:
    there = {"name": "there", "provider": "sagemaker", "endpoint_name": "e"}
    known = {"name": "k", "provider": "responses", "source": "a", "prompt_field": "prompt"}
    work = Work(100, 40_000, {"k": 100})
    likely, _ = estimated(priced(tmp_path, baseline=there, candidates=[known]), work)
    assert set(likely) == {"judge of k"}


def test_the_dearest_instance_type_and_every_judge_instance_count_at_the_most(
    tmp_path: Path,
) -> None:
    deploy = {**DEPLOYED["deploy"], "instance_types": ["ml.g5.2xlarge", "ml.p5.48xlarge"]}
    config = priced(tmp_path, baseline={**DEPLOYED, "deploy": deploy})
    likely, most = estimated(config, Work(100, 0, {"claude": 100}, replicas=[2]))
    assert most["endpoint of qwen"] == pytest.approx(110 * (900 + 2700 + 720 * 60) / 3600)
    assert likely["judge of claude"] == pytest.approx(2 * 7.2 * 1200 / 3600)


def test_the_judges_own_limit_bounds_its_estimate(tmp_path: Path) -> None:
    likely, most = estimated(priced(tmp_path, judge={"max_runtime_minutes": 5}))
    assert likely["judge of claude"] == most["judge of claude"] == pytest.approx(7.2 * 300 / 3600)


# what is refused


def test_an_estimate_above_the_budget_is_refused_with_its_parts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        costs.plan(priced(tmp_path, budget_usd=50), WORK)
    said = str(caught.value)
    assert "about 107.73 USD, more than its budget_usd of 50.00 USD" in said
    assert "output of claude: 0.005 million tokens x 15,000.00 USD = 75.00 USD" in said
    assert costs.ASSUMED in said


def test_an_estimate_within_the_budget_is_not(tmp_path: Path) -> None:
    assert costs.plan(priced(tmp_path, budget_usd=110), WORK)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("instances", "ml.g5.2xlarge"), "instances.ml.g5.2xlarge.hosting"),
        (("instances", "ml.g5.12xlarge", "training"), "instances.ml.g5.12xlarge.training"),
        (("models", CLAUDE, "output"), f"models.{CLAUDE}.output"),
    ],
)
def test_a_missing_price_refuses_a_budget_and_without_one_makes_the_cost_unknown(
    tmp_path: Path, path: tuple[str, ...], key: str
) -> None:
    with pytest.raises(ConfigError, match="budget_usd needs every price") as caught:
        costs.plan(priced(tmp_path, without(*path), budget_usd=1000), WORK)
    assert str(caught.value).endswith(f"has no {key}")
    config = priced(tmp_path / "again", without(*path))
    found = costs.plan(config, WORK)
    assert found and config.prices
    assert costs.lines(found, config.prices) == [f"Cost: not known, the price file has no {key}."]
    cost, notices = costs.cost(config.prices, None, found.likely)
    assert cost is None
    assert notices == [
        Notice("cost_unknown", f"the cost is not known: the price file has no {key}")
    ]


def test_a_price_is_a_number_not_a_truth(tmp_path: Path) -> None:
    prices = copy.deepcopy(PRICES)
    prices["models"][CLAUDE]["input"] = True
    with pytest.raises(ConfigError, match=r"input: should be a valid number"):
        priced(tmp_path, prices)


def test_a_budget_needs_the_prices_of_what_a_batch_job_leaves_out(tmp_path: Path) -> None:
    batched = {**BEDROCK, "batch": True}
    prices = without("models", CLAUDE, "output")
    prices["models"][CLAUDE] |= {"batch_input": 1500.0, "batch_output": 7500.0}
    assert costs.plan(priced(tmp_path, prices, candidates=[batched]), WORK)
    with pytest.raises(ConfigError, match=f"models.{CLAUDE}.output$"):
        costs.plan(priced(tmp_path / "2", prices, candidates=[batched], budget_usd=1000), WORK)


def test_a_budget_without_prices_is_refused_and_nothing_is_estimated_without_both(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="environment sandbox has none; make prices ENV=sandbox"):
        costs.plan(priced(tmp_path, None, budget_usd=5), WORK)
    assert costs.plan(priced(tmp_path / "again", None), WORK) is None


def test_anchor_pairs_are_a_judge_job_of_their_own(tmp_path: Path) -> None:
    config = priced(tmp_path)
    found = costs.plan(config, Work(100, 0, {"claude": 100, ANCHORS: 200}))
    assert found
    assert found.likely[-1].what == "judge of the anchor pairs"
    assert found.judges == {
        "claude": pytest.approx(7.2 * 1200 / 3600),
        ANCHORS: pytest.approx(7.2 * 1500 / 3600),
    }


# what it has cost


def test_parts_add_up_to_the_cost(tmp_path: Path) -> None:
    config = priced(tmp_path)
    assert config.prices
    uses = [
        costs.endpoint_use(config.prices, "qwen", "ml.g5.2xlarge", 1000),
        *costs.token_uses(config.prices, config.candidates[0], 123_457, 0, batch=False),
    ]
    cost, notices = costs.cost(config.prices, 3.0, uses)
    assert cost and not notices
    assert [part.what for part in cost.parts] == ["endpoint of qwen", "input of claude"]
    assert cost.actual == pytest.approx(sum(part.amount for part in cost.parts))
    assert cost.actual == pytest.approx(0.5 + 370.371)
    assert (cost.estimated, cost.currency, cost.priced_at) == (3.0, "USD", "2026-11-25")


def test_what_nobody_can_count_is_not_known(tmp_path: Path) -> None:
    config = priced(tmp_path)
    assert config.prices
    cost, (notice,) = costs.cost(config.prices, 3.0, None)
    assert cost and (cost.estimated, cost.actual, cost.parts) == (3.0, None, [])
    assert notice.code == "cost_unknown"


def test_time_costs_nothing_where_the_price_is_nothing(tmp_path: Path) -> None:
    prices = copy.deepcopy(PRICES)
    prices["instances"]["ml.g5.12xlarge"]["training"] = 0
    config = priced(tmp_path, prices)
    assert config.prices
    assert costs.affordable_seconds(config.prices, "ml.g5.12xlarge", 1, 1.0) == float("inf")
    assert costs.unpriced([Use("x", 1, "instance hours", "k", 0.0)]) == []


# make plan


def run_plan(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.plan", *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_plan_says_the_cost_and_refuses_a_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(config_folder(tmp_path / "config", PRICES)))
    rows = tmp_path / "prompts.jsonl"
    rows.write_text("".join(f'{{"prompt": "What is {n:03}?"}}\n' for n in range(100)))
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump(conf(dataset={"source": str(rows)})))
    done = run_plan("--config", file)
    assert done.returncode == 0, done.stderr
    assert "Cost: about 78.63 USD, at most" in done.stdout and costs.ASSUMED in done.stdout
    assert "input of claude: 0.0003 million tokens" in done.stdout
    guessed = run_plan("--config", file, "--prompts", 200)
    assert "each is taken to have 2,000 characters" in guessed.stdout
    file.write_text(yaml.safe_dump(conf(dataset={"source": str(rows)}, budget_usd=1)))
    refused = run_plan("--config", file)
    assert refused.returncode == 2
    assert "more than its budget_usd of 1.00 USD" in refused.stderr
