"""Facts about what is sent to SageMaker: equal to what its SDK sends, field by field."""

import json
from pathlib import Path
from typing import Any

import pytest

from include import deploy, judge, names, recipes
from include.config import Environment, Judge, SageMakerModel
from include.errors import ConfigError

CONTRACT = Path(__file__).parent.parent.parent / "shared" / "contract"
captured = pytest.mark.skipif(
    not CONTRACT.exists(), reason="the captured requests are not beside the project"
)

ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole"
ENVIRONMENT: dict[str, Any] = {
    "name": "prod",
    "account_id": "123456789012",
    "region": "us-east-1",
    "execution_role_arn": ROLE,
    "output_s3_uri": "s3://my-eval-bucket/nova",
}


def environment(**changes: Any) -> Environment:
    return Environment.model_validate({**ENVIRONMENT, **changes})


def job(where: Environment, recipe: str = "nova_micro_llm_judge", **options: Any) -> dict[str, Any]:
    return judge.training_job(
        where,
        Judge.model_validate(options),
        recipes.load(recipe),
        name="the-name",
        input_uri="s3://b/llm_judge.jsonl",
        recipe_uri="s3://b/recipe/recipe.yaml",
        output_uri="s3://b/out",
        max_runtime=3600,
        tags=[{"Key": "project", "Value": "nova"}],
    )


def ours_is_the_sdks(sdk: str, scenario: str, ours: dict[str, Any]) -> None:
    file = CONTRACT / f"create_training_job.sagemaker-{sdk}.json"
    theirs = json.loads(file.read_text())["scenarios"][scenario]["request"]
    # Names, URIs and the time limit are each run's own; tags are ours, always.
    for request in (ours, theirs):
        request.pop("Tags", None)
        request["TrainingJobName"] = request["StoppingCondition"] = None
        request["OutputDataConfig"].pop("S3OutputPath")
        request["HyperParameters"].pop("sagemaker_recipe_local_path")
        for channel in request["InputDataConfig"]:
            channel["DataSource"]["S3DataSource"].pop("S3Uri")
    assert ours == theirs


V2, V3 = "2.257.7", "3.27.0"
RUBRIC = "nova_2_lite_rubric_llm_judge"
P5 = "ml.p5.48xlarge"


@captured
def test_the_judge_job_is_the_sdks() -> None:
    ours_is_the_sdks(V2, "judge_with_train_channel", job(environment()))


@captured
def test_the_rubric_judge_job_is_the_sdks() -> None:
    ours = job(environment(), RUBRIC, instance_type=P5)
    ours_is_the_sdks(V2, "rubric_with_train_channel", ours)


@captured
def test_the_judge_job_with_every_option_is_the_sdks() -> None:
    where = environment(
        vpc={"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]},
        kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/abc",
        volume_kms_key_arn="alias/k",
        encrypt_traffic=True,
    )
    ours_is_the_sdks(V2, "judge_all_options", job(where, volume_size_gb=100))


@captured
@pytest.mark.parametrize(
    ("scenario", "recipe", "instance_type"),
    [
        ("judge_with_train_channel", "nova_micro_llm_judge", "ml.g5.12xlarge"),
        ("rubric_with_train_channel", RUBRIC, P5),
    ],
)
def test_the_judge_job_in_the_newer_form_is_the_newer_sdks(
    scenario: str, recipe: str, instance_type: str
) -> None:
    ours = job(environment(), recipe, instance_type=instance_type, request_form="v3")
    ours_is_the_sdks(V3, scenario, ours)


def test_the_recipe_channel_is_a_folder_or_in_the_newer_form_the_file() -> None:
    for form, uri in (("v2", "s3://b/recipe"), ("v3", "s3://b/recipe/recipe.yaml")):
        channel = job(environment(), request_form=form)["InputDataConfig"][1]
        assert channel["DataSource"]["S3DataSource"]["S3Uri"] == uri


def test_a_job_may_wait_for_capacity() -> None:
    stopping = job(environment(), max_pending_minutes=60)["StoppingCondition"]
    assert stopping == {"MaxRuntimeInSeconds": 3600, "MaxPendingTimeInSeconds": 3600}


def test_a_key_for_the_output_encrypts_no_volume() -> None:
    request = job(environment(kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/abc"))
    assert request["OutputDataConfig"]["KmsKeyId"].endswith("key/abc")
    assert "VolumeKmsKeyId" not in request["ResourceConfig"]


def test_a_job_is_known_again_by_what_it_does_not_by_aws_defaults() -> None:
    request = job(environment())
    description = json.loads(json.dumps(request))
    description["OutputDataConfig"] |= {"KmsKeyId": "", "CompressionType": "GZIP"}
    description["InputDataConfig"][0] |= {"CompressionType": "None", "RecordWrapperType": "None"}
    assert judge.differences(request, description) == []
    description["HyperParameters"]["base_model"] = "nova-lite/prod"
    assert judge.differences(request, description) == ["HyperParameters"]


def test_the_judges_image_is_known_by_region_and_can_be_given() -> None:
    assert judge.image_uri(environment(region="us-west-2")).startswith(
        "176779409107.dkr.ecr.us-west-2"
    )
    assert judge.image_uri(environment(judge_image_uri="mine:1")) == "mine:1"
    with pytest.raises(ConfigError, match="set judge_image_uri"):
        judge.image_uri(environment(region="eu-central-1"))


@pytest.mark.parametrize(
    ("pairs", "minutes", "seconds"),
    [(0, None, 3600), (100, None, 5100), (1_000_000, None, 86_400), (9, 5, 300), (9, 1440, 86_400)],
)
def test_the_time_limit_grows_with_the_pairs_and_is_capped(
    pairs: int, minutes: int | None, seconds: int
) -> None:
    assert judge.max_runtime_seconds(pairs, minutes) == seconds


def model(**changes: Any) -> SageMakerModel:
    given = {
        "model_id": "Qwen/Qwen2.5-1.5B-Instruct",
        "instance_types": ["ml.g5.2xlarge", "ml.g5.4xlarge"],
        "container_startup_timeout": 300,
    }
    return SageMakerModel.model_validate(
        {"name": "qwen", "provider": "sagemaker", "deploy": {**given, **changes}}
    )


@captured
def test_the_endpoint_is_the_sdks() -> None:
    calls = json.loads((CONTRACT / "deploy_endpoint.sagemaker-2.257.7.json").read_text())["calls"]
    theirs = {call["operation"]: call["body"] for call in calls}
    ours = deploy.requests(environment(), model(), name="ours", tags=[])
    created, config = ours["Model"], ours["EndpointConfigs"][0]
    # What the SDK does not send: our tags, and the switch for chat messages.
    assert created["PrimaryContainer"]["Environment"].pop("MESSAGES_API_ENABLED") == "true"
    for request in (created, config, *theirs.values()):
        request.pop("Tags", None)
        for key in ("ModelName", "EndpointConfigName", "ExecutionRoleArn"):
            request.pop(key, None)
        for variant in request.get("ProductionVariants", []):
            variant.pop("ModelName")
    assert created == theirs["CreateModel"]
    assert config == theirs["CreateEndpointConfig"]


def test_there_is_one_endpoint_config_for_each_instance_type_in_order() -> None:
    configs = deploy.requests(environment(), model(image_uri="i"), name="n", tags=[])[
        "EndpointConfigs"
    ]
    assert [c["EndpointConfigName"] for c in configs] == ["n", "n-2"]
    assert [c["ProductionVariants"][0]["InstanceType"] for c in configs] == [
        "ml.g5.2xlarge",
        "ml.g5.4xlarge",
    ]


def test_model_data_and_ami_are_passed_on() -> None:
    given = model(
        model_id=None,
        model_data="s3://bucket/model.tar.gz",
        image_uri="vllm:1",
        ami_version="al2023-ami-sagemaker-inference-gpu-4-1",
        environment={"OPTION_X": "1"},
    )
    requests = deploy.requests(environment(), given, name="n", tags=[])
    container = requests["Model"]["PrimaryContainer"]
    assert container["ModelDataUrl"] == "s3://bucket/model.tar.gz"
    assert container["Environment"]["OPTION_X"] == "1"
    variant = requests["EndpointConfigs"][0]["ProductionVariants"][0]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


@pytest.mark.parametrize(
    ("image", "variables"),
    [
        ("djl-inference:0.36.0-lmi27.0.0-cu130", {"OPTION_REVISION": "main"}),
        ("vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker", {"SM_VLLM_REVISION": "main"}),
    ],
)
def test_other_engines_get_their_own_variables_and_the_ami_that_cuda_13_needs(
    image: str, variables: dict[str, str]
) -> None:
    requests = deploy.requests(
        environment(), model(image_uri=image, revision="main"), name="n", tags=[]
    )
    container = requests["Model"]["PrimaryContainer"]
    assert container["Environment"] == {"HF_MODEL_ID": "Qwen/Qwen2.5-1.5B-Instruct", **variables}
    variant = requests["EndpointConfigs"][0]["ProductionVariants"][0]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


def test_a_folder_is_no_model_archive() -> None:
    with pytest.raises(ValueError, match="model_data"):
        model(model_id=None, model_data="s3://bucket/model/")


@pytest.mark.parametrize(
    "run_id", ["manual__2026-11-24T06:00:00+00:00", "a~b", "ü" * 300, "x" * 300, "--", ""]
)
def test_names_are_what_aws_takes_and_differ_for_different_runs(run_id: str) -> None:
    name = names.resource_name("My Evaluation!", "Qwen2.5_1.5B", run_id)
    assert len(f"{name}-20") <= 63
    assert name == names.slug(name)
    assert name != names.resource_name("My Evaluation!", "Qwen2.5_1.5B", f"{run_id}x")
    assert names.run_slug("d", run_id) != names.run_slug("d", f"{run_id}!")
