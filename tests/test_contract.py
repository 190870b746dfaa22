"""Facts about what the real SageMaker SDKs send, and that we send the same, field by field."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract import pipeline
from contract.cases import ENDPOINTS, JOBS, KEY, MICRO, RUBRIC, TAGS, Endpoint, Job, Json
from contract.compare import (
    ABSENT,
    Differences,
    blurred,
    differences,
    leaves,
    only_known,
    other,
    replaced,
)
from contract.driven import Driven, arrived, driving, endpoint_requests
from contract.keep import KEPT, KEPT_JOBS
from contract.ours import environment, known, our_endpoint, our_job, recipe_uri
from contract.sdk import ROLE, V2, V3

from include import recipes
from include.config import Judge

pytestmark = pytest.mark.slow

CONTRACT = Path(__file__).parent.parent.parent / "shared" / "contract"


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    with driving(tmp_path_factory.mktemp("contract")) as driven:
        yield driven


@pytest.mark.parametrize("case", JOBS, ids=lambda case: case.key)
def test_the_judge_job_is_the_sdks(driven: Driven, case: Job) -> None:
    theirs = driven.job(case)
    only_known(our_job(case, theirs), theirs, known(case))


@pytest.mark.parametrize("case", JOBS, ids=lambda case: case.key)
def test_the_sdk_uploads_the_recipe_that_we_upload(driven: Driven, case: Job) -> None:
    uri = recipe_uri(case, driven.job(case))
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    body = driven.sandbox.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    options = Judge.model_validate(case.judge())
    ours = recipes.to_yaml(recipes.load(options.recipe, options.overrides))
    assert yaml.safe_load(body) == yaml.safe_load(ours)


@pytest.mark.parametrize("case", ENDPOINTS, ids=lambda case: case.key)
def test_the_endpoint_is_the_sdks(driven: Driven, case: Endpoint) -> None:
    theirs = driven.endpoint(case)
    only_known(our_endpoint(case), theirs, known(case))


@pytest.mark.parametrize("version", [V2, V3])
def test_the_sdk_follows_a_job_to_its_end(driven: Driven, version: str) -> None:
    (case,) = [c for c in JOBS if c.sdk == version and c.wait]
    name = driven.name(case)
    job = driven.sandbox.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_the_sandbox_has_an_answer_to_everything_that_the_sdks_ask(driven: Driven) -> None:
    for version in (V2, V3):
        driven.name(next(case for case in JOBS if case.sdk == version))
    asked = {(row["service"], row["operation"], row["status"]) for row in driven.requests()}
    assert ("iam", "SimulatePrincipalPolicy", 200) in asked  # the newer one, before a job
    assert ("logs", "GetLogEvents", 200) in asked
    assert {status for _, _, status in asked} == {200}


def only(cases: list[Any], key: str) -> Any:
    (found,) = [case for case in cases if case.key == key]
    return found


EVERY_OPTION = [only(JOBS, f"{form}-{MICRO}-every-option") for form in ("v2", "v3")]
OF_THE_DAG = [only(JOBS, f"{form}-{MICRO}-every-option-of-the-dag") for form in ("v2", "v3")]
ENGINE = only(ENDPOINTS, "v2-vllm-every-option")

STUB: Json = {
    "TrainingJobName": "name",
    "StoppingCondition": {"MaxRuntimeInSeconds": 1},
    "HyperParameters": {"sagemaker_recipe_local_path": "recipe/recipe.yaml"},
    "InputDataConfig": [
        {"ChannelName": "recipe", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/recipe"}}}
    ],
}
"""Enough of an SDK's request to see which fields ours has, before any SDK has run."""


def the_change_is_found(ours: Json, theirs: Json, reasons: Differences, path: str) -> None:
    only_known(ours, theirs, reasons)
    for value in (other(leaves(ours)[path]), ABSENT):
        with pytest.raises(AssertionError, match=re.escape(path)):
            only_known(replaced(ours, path, value), theirs, reasons)


@pytest.mark.parametrize(
    ("case", "path"),
    [(case, path) for case in EVERY_OPTION for path in leaves(our_job(case, STUB))],
    ids=lambda value: value if isinstance(value, str) else value.key,
)
def test_a_changed_field_of_the_judge_job_is_found(driven: Driven, case: Job, path: str) -> None:
    theirs = driven.job(case)
    the_change_is_found(our_job(case, theirs), theirs, known(case), path)


@pytest.mark.parametrize("path", leaves(our_endpoint(ENGINE)))
def test_a_changed_field_of_the_endpoint_is_found(driven: Driven, path: str) -> None:
    the_change_is_found(our_endpoint(ENGINE), driven.endpoint(ENGINE), known(ENGINE), path)


def test_a_field_that_only_the_sdk_sends_is_found(driven: Driven) -> None:
    (case, _) = EVERY_OPTION
    theirs = driven.job(case)
    with pytest.raises(AssertionError, match=r"Environment\.NEW"):
        only_known(our_job(case, theirs), {**theirs, "Environment": {"NEW": "1"}}, known(case))


@pytest.mark.parametrize("case", OF_THE_DAG, ids=lambda case: case.key)
def test_what_the_tasks_of_the_dag_send_is_what_the_sdk_sends(
    driven: Driven, case: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, their_endpoint = driven.job(case), driven.endpoint(ENGINE)
    connection = {
        "conn_type": "aws",
        "login": "somebody",
        "password": "something",
        "extra": {"endpoint_url": driven.sandbox.url, "region_name": "us-east-1"},
    }
    statement = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    driven.sandbox.client("iam").put_role_policy(
        RoleName=ROLE.rpartition("/")[2],
        PolicyName="keys",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", json.dumps(connection))
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(tmp_path))
    where = environment({**case.environment(), "tags": {"project": "nova"}})
    pipeline.configure(tmp_path, where)
    model = {"name": "qwen", "provider": "sagemaker", "deploy": ENGINE.deploy}
    sent = pipeline.send(driven.sandbox, where.name, model, case.judge(), run_id=case.key)

    job = arrived(driven.sandbox, "CreateTrainingJob", "TrainingJobName", sent["job"])
    endpoint = endpoint_requests(driven.sandbox, sent["endpoint"])
    for ours in (job, *endpoint.values()):
        assert TAGS[0] in ours.pop("Tags")
    for request in (theirs, *their_endpoint.values()):
        assert request.pop("Tags") == TAGS
    only_known(blurred(job), blurred(theirs), known(case))
    reasons = {**known(ENGINE), "CreateEndpointConfig.KmsKeyId": (ABSENT, KEY)}  # it has none
    only_known(blurred(endpoint), blurred(their_endpoint), reasons)


@pytest.mark.parametrize("case", [*KEPT_JOBS, *ENDPOINTS], ids=lambda case: case.key)
def test_what_is_kept_is_what_the_sdk_still_sends(driven: Driven, case: Job | Endpoint) -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))[case.key]
    live = driven.job(case) if isinstance(case, Job) else driven.endpoint(case)
    assert differences(blurred(kept), blurred(live)) == {}


captured = pytest.mark.skipif(
    not CONTRACT.exists(), reason="the captured requests are not beside the project"
)


@captured
@pytest.mark.parametrize(
    ("key", "scenario", "unlike"),
    [
        (f"v2-{MICRO}-plain", "judge_with_train_channel", set()),
        (f"v2-{RUBRIC}-plain", "rubric_with_train_channel", set()),
        # The captured job had one instance; ours overrides the recipe's replicas.
        (f"v2-{MICRO}-every-option", "judge_all_options", {"ResourceConfig.InstanceCount"}),
        (f"v3-{MICRO}-plain", "judge_with_train_channel", set()),
        (f"v3-{RUBRIC}-plain", "rubric_with_train_channel", set()),
    ],
)
def test_the_captured_jobs_are_what_the_sdks_still_send(
    driven: Driven, key: str, scenario: str, unlike: set[str]
) -> None:
    case = only(JOBS, key)
    file = CONTRACT / f"create_training_job.sagemaker-{case.sdk}.json"
    kept = json.loads(file.read_text())["scenarios"][scenario]["request"]
    assert set(differences(blurred(kept), blurred(driven.job(case)))) == unlike


@captured
def test_the_captured_endpoint_is_what_the_sdk_still_sends(driven: Driven) -> None:
    calls = json.loads((CONTRACT / f"deploy_endpoint.sagemaker-{V2}.json").read_text())["calls"]
    live = driven.endpoint(only(ENDPOINTS, "v2-tgi"))
    for call in calls:
        found = differences(blurred(call["body"]), blurred(live[call["operation"]]))
        assert {path for path in found if not path.startswith("Tags")} == set()
