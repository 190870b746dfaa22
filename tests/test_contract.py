"""Facts about what the real SageMaker SDKs send, and that we send the same, field by field."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from contract import pipeline, sdk
from contract.cases import (
    ENDPOINTS,
    INPUT,
    JOBS,
    KEY,
    MICRO,
    OUTPUT,
    RUBRIC,
    TAGS,
    V2_CANNOT,
    Endpoint,
    Job,
    Json,
)
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
from contract.sdk import BUCKET, ROLE, V2, V3
from sandbox_server import Sandbox, running_sandbox

from include import deploy, judge, recipes
from include.config import Environment, Judge, SageMakerModel

pytestmark = pytest.mark.slow

CONTRACT = Path(__file__).parent.parent.parent / "shared" / "contract"
QUICK = "endpoint=0.2,delete=0.2,job=0.3"
QUOTAS = ",".join(
    f"{instance_type} for {usage}=100"
    for instance_type, usage in (
        ("ml.g5.2xlarge", "endpoint usage"),
        ("ml.g5.12xlarge", "training job usage"),
        ("ml.p5.48xlarge", "training job usage"),
    )
)
PAIR = {"prompt": "What is the tide?", "response_A": "Water.", "response_B": "The sea's rhythm."}


def requests(url: str, operation: str) -> list[Json]:
    """Return the requests of one operation that reached a sandbox."""
    with urlopen(f"{url}/sandbox/requests?operation={operation}", timeout=30) as answer:
        kept: list[Json] = json.load(answer)["requests"]
    return kept


def arrived(sandbox: Sandbox, operation: str, key: str, name: str) -> Json:
    """Return the body of the one request of an operation whose `key` is `name`, as it came in."""
    (found,) = [row for row in requests(sandbox.url, operation) if row["body"][key] == name]
    assert found["status"] == 200
    body: Json = found["body"]
    return body


def endpoint_requests(sandbox: Sandbox, name: str) -> Json:
    """Return the bodies that created the endpoint of a name, its config and its model."""
    asked = {"CreateModel": "ModelName", "CreateEndpointConfig": "EndpointConfigName"}
    asked |= {"CreateEndpoint": "EndpointName"}
    return {op: arrived(sandbox, op, key, name) for op, key in asked.items()}


class Driven:
    """What the SDKs sent; each SDK does all its cases at once, when the first is asked for."""

    def __init__(self, sandbox: Sandbox, home: Path) -> None:
        self.sandbox, self._home = sandbox, home
        self._outcomes: dict[str, dict[str, dict[str, str]]] = {}

    def name(self, case: Job | Endpoint) -> str:
        """Return how the SDK named the job or endpoint of a case."""
        if case.sdk not in self._outcomes:
            cases = [*JOBS, *ENDPOINTS]
            scenarios = {each.key: each.scenario() for each in cases if each.sdk == case.sdk}
            self._outcomes[case.sdk] = sdk.drive(case.sdk, self.sandbox, scenarios, self._home)
        outcome = self._outcomes[case.sdk][case.key]
        assert "error" not in outcome, outcome["error"]
        return outcome["name"]

    def job(self, case: Job) -> Json:
        return arrived(self.sandbox, "CreateTrainingJob", "TrainingJobName", self.name(case))

    def endpoint(self, case: Endpoint) -> Json:
        return endpoint_requests(self.sandbox, self.name(case))


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    settings = {"sandbox_delays": QUICK, "sandbox_quotas": QUOTAS}
    with running_sandbox(tmp_path_factory.mktemp("contract"), **settings) as sandbox:
        body = f"{json.dumps(PAIR)}\n"
        sandbox.client("s3").put_object(Bucket=BUCKET, Key=INPUT.split("/", 3)[3], Body=body)
        yield Driven(sandbox, tmp_path_factory.mktemp("home"))


def environment(changes: Json) -> Environment:
    return Environment.model_validate(
        {
            "name": "sandbox",
            "account_id": "000000000000",
            "region": "us-east-1",
            "execution_role_arn": ROLE,
            "output_s3_uri": f"s3://{BUCKET}/nova",
            **changes,
        }
    )


def our_job(case: Job, theirs: Json) -> Json:
    """Build our request for the names, the recipe's address and the time limit that they chose."""
    options = Judge.model_validate(case.judge())
    limit = theirs["StoppingCondition"]["MaxRuntimeInSeconds"]
    if options.max_runtime_minutes:
        limit = judge.max_runtime_seconds(1, options.max_runtime_minutes)
    return judge.training_job(
        environment(case.environment()),
        options,
        recipes.load(options.recipe, options.overrides),
        name=theirs["TrainingJobName"],
        input_uri=INPUT,
        recipe_uri=recipe_uri(case, theirs),
        output_uri=OUTPUT,
        max_runtime=limit,
        tags=TAGS if "tags" in case.options else [],
    )


def recipe_uri(case: Job, theirs: Json) -> str:
    (channel,) = [c for c in theirs["InputDataConfig"] if c["ChannelName"] == "recipe"]
    uri: str = channel["DataSource"]["S3DataSource"]["S3Uri"]
    file = theirs["HyperParameters"]["sagemaker_recipe_local_path"].rpartition("/")[2]
    return f"{uri}/{file}" if case.sdk == V2 else uri


def our_endpoint(case: Endpoint) -> Json:
    model = SageMakerModel.model_validate(
        {"name": "qwen", "provider": "sagemaker", "schema": "inputs", "deploy": case.deploy}
    )
    requests = deploy.requests(environment(case.environment), model, name=case.key, tags=TAGS)
    created = {"EndpointName": case.key, "EndpointConfigName": case.key, "Tags": requests["Tags"]}
    (config,) = requests["EndpointConfigs"]
    return {
        "CreateModel": requests["Model"],
        "CreateEndpointConfig": config,
        "CreateEndpoint": created,
    }


def known(case: Job) -> Differences:
    """Return the differences that have a reason."""
    found: Differences = {}
    if "tags" not in case.options:
        found["Tags"] = ([], ABSENT)  # our runs always have tags
    if case.channel == "InputData":
        # The SDK repeats AlgorithmSpecification.TrainingInputMode for a plain S3 URI.
        found["InputDataConfig[0].InputMode"] = (ABSENT, "File")
    if case.sdk == V2:
        for option in case.options:
            alone = V2_CANNOT.get(option, {})
            found |= {path: (value, ABSENT) for path, value in alone.items()}
    return found


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
    known = {path: (ABSENT, value) for path, value in case.theirs_alone.items()}
    known |= {path: (value, ABSENT) for path, value in case.ours_alone.items()}
    only_known(our_endpoint(case), theirs, known)


@pytest.mark.parametrize("version", [V2, V3])
def test_the_sdk_follows_a_job_to_its_end(driven: Driven, version: str) -> None:
    (case,) = [c for c in JOBS if c.sdk == version and c.wait]
    name = driven.name(case)
    job = driven.sandbox.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_the_newer_sdk_asks_what_the_role_may_do_and_gets_an_answer(driven: Driven) -> None:
    driven.name(only(JOBS, f"v3-{MICRO}-plain"))
    asked = requests(driven.sandbox.url, "SimulatePrincipalPolicy")
    assert asked
    assert {row["status"] for row in asked} == {200}


def only(cases: list[Any], key: str) -> Any:
    (found,) = [case for case in cases if case.key == key]
    return found


EVERY_OPTION = [only(JOBS, f"{form}-{MICRO}-every-option") for form in ("v2", "v3")]
OF_THE_DAG = [only(JOBS, f"{form}-{MICRO}-every-option-of-the-dag") for form in ("v2", "v3")]
ENGINE = only(ENDPOINTS, "v2-vllm-every-option")

CHAT = "CreateModel.PrimaryContainer.Environment.MESSAGES_API_ENABLED"
"""Ours for models that get chat messages: without it TGI takes raw text only."""

STUB: Json = {
    "TrainingJobName": "name",
    "StoppingCondition": {"MaxRuntimeInSeconds": 1},
    "HyperParameters": {"sagemaker_recipe_local_path": "recipe/recipe.yaml"},
    "InputDataConfig": [
        {"ChannelName": "recipe", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/recipe"}}}
    ],
}
"""Enough of an SDK's request to see which fields ours has, before any SDK has run."""


def the_change_is_found(ours: Json, theirs: Json, known: Any, path: str) -> None:
    only_known(ours, theirs, known)
    for value in (other(leaves(ours)[path]), ABSENT):
        with pytest.raises(AssertionError, match=re.escape(path)):
            only_known(replaced(ours, path, value), theirs, known)


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
    known = {path: (value, ABSENT) for path, value in ENGINE.ours_alone.items()}
    the_change_is_found(our_endpoint(ENGINE), driven.endpoint(ENGINE), known, path)


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
    reasons: Differences = {p: (v, ABSENT) for p, v in ENGINE.ours_alone.items()}
    reasons[CHAT] = ("true", ABSENT)
    reasons["CreateEndpointConfig.KmsKeyId"] = (ABSENT, KEY)  # this environment has none
    only_known(blurred(endpoint), blurred(their_endpoint), reasons)


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
