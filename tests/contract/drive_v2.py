"""Scenarios as JSON on stdin, done as a user of sagemaker 2.257.7 does them; what became of each.

Runs in the SDK's own virtual environment; nothing here knows the project.
"""

import json
import sys
import traceback
from typing import Any

import sagemaker
from sagemaker.djl_inference import DJLModel
from sagemaker.huggingface import HuggingFaceModel, get_huggingface_llm_image_uri
from sagemaker.inputs import TrainingInput
from sagemaker.model import Model
from sagemaker.pytorch import PyTorch

MODELS = {"HuggingFaceModel": HuggingFaceModel, "DJLModel": DJLModel, "Model": Model}


def judge(session: Any, scenario: dict[str, Any]) -> str:
    estimator = PyTorch(
        training_recipe=scenario["recipe"],
        image_uri=scenario["image_uri"],
        role=scenario["role"],
        instance_type=scenario["instance_type"],
        output_path=scenario["output_path"],
        base_job_name=scenario["name"],
        sagemaker_session=session,
        **scenario["estimator"],
    )
    train = TrainingInput(
        s3_data=scenario["input_uri"],
        distribution="FullyReplicated",
        s3_data_type="S3Prefix",
    )
    estimator.fit(inputs={"train": train}, wait=scenario["wait"])
    return str(estimator.latest_training_job.name)


def deploy(session: Any, scenario: dict[str, Any]) -> str:
    image = scenario.get("image_uri")
    if image is None:
        image = get_huggingface_llm_image_uri("huggingface", version=scenario["tgi_version"])
    model = MODELS[scenario["class"]](
        image_uri=image,
        role=scenario["role"],
        name=scenario["name"],
        sagemaker_session=session,
        **scenario["model"],
    )
    model.deploy(
        initial_instance_count=1,
        instance_type=scenario["instance_type"],
        endpoint_name=scenario["name"],
        wait=scenario["wait"],
        **scenario["deploy"],
    )
    return str(model.endpoint_name)


def main() -> None:
    session = sagemaker.Session()
    outcomes = {}
    for key, scenario in json.load(sys.stdin).items():
        try:
            does = judge if "recipe" in scenario else deploy
            outcomes[key] = {"name": does(session, scenario)}
        except Exception:  # the others go on
            outcomes[key] = {"error": traceback.format_exc()}
    sys.stdout.write(f"\n{json.dumps(outcomes)}\n")


main()
