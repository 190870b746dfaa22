"""What tests of the sandbox ask it to do: models, endpoints and jobs, and how they ended."""

import io
import itertools
import json
import tarfile
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sandbox_server import ROOT, Sandbox

BUCKET = "nova-judge-sandbox"
ROLE = "arn:aws:iam::000000000000:role/nova-judge-execution"
COUNTER = itertools.count()


def name(prefix: str) -> str:
    return f"{prefix}-{next(COUNTER)}"


def create_model(sandbox: Sandbox, model: str, **environment: str) -> None:
    sandbox.client("sagemaker").create_model(
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": "tgi",
            "Environment": {"HF_MODEL_ID": "Tiny/Tiny-1B", **environment},
        },
        Tags=[{"Key": "team", "Value": "search"}],
    )


def create_config(sandbox: Sandbox, config: str, instance_type: str = "ml.g5.2xlarge") -> None:
    """Create an endpoint config of the model of the same name."""
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": config,
        "InstanceType": instance_type,
        "InitialInstanceCount": 1,
    }
    sandbox.client("sagemaker").create_endpoint_config(
        EndpointConfigName=config, ProductionVariants=[variant]
    )


def create_endpoint(
    sandbox: Sandbox, endpoint: str, instance_type: str = "ml.g5.2xlarge", **environment: str
) -> None:
    """Create an endpoint with a model and a config of the same name."""
    create_model(sandbox, endpoint, **environment)
    create_config(sandbox, endpoint, instance_type)
    sandbox.client("sagemaker").create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)


def wait(sandbox: Sandbox, endpoint: str, *states: str) -> dict[str, Any]:
    sagemaker = sandbox.client("sagemaker")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        description = sagemaker.describe_endpoint(EndpointName=endpoint)
        if description["EndpointStatus"] in states:
            return description
        time.sleep(0.05)
    raise AssertionError(description)


def refused(call: Any, code: str = "ValidationException", **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response["Error"]["Message"]


def put_input(
    sandbox: Sandbox,
    folder: str,
    body: str,
    file: str = "llm_judge.jsonl",
    recipe: bytes | str = "nova_micro_llm_judge",
) -> None:
    """Upload a job's input and its recipe: the name of one of ours, or its bytes."""
    s3 = sandbox.client("s3")
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/in/{file}", Body=body.encode())
    content = (ROOT / f"recipes/{recipe}.yaml").read_bytes() if isinstance(recipe, str) else recipe
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/recipe/recipe.yaml", Body=content)


def rows(*pairs: tuple[str, str, str]) -> str:
    keys = ("prompt", "response_A", "response_B")
    return "".join(json.dumps(dict(zip(keys, pair, strict=True))) + "\n" for pair in pairs)


ONE = rows(("Why?", "Because.", "Because of the tides, every day."))


def job_request(folder: str, job: str, **changes: Any) -> dict[str, Any]:
    """Return CreateTrainingJob's request, with some of its fields changed."""

    def channel(which: str, uri: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": uri}
        return {"ChannelName": which, "DataSource": {"S3DataSource": source}}

    root = f"s3://{BUCKET}/{folder}"
    return {
        "TrainingJobName": job,
        "AlgorithmSpecification": {"TrainingImage": "judge", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [channel("train", f"{root}/in"), channel("recipe", f"{root}/recipe")],
        "OutputDataConfig": {"S3OutputPath": f"{root}/out"},
        "ResourceConfig": {
            "InstanceType": "ml.g5.12xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **changes,
    }


def start_job(sandbox: Sandbox, folder: str, job: str, **changes: Any) -> None:
    sandbox.client("sagemaker").create_training_job(**job_request(folder, job, **changes))


def end_of(sandbox: Sandbox, job: str) -> dict[str, Any]:
    sagemaker = sandbox.client("sagemaker")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        description = sagemaker.describe_training_job(TrainingJobName=job)
        if description["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return description
        time.sleep(0.1)
    raise AssertionError(description)


def archive(sandbox: Sandbox, folder: str, job: str) -> dict[str, bytes]:
    key = f"{folder}/out/{job}/output/output.tar.gz"
    body = sandbox.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
