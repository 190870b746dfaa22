"""Facts about what the real SageMaker SDKs send, and that we send the same, field by field."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from contract import sdk
from contract.cases import (
    ENDPOINTS,
    INPUT,
    JOBS,
    MICRO,
    OUTPUT,
    RUBRIC,
    TAGS,
    V2_CANNOT,
    Endpoint,
    Job,
    Json,
)
from contract.sdk import BUCKET, ROLE, V2, V3
from sandbox_server import Sandbox, running_sandbox

from include import deploy, judge, recipes
from include.config import Environment, Judge, SageMakerModel

pytestmark = pytest.mark.slow

CONTRACT = Path(__file__).parent.parent.parent / "shared" / "contract"
ABSENT = "(absent)"
QUICK = "endpoint=0.2,delete=0.2,job=0.3"
PAIR = {"prompt": "What is the tide?", "response_A": "Water.", "response_B": "The sea's rhythm."}


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Flatten a request: `ResourceConfig.InstanceType` to its value, for every leaf."""
    if isinstance(tree, dict) and tree:
        parts = [leaves(v, f"{path}.{k}" if path else k) for k, v in tree.items()]
    elif isinstance(tree, list) and tree:
        parts = [leaves(v, f"{path}[{i}]") for i, v in enumerate(tree)]
    else:
        return {path: tree}
    return {key: value for part in parts for key, value in part.items()}


def differences(ours: Json, theirs: Json) -> dict[str, tuple[Any, Any]]:
    """Return every leaf that is not the same on both sides, with both values."""
    mine, yours = leaves(ours), leaves(theirs)
    pairs = {p: (mine.get(p, ABSENT), yours.get(p, ABSENT)) for p in sorted({*mine, *yours})}
    # 0 is not False, and 1 is not 1.0: AWS takes them for different types.
    return {p: (a, b) for p, (a, b) in pairs.items() if (type(a), a) != (type(b), b)}


def only_known(ours: Json, theirs: Json, known: dict[str, tuple[Any, Any]]) -> None:
    """Fail on a difference without a reason, and on a reason without its difference."""
    found = differences(ours, theirs)
    lines = [
        f"{path}: ours and the SDK's are {found.get(path, 'equal')}, expected {known.get(path)}"
        for path in sorted({*found, *known})
        if found.get(path) != known.get(path)
    ]
    assert not lines, "\n".join(["", *lines])


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
        name = self.name(case)
        asked = {"CreateModel": "ModelName", "CreateEndpointConfig": "EndpointConfigName"}
        asked |= {"CreateEndpoint": "EndpointName"}
        return {op: arrived(self.sandbox, op, key, name) for op, key in asked.items()}


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    with running_sandbox(tmp_path_factory.mktemp("contract"), sandbox_delays=QUICK) as sandbox:
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


def known(case: Job) -> dict[str, tuple[Any, Any]]:
    """Return the differences that have a reason."""
    found: dict[str, tuple[Any, Any]] = {}
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


def replaced(request: Json, path: str, value: Any) -> Json:
    """Return a copy with one leaf replaced, or without it where the value is ABSENT."""
    changed = copy.deepcopy(request)
    steps = [int(s) if s.isdigit() else s for s in re.findall(r"[^.\[\]]+", path)]
    place: Any = changed
    for step in steps[:-1]:
        place = place[step]
    if value == ABSENT:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    return changed


def other(value: Any) -> Any:
    """Return another value of the same type."""
    return not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)


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


captured = pytest.mark.skipif(
    not CONTRACT.exists(), reason="the captured requests are not beside the project"
)
OWN = re.compile(
    r"TrainingJobName|RoleArn|ExecutionRoleArn|ModelName|EndpointConfigName|S3Uri|S3OutputPath"
    r"|sagemaker_recipe_local_path|MaxRuntimeInSeconds"
)
"""Leaves that every run has its own values for."""


def blurred(request: Json) -> Json:
    return {p: "(its own)" if OWN.search(p) else v for p, v in leaves(request).items()}


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
