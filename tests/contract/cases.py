"""What is asked of both: in the words of our config, and in the words of each SDK.

The two columns are written by hand, side by side; nothing here is derived from our requests.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import ANY

from contract.sdk import BUCKET, ROLE, V2, V3
from sandbox_server import ROOT

Json = dict[str, Any]

INPUT = f"s3://{BUCKET}/contract/llm_judge.jsonl"
OUTPUT = f"s3://{BUCKET}/contract/output"
NOVA = "708977205387.dkr.ecr.us-east-1.amazonaws.com/nova-evaluation-repo:SM-TJ-Eval-V2-latest"
KEY = "arn:aws:kms:us-east-1:123456789012:key/abc"
TAGS = [{"Key": "project", "Value": "nova"}]
NETWORK = {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]}
OVERRIDES = {"run": {"name": "override-name", "replicas": 2}, "inference": {"top_p": 0.9}}


@dataclass(frozen=True)
class Option:
    """One option: the environment's and the judge's keys, PyTorch's arguments, ModelTrainer's."""

    environment: Json = field(default_factory=dict)
    judge: Json = field(default_factory=dict)
    v2: Json = field(default_factory=dict)
    v3: Json = field(default_factory=dict)


OPTIONS = {
    "tags": Option(v2={"tags": TAGS}, v3={"tags": TAGS}),
    "vpc": Option({"vpc": NETWORK}, v2=NETWORK, v3={"networking": NETWORK}),
    "output_key": Option(
        {"kms_key_arn": KEY}, v2={"output_kms_key": KEY}, v3={"output": {"kms_key_id": KEY}}
    ),
    "volume_key": Option(
        {"volume_kms_key_arn": "alias/k"},
        v2={"volume_kms_key": "alias/k"},
        v3={"compute": {"volume_kms_key_id": "alias/k"}},
    ),
    "volume_size": Option(
        judge={"volume_size_gb": 100},
        v2={"volume_size": 100},
        v3={"compute": {"volume_size_in_gb": 100}},
    ),
    "encryption": Option(
        {"encrypt_traffic": True},
        v2={"encrypt_inter_container_traffic": True},
        v3={"networking": {"enable_inter_container_traffic_encryption": True}},
    ),
    "runtime": Option(
        judge={"max_runtime_minutes": 120},
        v2={"max_run": 7200},
        v3={"stopping": {"max_runtime_in_seconds": 7200}},
    ),
    "waiting": Option(
        judge={"max_pending_minutes": 60}, v3={"stopping": {"max_pending_time_in_seconds": 3600}}
    ),
    "overrides": Option(
        judge={"overrides": OVERRIDES},
        v2={"recipe_overrides": OVERRIDES},
        v3={"recipe_overrides": OVERRIDES},
    ),
}

V2_CANNOT = {"waiting": {"StoppingCondition.MaxPendingTimeInSeconds": 3600}}
"""No argument of PyTorch(...) sets it: sagemaker 2.257.7 has the name in generated shapes only."""


def merge(*parts: Mapping[str, Any]) -> Json:
    merged: Json = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **value} if both else copy.copy(value)
    return merged


@dataclass(frozen=True)
class Job:
    """One judge job."""

    sdk: str
    recipe: str
    instance_type: str
    options: tuple[str, ...] = ()
    channel: str = "Channel"
    wait: bool = False

    @property
    def key(self) -> str:
        several = "every-option" if self.options == tuple(OPTIONS) else "every-option-of-the-dag"
        size = several if len(self.options) > 1 else "".join(self.options) or "plain"
        parts = ["v2" if self.sdk == V2 else "v3", self.recipe, size]
        return "-".join(parts + ([self.channel] if self.channel != "Channel" else []))

    def environment(self) -> Json:
        return merge(*(OPTIONS[o].environment for o in self.options))

    def judge(self) -> Json:
        form = {"request_form": "v2" if self.sdk == V2 else "v3"}
        said = {"recipe": self.recipe, "instance_type": self.instance_type, **form}
        return merge(said, *(OPTIONS[o].judge for o in self.options))

    def scenario(self) -> Json:
        given: Json = {
            "recipe": str(ROOT / "recipes" / f"{self.recipe}.yaml"),
            "image_uri": NOVA,
            "role": ROLE,
            "input_uri": INPUT,
            "name": self.key.replace("_", "-")[:36],
            "wait": self.wait,
        }
        if self.sdk == V2:
            options = merge(*(OPTIONS[o].v2 for o in self.options))
            given |= {"instance_type": self.instance_type, "output_path": OUTPUT}
            return {**given, "estimator": options}
        compute = {"compute": {"instance_type": self.instance_type}}
        output = {"output": {"s3_output_path": OUTPUT}}
        options = merge(compute, output, *(OPTIONS[o].v3 for o in self.options))
        if "stopping" in options:  # then this SDK leaves its own default out
            options["stopping"].setdefault("max_runtime_in_seconds", 3600)
        return {**given, "channel": self.channel, **options}


MICRO, RUBRIC, P5 = "nova_micro_llm_judge", "nova_2_lite_rubric_llm_judge", "ml.p5.48xlarge"
JUDGES = {
    MICRO: "ml.g5.12xlarge",
    "nova_lite_llm_judge": "ml.g5.12xlarge",
    "nova_pro_llm_judge": P5,
    RUBRIC: P5,
}
OF_THE_DAG = tuple(option for option in OPTIONS if option != "volume_key")
"""`plan` refuses a volume key for instances with disks of their own, which all judges' are."""

JOBS = [
    *(
        Job(sdk, recipe, instance_type, options, wait=recipe == MICRO and not options)
        for sdk in (V2, V3)
        for recipe, instance_type in JUDGES.items()
        for options in ((), tuple(OPTIONS))
    ),
    *(Job(sdk, MICRO, JUDGES[MICRO], (option,)) for sdk in (V2, V3) for option in OPTIONS),
    *(Job(sdk, MICRO, JUDGES[MICRO], OF_THE_DAG) for sdk in (V2, V3)),
    Job(V3, MICRO, JUDGES[MICRO], channel="InputData"),
]

ARCHIVE = f"s3://{BUCKET}/contract/model.tar.gz"
QWEN = "Qwen/Qwen2.5-1.5B-Instruct"
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
TGI = (
    f"{REGISTRY}/huggingface-pytorch-tgi-inference:2.4.0-tgi3.0.1-gpu-py311-cu124-ubuntu22.04-v2.1"
)
LMI = f"{REGISTRY}/djl-inference:0.36.0-lmi27.0.0-cu130"
VLLM = f"{REGISTRY}/vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker"
HF_VLLM = f"{REGISTRY}/huggingface-vllm:0.29.0-transformers5.15.0-gpu-py312-cu130-ubuntu24.04-v1.0"
CUDA_13 = "al2023-ami-sagemaker-inference-gpu-4-1"
ROUTING = {"routing_config": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}}
G5 = "ml.g5.2xlarge"

EMPTY_FOLDER = {"CreateModel.PrimaryContainer.ModelDataUrl": ANY}
"""ModelBuilder names a folder of its own and puts nothing into it; HF_MODEL_ID is what counts."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: our `deploy` section and environment, the SDK's class and its arguments."""

    key: str
    sdk: str
    deploy: Json
    sdk_class: str
    model: Json
    image_uri: str | None
    deployment: Json
    environment: Json = field(default_factory=dict)
    theirs_alone: Json = field(default_factory=dict)

    def scenario(self) -> Json:
        return {
            "class": self.sdk_class,
            "image_uri": self.image_uri,
            "tgi_version": "3.0.1",
            "role": ROLE,
            "name": self.key,
            "instance_type": G5,
            "tags": TAGS,
            "model": self.model,
            "deploy": {"tags": TAGS, **ROUTING, **self.deployment},
            "wait": False,
        }


def current(image_uri: str, **more: Any) -> Json:
    """Our `deploy` section for an engine of today, whose AMI we choose."""
    said = {"model_id": QWEN, "image_uri": image_uri}
    return {**said, "instance_types": [G5], "container_startup_timeout": 900, **more}


STARTUP = {"container_startup_health_check_timeout": 900}
ON_CUDA_13 = {**STARTUP, "inference_ami_version": CUDA_13}
ENDPOINTS = [
    Endpoint(
        key="v2-tgi",
        sdk=V2,
        deploy={"model_id": QWEN, "instance_types": [G5], "container_startup_timeout": 300},
        sdk_class="HuggingFaceModel",
        model={"env": {"HF_TASK": "text-generation", "HF_MODEL_ID": QWEN}},
        image_uri=None,
        deployment={"container_startup_health_check_timeout": 300},
    ),
    Endpoint(
        key="v2-vllm",
        sdk=V2,
        deploy=current(VLLM),
        sdk_class="Model",
        model={"env": {"HF_MODEL_ID": QWEN}},
        image_uri=VLLM,
        deployment=ON_CUDA_13,
    ),
    Endpoint(
        key="v2-vllm-every-option",
        sdk=V2,
        deploy=current(VLLM, environment={"SM_VLLM_MAX_MODEL_LEN": "8192"}),
        sdk_class="Model",
        model={
            "env": {"HF_MODEL_ID": QWEN, "SM_VLLM_MAX_MODEL_LEN": "8192"},
            "vpc_config": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        },
        image_uri=VLLM,
        deployment={**ON_CUDA_13, "kms_key": KEY},
        environment={"vpc": NETWORK, "volume_kms_key_arn": KEY},
    ),
    Endpoint(
        key="v2-lmi",
        sdk=V2,
        deploy=current(LMI, environment={"OPTION_MAX_MODEL_LEN": "8192"}),
        sdk_class="Model",
        model={"env": {"HF_MODEL_ID": QWEN, "OPTION_MAX_MODEL_LEN": "8192"}},
        image_uri=LMI,
        deployment=ON_CUDA_13,
    ),
    Endpoint(
        key="v2-lmi-djl-model",
        sdk=V2,
        deploy=current(LMI),
        sdk_class="DJLModel",
        model={"model_id": QWEN},
        image_uri=LMI,
        deployment=ON_CUDA_13,
        theirs_alone={"CreateModel.PrimaryContainer.Environment.OPTION_ENGINE": "Python"},
    ),
    Endpoint(
        key="v2-lmi-model-data",
        sdk=V2,
        deploy=current(
            LMI, model_id=None, model_data=ARCHIVE, environment={"OPTION_MAX_MODEL_LEN": "8192"}
        ),
        sdk_class="Model",
        model={"model_data": ARCHIVE, "env": {"OPTION_MAX_MODEL_LEN": "8192"}},
        image_uri=LMI,
        deployment=ON_CUDA_13,
    ),
    Endpoint(
        key="v2-huggingface-vllm",
        sdk=V2,
        deploy=current(HF_VLLM),
        sdk_class="Model",
        model={"env": {"HF_MODEL_ID": QWEN}},
        image_uri=HF_VLLM,
        deployment=ON_CUDA_13,
    ),
    Endpoint(
        key="v3-vllm",
        sdk=V3,
        deploy=current(VLLM),
        sdk_class="ModelBuilder",
        model={"env_vars": {"HF_MODEL_ID": QWEN}},
        image_uri=VLLM,
        deployment=ON_CUDA_13,
        theirs_alone=EMPTY_FOLDER,
    ),
    Endpoint(
        key="v3-lmi",
        sdk=V3,
        deploy=current(LMI),
        sdk_class="ModelBuilder",
        model={"env_vars": {"HF_MODEL_ID": QWEN}},
        image_uri=LMI,
        deployment=STARTUP,  # this SDK finds the AMI by itself, from cu130 in the image's tag
        theirs_alone=EMPTY_FOLDER,
    ),
]
