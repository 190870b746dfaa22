"""Scenarios as JSON on stdin, done as a user of sagemaker 3.27.0 does them; what became of each.

Runs in the SDK's own virtual environment; nothing here knows the project.
"""

import json
import sys
import traceback
from typing import Any

from sagemaker.core.helper.session_helper import Session
from sagemaker.core.shapes import Channel, DataSource, S3DataSource, Tag
from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import (
    Compute,
    InputData,
    Networking,
    OutputDataConfig,
    StoppingCondition,
)


def channel(uri: str) -> Any:
    source = S3DataSource(
        s3_data_type="S3Prefix", s3_uri=uri, s3_data_distribution_type="FullyReplicated"
    )
    return Channel(channel_name="train", data_source=DataSource(s3_data_source=source))


def input_data(uri: str) -> Any:
    return InputData(channel_name="train", data_source=uri)


CHANNELS = {"Channel": channel, "InputData": input_data}


def judge(session: Any, scenario: dict[str, Any]) -> str:
    options: dict[str, Any] = {}
    if "networking" in scenario:
        options["networking"] = Networking(**scenario["networking"])
    if "tags" in scenario:
        options["tags"] = [Tag(key=t["Key"], value=t["Value"]) for t in scenario["tags"]]
    if "recipe_overrides" in scenario:
        options["recipe_overrides"] = scenario["recipe_overrides"]
    if "stopping" in scenario:
        options["stopping_condition"] = StoppingCondition(**scenario["stopping"])
    trainer = ModelTrainer.from_recipe(
        training_recipe=scenario["recipe"],
        training_image=scenario["image_uri"],
        role=scenario["role"],
        compute=Compute(**scenario["compute"]),
        output_data_config=OutputDataConfig(**scenario["output"]),
        base_job_name=scenario["name"],
        sagemaker_session=session,
        **options,
    )
    train = CHANNELS[scenario["channel"]](scenario["input_uri"])
    trainer.train(input_data_config=[train], wait=scenario["wait"])
    return str(trainer._latest_training_job.training_job_name)


def deploy(session: Any, scenario: dict[str, Any]) -> str:
    builder = ModelBuilder(
        image_uri=scenario["image_uri"],
        role_arn=scenario["role"],
        sagemaker_session=session,
        instance_type=scenario["instance_type"],
        **scenario["model"],
    )
    builder.build(model_name=scenario["name"], tags=scenario.get("tags"))
    endpoint = builder.deploy(
        endpoint_name=scenario["name"],
        initial_instance_count=1,
        instance_type=scenario["instance_type"],
        wait=scenario["wait"],
        **scenario["deploy"],
    )
    return str(endpoint.endpoint_name)


def main() -> None:
    session = Session()
    outcomes = {}
    for key, scenario in json.load(sys.stdin).items():
        try:
            does = judge if "recipe" in scenario else deploy
            outcomes[key] = {"name": does(session, scenario)}
        except Exception:  # the others go on
            outcomes[key] = {"error": traceback.format_exc()}
    sys.stdout.write(f"\n{json.dumps(outcomes)}\n")


main()
