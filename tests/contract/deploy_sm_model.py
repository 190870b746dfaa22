"""Deploy Qwen2.5-1.5B-Instruct under the name that is given: what the notebook calls and lacks."""

import sys

import sagemaker
from sagemaker.huggingface import HuggingFaceModel, get_huggingface_llm_image_uri

ROLE = "arn:aws:iam::000000000000:role/nova-judge-execution"


def main() -> None:
    (name,) = sys.argv[1:]
    model = HuggingFaceModel(
        role=ROLE,
        image_uri=get_huggingface_llm_image_uri("huggingface", version="3.0.1"),
        env={"HF_TASK": "text-generation", "HF_MODEL_ID": "Qwen/Qwen2.5-1.5B-Instruct"},
        sagemaker_session=sagemaker.Session(),
    )
    model.deploy(
        endpoint_name=name,
        initial_instance_count=1,
        instance_type="ml.g5.2xlarge",
        container_startup_health_check_timeout=300,
        routing_config={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    )


main()
