"""Six prompts on AWS under a cap; everything deleted, and what AWS said written into a bundle.

The bundle is compared with what the sandbox says: so the sandbox is seen to be wrong where it is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.config import BedrockModel, RunConfig, SageMakerModel
from include.config_files import load_environment, resolve_config
from include.errors import ConfigError, JudgeError
from scripts import doctor, local
from scripts.acceptance import bundle
from scripts.acceptance.bundle import Bundle
from scripts.acceptance.journal import Client
from scripts.acceptance.trial import MINUTES, Trial
from scripts.command import plainly

EVALUATION = "acceptance"
PROMPTS = local.ROOT / "include" / "samples" / "prompts.jsonl"
COUNT = 6
TOKENS = 200
"""Longest response of the candidate."""

ASKING = 20
"""Minutes that six prompts at once may take, all retries and time limits included."""

GEOGRAPHIES = {"us": "us", "eu": "eu", "ap": "apac", "ca": "us"}
"""Inference profile by the first part of a region."""


@dataclass(frozen=True)
class Options:
    """What is run where."""

    environment: str
    bedrock: str | None = None
    """Bedrock model; default: Amazon Nova Micro."""
    model: str | None = None
    """A model with `deploy`, by name; None: no endpoint, the Bedrock model answers twice."""
    minutes: int = MINUTES


def conf(options: Options, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the evaluation: six prompts of our own, two models, the cheapest judge.

    Raises:
        ConfigError: No such environment or model, or the model has nothing to deploy.
    """
    given: dict[str, Any] = {
        "evaluation": EVALUATION,
        "environment": options.environment,
        "dataset": {
            "source": str(PROMPTS),
            "id_field": "id",
            "category_field": "category",
            "limit": COUNT,
        },
        "judge": {"max_runtime_minutes": options.minutes, "min_consistency": 0.0},
        "generation": {"max_error_rate": 0.5},
    }
    bedrock = {"provider": "bedrock", "model_id": options.bedrock or "placeholder"}
    candidate = {**bedrock, "name": "bedrock", "parameters": {"max_tokens": TOKENS}}
    shorter = {**bedrock, "name": "bedrock-short", "parameters": {"max_tokens": TOKENS // 10}}
    baseline = options.model or shorter
    config = resolve_config({**given, "baseline": baseline, "candidates": [candidate]}, environ)
    model_id = options.bedrock or default_model(config.environment.region)
    candidate["model_id"] = shorter["model_id"] = model_id
    if options.model:
        given["baseline"] = _smallest(options.model, config.baseline)
    else:
        given["baseline"] = shorter
    return {**given, "candidates": [candidate]}


def default_model(region: str) -> str:
    """Return Amazon Nova Micro's inference profile for a region.

    Example:
        >>> default_model("ap-northeast-1")
        'apac.amazon.nova-micro-v1:0'
    """
    return f"{GEOGRAPHIES.get(region.partition('-')[0], 'us')}.amazon.nova-micro-v1:0"


def _smallest(name: str, model: Any) -> dict[str, Any]:
    """Return a model to deploy as an inline one, on its smallest instance type only."""
    if not isinstance(model, SageMakerModel) or model.deploy is None:
        raise ConfigError(f"MODEL={name}: expected a model with deploy, to create an endpoint of")
    dumped = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    smallest = min(model.deploy.instance_types, key=_size)
    deploy = {**dumped["deploy"], "instance_types": [smallest]}
    return {**dumped, "name": "endpoint", "deploy": deploy}


def _size(instance_type: str) -> int:
    found = re.search(r"\.(\d*)xlarge$", instance_type)
    return int(found[1] or 1) if found else 0


def cost(config: RunConfig, minutes: int) -> list[str]:
    """Say what a run costs at the most; AWS's price list turns it into money."""
    lines = [
        f"1 x {config.judge.instance_type} for training, at most {minutes} minutes; "
        "AWS bills what the job uses"
    ]
    for model in config.models:
        if isinstance(model, SageMakerModel) and model.deploy:
            lines.append(
                f"1 x {model.deploy.instance_types[0]} behind an endpoint, at most "
                f"{minutes + ASKING} minutes and what AWS takes to delete it"
            )
    asked = [model for model in config.models if isinstance(model, BedrockModel)]
    requests = (COUNT + 1) * len(asked)
    return [*lines, f"{requests} requests to {asked[0].model_id}, at most {TOKENS} tokens each"]


def replay(theirs: Bundle, environment: str, client: Client) -> list[str]:
    """Do again, in an environment, what a bundle tells of, and say what is answered differently.

    Args:
        theirs: A bundle, usually from AWS.
        environment: Name of the environment, usually the sandbox.
        client: Makes boto3 clients for it.

    Raises:
        JudgeError: The run did not get to its end there.
    """
    conf = json.loads(json.dumps(theirs.manifest["conf"]))
    conf["environment"] = environment
    conf["dataset"]["source"] = str(PROMPTS)
    again = Trial(conf, client)
    failed = again.run()
    if failed and not theirs.manifest["failed"]:
        raise JudgeError(f"the run did not get to its end in {environment}: {failed}")
    ours = again.bundle(failed)
    return bundle.differences(theirs, bundle.redacted(ours, again.redactor()))


def start(options: Options, confirmed: bool, client: Client, out: Path) -> int:
    """Say what a run costs; if that was confirmed, run and write the bundle.

    Returns:
        0 if it got to its end and nothing is left, 1 if not, 2 if it was not confirmed.
    """
    given = conf(options)
    run = Trial(given, client)
    where = run.config.environment
    print(f"In account {where.account_id}, {where.region}, this run costs:")
    print("\n".join(f"  - {line}" for line in cost(run.config, options.minutes)))
    if not confirmed:
        print("Nothing was started. To start it, add CONFIRM=1.")
        return 2
    failed = run.run()
    # First what costs money: whatever kept it from being deleted may keep the bundle from its end.
    for line in run.undo.left:
        print(f"Left      {line}", file=sys.stderr)
    if failed:
        print(f"The run did not get to its end: {failed}", file=sys.stderr)
    path = out / f"acceptance-{run.started:%Y-%m-%dT%H%M%S}.zip"
    bundle.write(run.bundle(failed), run.redactor(), path)
    print(f"\nBundle    {path}\nLook into it before you pass it on.")
    return int(bool(failed or run.undo.left))


@plainly
def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make acceptance", description=__doc__)
    parser.add_argument("--env", default="sandbox", help="environment (ENV=)")
    parser.add_argument("--bedrock", help="Bedrock model; default: Nova Micro (BEDROCK=)")
    parser.add_argument("--model", help="a model to deploy, by name (MODEL=)")
    parser.add_argument("--minutes", type=int, default=MINUTES, help="cap, default 60 (MINUTES=)")
    parser.add_argument(
        "--yes", action="store_true", help="start what was said to cost (CONFIRM=1)"
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the bundle (OUT=)")
    parser.add_argument("--compare", type=Path, help="do what this bundle did, compare (COMPARE=)")
    parser.add_argument("--cwd", type=Path, default=Path.cwd(), help="where paths start")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _command(arguments)


def _command(arguments: argparse.Namespace) -> int:
    client = doctor.reach(load_environment(arguments.env))
    if arguments.compare:
        theirs = bundle.read(arguments.cwd / arguments.compare)
        found = replay(theirs, arguments.env, client)
        print("\n".join(found) or f"{arguments.env} answers as the bundle says")
        return int(bool(found))
    options = Options(arguments.env, arguments.bedrock, arguments.model, arguments.minutes)
    return start(options, arguments.yes, client, arguments.cwd / arguments.out)


if __name__ == "__main__":
    sys.exit(main())
