"""AWS's notebook as a script: an endpoint, two loops, a judge job, six panels.

    python FILE URL PROMPTS ROLE IMAGE

Its steps and their order, one prompt after the other, and the pauses of the SageMaker SDK: 30 s
between two looks at an endpoint, 10 s between two looks at a job. It leaves the endpoint running.
"""

import io
import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import matplotlib as mpl

from bench.peers.notebook_loop import ask_claude, ask_endpoint

mpl.use("Agg")
from matplotlib import pyplot

BUCKET = "nova-judge-sandbox"
RECIPE = Path("recipes/nova_micro_llm_judge.yaml")
ENDPOINT = "qwen25"
ENDED = ("Completed", "Failed", "Stopped")


def main(url: str, prompts: list[str], role: str, image: str) -> None:
    """Run all cells."""
    client = {
        service: boto3.client(service, endpoint_url=url)
        for service in ("sagemaker", "sagemaker-runtime", "bedrock-runtime", "s3")
    }
    deploy(client["sagemaker"], role)
    rows = [row(client, prompt) for prompt in prompts]
    home = f"notebook/{uuid4().hex}"
    body = "\n".join(map(json.dumps, rows))
    client["s3"].put_object(Bucket=BUCKET, Key=f"{home}/in/llm_judge.jsonl", Body=body)
    client["s3"].put_object(
        Bucket=BUCKET, Key=f"{home}/recipe/recipe.yaml", Body=RECIPE.read_bytes()
    )
    job = judge(client["sagemaker"], home, role, image)
    key = f"{home}/out/{job}/output/output.tar.gz"
    archive = client["s3"].get_object(Bucket=BUCKET, Key=key)["Body"].read()
    counts = results(archive)
    draw(counts)
    sys.stdout.write(json.dumps({"pairs": len(prompts), **counts}) + "\n")


def deploy(sagemaker: Any, role: str) -> None:
    """Create the endpoint and wait for it."""
    container = {"Image": "763104351884.dkr.ecr.us-east-1.amazonaws.com/tgi:latest"}
    container_environment = {"HF_MODEL_ID": "Qwen/Qwen2.5-1.5B-Instruct"}
    sagemaker.create_model(
        ModelName=ENDPOINT,
        PrimaryContainer={**container, "Environment": container_environment},
        ExecutionRoleArn=role,
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": ENDPOINT,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.g5.2xlarge",
    }
    sagemaker.create_endpoint_config(EndpointConfigName=ENDPOINT, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    while sagemaker.describe_endpoint(EndpointName=ENDPOINT)["EndpointStatus"] == "Creating":
        time.sleep(30)


def row(client: dict[str, Any], prompt: str) -> dict[str, str]:
    """Ask both models; an error becomes the answer."""
    texts = []
    for ask, service in ((ask_endpoint, "sagemaker-runtime"), (ask_claude, "bedrock-runtime")):
        try:
            texts.append(ask(client[service], prompt))
        except Exception as error:  # the notebook's way
            texts.append(f"[generation failed: {error}]")
    return {"prompt": prompt, "response_A": texts[0], "response_B": texts[1]}


def judge(sagemaker: Any, home: str, role: str, image: str) -> str:
    """Start the judge job as the SDK's estimator does, wait for it, return its name."""
    name = f"notebook-{uuid4().hex[:12]}"

    def channel(kind: str, place: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{home}/{place}"}
        return {"ChannelName": kind, "DataSource": {"S3DataSource": source}}

    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn=role,
        InputDataConfig=[channel("train", "in/llm_judge.jsonl"), channel("recipe", "recipe")],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/{home}/out"},
        ResourceConfig={
            "InstanceType": "ml.g5.12xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 86_400},
        HyperParameters={
            "model_type": "amazon.nova-micro-v1:0:128k",
            "base_model": "nova-micro/prod",
            "sagemaker_recipe_local_path": "/opt/ml/input/data/recipe/recipe.yaml",
        },
    )
    while sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] not in ENDED:
        time.sleep(10)
    return name


def results(archive: bytes) -> dict[str, Any]:
    """Read the counts out of the archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        (member,) = [m for m in files if "/eval_results/results_" in m.name]
        file = files.extractfile(member)
        assert file
        found: dict[str, Any] = json.load(file)["results"]["all"]
    return found


def draw(counts: dict[str, Any]) -> None:
    """Draw six panels of the counts."""
    figure, axes = pyplot.subplots(2, 3, figsize=(16, 12))
    numbers = [counts[key] for key in ("a_scores", "b_scores", "ties", "inference_error")]
    for axis in axes.flat[:3]:
        axis.bar(["A", "B", "ties", "errors"], numbers)
    axes.flat[3].barh(["win rate"], [counts["winrate"]])
    axes.flat[4].pie([number + 1e-9 for number in numbers])
    axes.flat[5].table([[str(number)] for number in numbers])
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        figure.savefig(file.name, bbox_inches="tight")


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    main(sys.argv[1], [json.loads(line)["prompt"] for line in lines], *sys.argv[3:5])
