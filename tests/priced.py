"""A config folder with prices, as a user would have it, for tests of cost."""

from pathlib import Path
from typing import Any

import yaml

SANDBOX = {
    "account_id": "000000000000",
    "region": "us-east-1",
    "aws_conn_id": "aws_sandbox",
    "execution_role_arn": "arn:aws:iam::000000000000:role/nova-judge-execution",
    "output_s3_uri": "s3://nova-judge-sandbox/priced",
    "poll_seconds": 1,
}
NOVA, CLAUDE = "us.amazon.nova-micro-v1:0", "us.anthropic.claude-sonnet-4-6"
PRICES: dict[str, Any] = {
    "priced_at": "2026-11-25",
    "currency": "USD",
    "region": "us-east-1",
    "instances": {
        "ml.g5.12xlarge": {"training": 7.2},
        "ml.g5.2xlarge": {"hosting": 1.8},
        "ml.p5.48xlarge": {"training": 100.0, "hosting": 110.0},
    },
    "models": {
        NOVA: {"input": 40.0, "output": 160.0, "batch_input": 20.0, "batch_output": 80.0},
        CLAUDE: {"input": 3000.0, "output": 15000.0},
    },
}


def config_folder(folder: Path, prices: dict[str, Any] | str | None, **environment: Any) -> Path:
    """Write an environment `sandbox` and its price file.

    Args:
        folder: An empty one.
        prices: Content of the price file; None: there is none.
        environment: Keys to change.
    """
    for kind in ("environments", "models", "evaluations"):
        (folder / kind).mkdir(parents=True)
    where = {**SANDBOX, **environment}
    if prices is not None:
        file = folder / "prices.yaml"
        file.write_text(prices if isinstance(prices, str) else yaml.safe_dump(prices))
        where["prices"] = str(file)
    (folder / "environments/sandbox.yaml").write_text(yaml.safe_dump(where))
    return folder
