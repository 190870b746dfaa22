"""Facts about the sandbox's models, endpoint configs and endpoints, seen by boto3 over HTTP."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import ROLE, create_config, create_endpoint, create_model, name, refused, wait


def post(sandbox: Sandbox, operation: str, body: str) -> requests.Response:
    target, kind = f"SageMaker.{operation}", "application/x-amz-json-1.1"
    headers = {"X-Amz-Target": target, "Content-Type": kind}
    return requests.post(sandbox.url, data=body, headers=headers, timeout=10)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Sandbox]:
    """Slow enough for a request to arrive while something is going on."""
    with running_sandbox(tmp_path, sandbox_delays="endpoint=2,delete=0") as running:
        yield running


def test_an_endpoint_comes_into_service_answers_and_goes(sandbox: Sandbox) -> None:
    endpoint = name("life")
    create_endpoint(sandbox, endpoint)
    sagemaker, runtime = sandbox.client("sagemaker"), sandbox.client("sagemaker-runtime")
    body = json.dumps({"messages": [{"role": "user", "content": "Why is the sky blue?"}]})
    wait(sandbox, endpoint, "InService")
    answer = json.loads(runtime.invoke_endpoint(EndpointName=endpoint, Body=body)["Body"].read())
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    sagemaker.delete_endpoint(EndpointName=endpoint)
    sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 5}
    )
    sagemaker.delete_endpoint_config(EndpointConfigName=endpoint)
    sagemaker.delete_model(ModelName=endpoint)


def test_an_endpoint_that_is_being_created_neither_answers_nor_can_be_changed(
    tmp_path: Path,
) -> None:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=600") as slow:
        create_endpoint(slow, "early")
        invoke = slow.client("sagemaker-runtime").invoke_endpoint
        assert "not found" in refused(invoke, "ValidationError", EndpointName="early", Body="{}")
        sagemaker = slow.client("sagemaker")
        message = refused(sagemaker.delete_endpoint, EndpointName="early")
        assert message.startswith("Cannot update in-progress endpoint")
        update = {"EndpointName": "early", "EndpointConfigName": "early"}
        message = refused(sagemaker.update_endpoint, **update)
        assert message.startswith("Cannot update in-progress endpoint")


def test_a_container_that_does_not_start_makes_the_endpoint_fail(sandbox: Sandbox) -> None:
    endpoint = name("broken")
    create_endpoint(sandbox, endpoint, SANDBOX_FAIL="the ping health check failed")
    assert "ping" in wait(sandbox, endpoint, "Failed")["FailureReason"]


def test_what_exists_is_not_created_again_and_what_does_not_is_not_found(sandbox: Sandbox) -> None:
    model = name("twice")
    create_model(sandbox, model)
    sagemaker = sandbox.client("sagemaker")
    again = refused(
        sagemaker.create_model,
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "tgi"},
    )
    assert again.startswith("Cannot create already existing model")
    for call, request in (
        (sagemaker.describe_model, {"ModelName": "absent"}),
        (sagemaker.delete_endpoint_config, {"EndpointConfigName": "absent"}),
        (sagemaker.describe_endpoint, {"EndpointName": "absent"}),
        (sagemaker.create_endpoint, {"EndpointName": "x", "EndpointConfigName": "absent"}),
    ):
        assert refused(call, **request).startswith("Could not find")


def test_a_list_is_filtered_and_paged(sandbox: Sandbox) -> None:
    sagemaker, prefix = sandbox.client("sagemaker"), name("paged")
    for number in range(5):
        create_model(sandbox, f"{prefix}-{number}")
    pages = list(
        sagemaker.get_paginator("list_models").paginate(
            NameContains=prefix,
            SortBy="Name",
            SortOrder="Ascending",
            PaginationConfig={"PageSize": 2},
        )
    )
    found = [model["ModelName"] for page in pages for model in page["Models"]]
    assert found == [f"{prefix}-{number}" for number in range(5)]
    assert len(pages) == 3


def test_tags_are_kept_and_changed(sandbox: Sandbox) -> None:
    model = name("tagged")
    create_model(sandbox, model)
    sagemaker = sandbox.client("sagemaker")
    arn = sagemaker.describe_model(ModelName=model)["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "run", "Value": "1"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "run", "Value": "1"}]


def test_a_request_without_a_required_field_is_refused_as_aws_does(sandbox: Sandbox) -> None:
    answer = post(sandbox, "CreateModel", "{}")
    assert answer.status_code == 400
    assert answer.json()["__type"] == "ValidationException"
    assert "ModelName" in answer.json()["message"]


def test_a_container_that_fails_says_so_in_its_log(sandbox: Sandbox) -> None:
    endpoint, logs = name("logged"), sandbox.client("logs")
    create_endpoint(sandbox, endpoint, SANDBOX_FAIL="CUDA driver is too old")
    wait(sandbox, endpoint, "Failed")
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    (stream,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert stream["logStreamName"].startswith("AllTraffic/")
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])
    assert "CUDA driver is too old" in events["events"][-1]["message"]


def test_an_endpoint_that_failed_does_not_answer_and_can_be_deleted(sandbox: Sandbox) -> None:
    endpoint = name("failed")
    create_endpoint(sandbox, endpoint, SANDBOX_FAIL="no disk")
    wait(sandbox, endpoint, "Failed")
    invoke = sandbox.client("sagemaker-runtime").invoke_endpoint
    refused(invoke, "ValidationError", EndpointName=endpoint, Body="{}")
    sandbox.client("sagemaker").delete_endpoint(EndpointName=endpoint)
    assert wait(sandbox, endpoint, "Deleting")


def test_an_update_moves_an_endpoint_in_service_to_another_config(patient: Sandbox) -> None:
    old, new = name("old"), name("new")
    sagemaker, runtime = patient.client("sagemaker"), patient.client("sagemaker-runtime")
    create_endpoint(patient, old)
    create_model(patient, new, HF_MODEL_ID="Huge/Huge-70B")
    create_config(patient, new)
    wait(patient, old, "InService")
    sagemaker.update_endpoint(EndpointName=old, EndpointConfigName=new)
    busy = refused(sagemaker.delete_endpoint, EndpointName=old)
    assert busy.startswith("Cannot update in-progress endpoint")
    description = wait(patient, old, "InService")
    assert description["EndpointConfigName"] == new
    assert description["LastModifiedTime"] > description["CreationTime"]
    body = json.dumps({"messages": [{"role": "user", "content": "Why?"}]})
    answer = json.loads(runtime.invoke_endpoint(EndpointName=old, Body=body)["Body"].read())
    assert answer["model"] == "Huge/Huge-70B"
    sagemaker.delete_endpoint(EndpointName=old)


def test_config_and_model_may_go_before_their_endpoint(sandbox: Sandbox) -> None:
    endpoint = name("orphan")
    sagemaker = sandbox.client("sagemaker")
    create_endpoint(sandbox, endpoint)
    sagemaker.delete_endpoint_config(EndpointConfigName=endpoint)
    sagemaker.delete_model(ModelName=endpoint)
    wait(sandbox, endpoint, "InService")
    body = json.dumps({"messages": [{"role": "user", "content": "Why?"}]})
    sandbox.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=body)
    sagemaker.delete_endpoint(EndpointName=endpoint)


def create_bare_endpoint(sandbox: Sandbox, endpoint: str) -> None:
    """Create an endpoint that inference components may be put on."""
    sagemaker = sandbox.client("sagemaker")
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.2xlarge"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=endpoint,
        ExecutionRoleArn=ROLE,
        ProductionVariants=[{**variant, "InitialInstanceCount": 1}],
    )
    sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)


def component(endpoint: str, name: str, **changes: Any) -> dict[str, Any]:
    """Return CreateInferenceComponent's request."""
    container = {"Image": "tgi", "Environment": {"HF_MODEL_ID": "Tiny/Tiny-1B"}}
    needs = {"NumberOfAcceleratorDevicesRequired": 1, "MinMemoryRequiredInMb": 1024}
    return {
        "InferenceComponentName": name,
        "EndpointName": endpoint,
        "VariantName": "AllTraffic",
        "Specification": {"Container": container, "ComputeResourceRequirements": needs},
        "RuntimeConfig": {"CopyCount": 1},
        **changes,
    }


def until(sandbox: Sandbox, name: str, *states: str) -> dict[str, Any]:
    describe = sandbox.client("sagemaker").describe_inference_component
    end = time.monotonic() + 10
    while time.monotonic() < end:
        description = describe(InferenceComponentName=name)
        if description["InferenceComponentStatus"] in states:
            return description
        time.sleep(0.05)
    raise AssertionError(description)


CHAT = json.dumps({"messages": [{"role": "user", "content": "Why?"}]})


def test_inference_components_answer_by_name_and_go_before_their_endpoint(
    sandbox: Sandbox,
) -> None:
    endpoint, mine, other = name("shared"), name("mine"), name("other")
    sagemaker, runtime = sandbox.client("sagemaker"), sandbox.client("sagemaker-runtime")
    create_bare_endpoint(sandbox, endpoint)
    wait(sandbox, endpoint, "InService")
    create_model(sandbox, other, HF_MODEL_ID="Huge/Huge-70B")
    sagemaker.create_inference_component(**component(endpoint, mine))
    needs = {"MinMemoryRequiredInMb": 1024}
    made_of = {"ModelName": other, "ComputeResourceRequirements": needs}
    sagemaker.create_inference_component(**component(endpoint, other, Specification=made_of))
    assert until(sandbox, mine, "Creating", "InService")["EndpointName"] == endpoint
    until(sandbox, mine, "InService")
    described = until(sandbox, other, "InService")
    assert described["Specification"] == made_of
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    for asked, model in ((mine, "Tiny/Tiny-1B"), (other, "Huge/Huge-70B")):
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint, InferenceComponentName=asked, Body=CHAT
        )
        assert json.loads(answer["Body"].read())["model"] == model
    message = refused(sagemaker.delete_endpoint, EndpointName=endpoint)
    assert message == (
        "Cannot delete endpoint with inference component associated. "
        "Please delete inference component and try it again."
    )
    for each in (mine, other):
        sagemaker.delete_inference_component(InferenceComponentName=each)
    assert until(sandbox, mine, "Deleting")
    refused(sagemaker.delete_endpoint, EndpointName=endpoint)
    time.sleep(0.3)
    sagemaker.delete_endpoint(EndpointName=endpoint)
    gone = refused(sagemaker.describe_inference_component, InferenceComponentName=mine)
    assert gone.startswith("Could not find inference component")


def test_an_endpoint_that_answers_by_component_wants_one_of_its_own(sandbox: Sandbox) -> None:
    endpoint, bare, own = name("plain"), name("bare"), name("own")
    sagemaker = sandbox.client("sagemaker")
    create_endpoint(sandbox, endpoint)
    create_bare_endpoint(sandbox, bare)
    wait(sandbox, endpoint, "InService")
    wait(sandbox, bare, "InService")
    sagemaker.create_inference_component(**component(bare, own))
    invoke = sandbox.client("sagemaker-runtime").invoke_endpoint

    def said(**request: Any) -> str:
        return refused(invoke, "ValidationError", **request, Body=CHAT)

    assert said(EndpointName=bare).startswith("Inference Component Name header is required for")
    unknown = said(EndpointName=bare, InferenceComponentName="absent")
    assert unknown == "Inference Component absent of account 000000000000 not found."
    assert "is not allowed for" in said(EndpointName=endpoint, InferenceComponentName=own)
    on_a_model = refused(sagemaker.create_inference_component, **component(endpoint, name("never")))
    assert on_a_model.startswith("Inference Components are not supported in this Endpoint.")
    until(sandbox, own, "InService")
    sagemaker.delete_inference_component(InferenceComponentName=own)
    sagemaker.delete_endpoint(EndpointName=endpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"EndpointName": "absent"}, "Could not find endpoint"),
        ({"VariantName": "absent"}, 'Could not find variant "absent"'),
        ({"RuntimeConfig": {"CopyCount": 0}}, "copy count an integer larger than 0"),
        ({"Specification": {}}, "Specification needs one of ModelName"),
        ({"Specification": {"ModelName": "absent"}}, "Could not find model"),
        ({"InferenceComponentName": "no_underscores"}, "regular expression pattern"),
    ],
)
def test_a_component_that_makes_no_sense_is_refused(
    bare: Sandbox, changes: dict[str, Any], message: str
) -> None:
    create = bare.client("sagemaker").create_inference_component
    assert message in refused(create, **component("bare", name("nonsense"), **changes))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Has an endpoint `bare` in service, which answers by inference component."""
    delays = "endpoint=0,delete=0"
    with running_sandbox(tmp_path_factory.mktemp("bare"), sandbox_delays=delays) as running:
        create_bare_endpoint(running, "bare")
        yield running


def test_components_are_listed_by_endpoint_and_keep_their_tags(bare: Sandbox) -> None:
    create_bare_endpoint(bare, "second")
    sagemaker, prefix = bare.client("sagemaker"), name("listed")
    tags = [{"Key": "team", "Value": "search"}]
    for number, endpoint in enumerate(("bare", "bare", "second")):
        made = sagemaker.create_inference_component(
            **component(endpoint, f"{prefix}-{number}", Tags=tags)
        )
    assert sagemaker.list_tags(ResourceArn=made["InferenceComponentArn"])["Tags"] == tags

    def listed(**query: Any) -> list[str]:
        pages = sagemaker.get_paginator("list_inference_components").paginate(
            NameContains=prefix, PaginationConfig={"PageSize": 2}, **query
        )
        found = [each for page in pages for each in page["InferenceComponents"]]
        return [each["InferenceComponentName"].rsplit("-", 1)[1] for each in found]

    assert listed() == ["2", "1", "0"]
    assert listed(EndpointNameEquals="bare") == ["1", "0"]
    assert listed(EndpointNameEquals="second", VariantNameEquals="AllTraffic") == ["2"]
    assert listed(VariantNameEquals="absent") == []
    assert listed(StatusEquals="Failed") == []


def test_a_component_whose_container_does_not_start_fails_and_can_be_deleted(
    bare: Sandbox,
) -> None:
    sagemaker, broken = bare.client("sagemaker"), name("broken")
    container = {"Image": "tgi", "Environment": {"SANDBOX_FAIL": "no disk"}}
    made_of = {"Container": container}
    sagemaker.create_inference_component(**component("bare", broken, Specification=made_of))
    failed = until(bare, broken, "Failed")
    assert failed["FailureReason"] == "no disk"
    assert failed["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "tgi"
    again = refused(sagemaker.create_inference_component, **component("bare", broken))
    assert again.startswith("Cannot create already existing inference component")
    invoke = bare.client("sagemaker-runtime").invoke_endpoint
    asked = {"EndpointName": "bare", "InferenceComponentName": broken, "Body": CHAT}
    assert "not found" in refused(invoke, "ValidationError", **asked)
    sagemaker.delete_inference_component(InferenceComponentName=broken)


def test_components_survive_kill_9(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, sandbox_delays="endpoint=0") as running:
        create_bare_endpoint(running, "e")
        running.client("sagemaker").create_inference_component(**component("e", "c"))
        running.kill()
        running.start()
        invoke = running.client("sagemaker-runtime").invoke_endpoint
        answer = invoke(EndpointName="e", InferenceComponentName="c", Body=CHAT)
        assert json.loads(answer["Body"].read())["model"] == "Tiny/Tiny-1B"


def test_a_config_without_a_model_needs_a_role(sandbox: Sandbox) -> None:
    variant = {"VariantName": "v", "InstanceType": "ml.g5.2xlarge", "InitialInstanceCount": 1}
    create = sandbox.client("sagemaker").create_endpoint_config
    request = {"EndpointConfigName": name("bare"), "ProductionVariants": [variant]}
    assert "ExecutionRoleArn is required" in refused(create, **request)


def test_lists_know_statuses_times_and_orders(sandbox: Sandbox) -> None:
    prefix, sagemaker = name("listed"), sandbox.client("sagemaker")
    for number in range(3):
        create_endpoint(sandbox, f"{prefix}-{number}", SANDBOX_FAIL="no disk")
    last = wait(sandbox, f"{prefix}-2", "Failed")

    def listed(**query: Any) -> list[str]:
        page = sagemaker.list_endpoints(NameContains=prefix, **query)
        return [endpoint["EndpointName"].rsplit("-", 1)[1] for endpoint in page["Endpoints"]]

    assert listed() == ["2", "1", "0"]
    assert listed(SortOrder="Ascending") == ["0", "1", "2"]
    assert listed(SortBy="Name", SortOrder="Ascending") == ["0", "1", "2"]
    assert listed(StatusEquals="Failed") == ["2", "1", "0"]
    assert listed(StatusEquals="InService") == []
    assert listed(CreationTimeAfter=last["CreationTime"]) == ["2"]
    assert listed(CreationTimeBefore=last["CreationTime"]) == ["1", "0"]
    assert listed(LastModifiedTimeAfter=last["LastModifiedTime"]) == ["2"]
    assert "pagination" in refused(sagemaker.list_endpoints, NextToken="no token")


def test_tags_come_in_pages_on_every_kind_of_resource(sandbox: Sandbox) -> None:
    endpoint, sagemaker = name("many-tags"), sandbox.client("sagemaker")
    create_endpoint(sandbox, endpoint, SANDBOX_FAIL="no disk")
    arns = [
        sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointArn"],
        sagemaker.describe_endpoint_config(EndpointConfigName=endpoint)["EndpointConfigArn"],
        sagemaker.describe_model(ModelName=endpoint)["ModelArn"],
    ]
    tags = [{"Key": f"key-{number:02}", "Value": str(number)} for number in range(60)]
    for arn in arns:
        sagemaker.add_tags(ResourceArn=arn, Tags=tags[:50])
        sagemaker.add_tags(ResourceArn=arn, Tags=tags[50:])
        pages = list(sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn))
        found = {tag["Key"] for page in pages for tag in page["Tags"]}
        assert {tag["Key"] for tag in tags} <= found
        assert len(pages) == 2


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        (
            "CreateEndpointConfig",
            {
                "EndpointConfigName": "c",
                "ProductionVariants": [{"VariantName": "v", "InstanceType": "ml.z9.huge"}],
            },
            "'ml.z9.huge' at 'productionVariants.1.member.instanceType' failed to satisfy "
            "constraint: Member must satisfy enum value set",
        ),
        (
            "CreateModel",
            {"ModelName": "no_underscores", "ExecutionRoleArn": ROLE},
            "'no_underscores' at 'modelName' failed to satisfy constraint: Member must satisfy "
            "regular expression pattern",
        ),
        ("ListModels", {"MaxResults": 500}, "less than or equal to 100"),
        ("DeleteEverything", {}, "the sandbox has no DeleteEverything"),
    ],
)
def test_what_a_client_does_not_check_is_checked(
    sandbox: Sandbox, operation: str, request_: dict[str, Any], message: str
) -> None:
    answer = post(sandbox, operation, json.dumps(request_))
    assert answer.status_code == 400
    assert message in answer.json()["message"]
