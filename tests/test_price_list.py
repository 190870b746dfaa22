"""Facts about `make prices`: what AWS's Price List says becomes a file that a run takes."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from priced import config_folder
from sandbox_server import ROOT, Sandbox

from include import price_list
from include.config_files import resolve_config
from include.prices import InstancePrices, ModelPrices

DAY = date(2026, 11, 25)
QWEN = {
    "provider": "sagemaker",
    "deploy": {"model_id": "Q/q", "instance_types": ["ml.g5.2xlarge", "ml.x9.large"]},
}
CLAUDE = {"provider": "bedrock", "model_id": "us.anthropic.claude-sonnet-4-6"}
NOVA = {"name": "nova", "provider": "bedrock", "model_id": "amazon.nova-micro-v1:0"}
UNKNOWN = {"name": "new", "provider": "bedrock", "model_id": "us.anthropic.claude-opus-9"}
EVALUATION = {
    "evaluation": "e",
    "dataset": {"source": "a"},
    "baseline": "qwen",
    "candidates": ["claude", NOVA, UNKNOWN],
    "judge": {"instance_type": "ml.p5.48xlarge"},
}


def fetched(sandbox: Sandbox, *models: str, region: str = "us-east-1") -> Any:
    return price_list.fetch(sandbox.client("pricing"), region, ["ml.g5.2xlarge"], models, DAY)


def test_instances_and_models_have_the_price_lists_prices(sandbox: Sandbox) -> None:
    claude, nova = CLAUDE["model_id"], "us.amazon.nova-micro-v1:0"
    found = fetched(sandbox, claude, nova)
    assert (found.priced_at, found.region) == (DAY, "us-east-1")
    assert found.instances == {"ml.g5.2xlarge": InstancePrices(training=2.0, hosting=2.2)}
    assert found.models[claude] == ModelPrices(
        input=4.0, output=20.0, batch_input=2.0, batch_output=10.0
    )
    assert found.models[nova] == ModelPrices(
        input=0.04, output=0.16, batch_input=0.02, batch_output=0.08
    )


def test_a_global_profile_has_a_price_of_its_own(sandbox: Sandbox) -> None:
    name = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    assert fetched(sandbox, name).models[name] == ModelPrices(
        input=1.35, output=6.75, batch_input=0.675, batch_output=3.375
    )


def test_what_is_not_in_the_list_is_none(sandbox: Sandbox) -> None:
    found = fetched(sandbox, UNKNOWN["model_id"])
    assert found.models[UNKNOWN["model_id"]] == ModelPrices()
    assert fetched(sandbox, region="eu-west-1").instances["ml.g5.2xlarge"] == InstancePrices()


class Listed:
    """A price list of a test's own."""

    def __init__(self, *offers: tuple[str, str, float, dict[str, str]]) -> None:
        self.offers = offers

    def get_paginator(self, _: str) -> "Listed":
        return self

    def paginate(self, ServiceCode: str, **_: Any) -> list[dict[str, Any]]:
        return [
            {"PriceList": [self.offer(*o) for o in self.offers] if "Bedrock" in ServiceCode else []}
        ]

    def offer(self, usage: str, unit: str, price: float, attributes: dict[str, str]) -> str:
        dimension = {"unit": unit, "pricePerUnit": {"USD": str(price)}}
        return json.dumps(
            {
                "product": {"attributes": {"usagetype": usage, **attributes}},
                "terms": {"OnDemand": {"t": {"priceDimensions": {"d": dimension}}}},
            }
        )


OPUS = {"servicename": "Claude Opus 5.5 (Amazon Bedrock Edition)"}
MANTLE = {"model": "Qwen3 32B", "feature": ""}


@pytest.mark.parametrize(
    ("model", "offers", "expected"),
    [
        (
            "us.anthropic.claude-opus-5-5",
            [
                ("USW2-MP:USW2_input_tokens_standard-Units", "1M tokens", 4.4, OPUS),
                ("USW2-MP:USW2_input_tokens_global_standard-Units", "1M tokens", 4.0, OPUS),
                ("USW2-MP:USW2_output_tokens_batch-Units", "1M tokens", 11.0, OPUS),
                ("USW2-MP:USW2_input_tokens_long_ctx_standard-Units", "1M tokens", 8.8, OPUS),
                ("USW2-MP:USW2_cache_read_tokens_standard-Units", "1M tokens", 0.4, OPUS),
            ],
            ModelPrices(input=4.4, batch_output=11.0),
        ),
        (
            "qwen.qwen3-32b-v1:0",
            [
                ("USE1-qwen.qwen3-32b-mantle-input-tokens-standard", "1K tokens", 0.00015, MANTLE),
                ("USE1-Qwen3-32B-input-tokens", "1K tokens", 0.00015, MANTLE),
                ("USE1-qwen.qwen3-32b-mantle-input-tokens-batch", "1K tokens", 0.000075, MANTLE),
                ("USE1-qwen.qwen3-32b-mantle-input-tokens-flex", "1K tokens", 0.000075, MANTLE),
                ("USE1-Qwen3-32B-output-tokens", "hours", 5.0, MANTLE),
            ],
            ModelPrices(input=0.15, batch_input=0.075),
        ),
        (
            "us.anthropic.claude-opus-5-5",
            [
                ("USW2-MP:USW2_input_tokens_standard-Units", "1M tokens", 4.4, OPUS),
                ("USW2-MP:USW2_input_tokens_standard-Units", "1M tokens", 5.5, OPUS),
            ],
            ModelPrices(),
        ),
    ],
    ids=["names of the marketplace", "names of open models", "two prices for one thing"],
)
def test_other_forms_are_read_and_nothing_is_guessed(
    model: str, offers: list[Any], expected: ModelPrices
) -> None:
    found = price_list.fetch(Listed(*offers), "us-west-2", [], [model], DAY)
    assert found.models[model] == expected


def test_the_sandbox_answers_page_by_page_and_only_what_is_asked_for(sandbox: Sandbox) -> None:
    pricing = sandbox.client("pricing")
    here = {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-west-2"}
    first = pricing.get_products(ServiceCode="AmazonSageMaker", Filters=[here], MaxResults=10)
    assert len(first["PriceList"]) == 10 and first["NextToken"]
    pages = pricing.get_paginator("get_products").paginate(
        ServiceCode="AmazonSageMaker", Filters=[here], PaginationConfig={"PageSize": 10}
    )
    offers = [json.loads(text) for page in pages for text in page["PriceList"]]
    assert len({offer["product"]["sku"] for offer in offers}) == len(offers) > 40
    assert {o["product"]["attributes"]["regionCode"] for o in offers} == {"us-west-2"}
    one = {**here, "Field": "usagetype", "Value": "USW2-Train:ml.g5.12xlarge"}
    (text,) = pricing.get_products(ServiceCode="AmazonSageMaker", Filters=[here, one])["PriceList"]
    assert json.loads(text)["serviceCode"] == "AmazonSageMaker"
    assert pricing.get_products(ServiceCode="AmazonS3")["PriceList"] == []
    with pytest.raises(ClientError, match="no DescribeServices"):
        pricing.describe_services()


def prices_command(sandbox: Sandbox, home: Path, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.prices", "--env", "sandbox"],
        cwd=ROOT,
        env={
            **os.environ,
            "SANDBOX_PORT": str(sandbox.port),
            "STATE_DIR": str(state),
            "NOVA_JUDGE_CONFIG_DIR": str(home),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_a_file_for_all_that_the_files_use(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    home = config_folder(tmp_path / "config", None)
    for name, model in (("qwen", QWEN), ("claude", CLAUDE)):
        (home / f"models/{name}.yaml").write_text(yaml.safe_dump(model))
    (home / "evaluations/e.yaml").write_text(yaml.safe_dump(EVALUATION))
    done = prices_command(sandbox, home, tmp_path)
    assert done.returncode == 0, done.stderr
    file = home / "prices/sandbox.yaml"
    assert f"Write into the environment sandbox: prices: {file}" in done.stdout
    text = file.read_text()
    for missing in ('"ml.x9.large": training, hosting', f'"{UNKNOWN["model_id"]}": input, output'):
        assert f"  # {missing}" in text and missing in done.stdout
    written = yaml.safe_load(text)
    assert written["priced_at"] == datetime.now(UTC).date()
    assert set(written["instances"]) == {"ml.g5.2xlarge", "ml.g5.12xlarge", "ml.p5.48xlarge"}
    assert set(written["models"]) == {CLAUDE["model_id"], NOVA["model_id"]}

    where = yaml.safe_load((home / "environments/sandbox.yaml").read_text())
    where["prices"] = str(file)
    (home / "environments/sandbox.yaml").write_text(yaml.safe_dump(where))
    config = resolve_config(
        {**EVALUATION, "candidates": ["claude"]}, environ={"NOVA_JUDGE_CONFIG_DIR": str(home)}
    )
    assert config.prices and config.prices.models[CLAUDE["model_id"]].input == 4.0
    file.write_text("region: us-east-1\npriced_at: 2020-01-01\n")
    again = prices_command(sandbox, home, tmp_path)
    assert again.returncode == 0 and "Write into" not in again.stdout
    assert file.read_text() == text


def test_without_anything_that_has_a_price_the_file_is_still_one(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    home = config_folder(tmp_path / "config", None)
    assert prices_command(sandbox, home, tmp_path).returncode == 0
    written = yaml.safe_load((home / "prices/sandbox.yaml").read_text())
    assert written["models"] == {} and set(written["instances"]) == {"ml.g5.12xlarge"}
