"""Facts about the look at an account before a run costs money."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from botocore.config import Config
from botocore.stub import ANY, Stubber
from sandbox_server import ROOT, SESSION, Sandbox, running_sandbox

from include import (
    bedrock_models,
    deploy,
    findings,
    judge_table,
    permissions,
    preflight,
    quotas,
    recipes,
)
from include.config import BedrockModel, Environment, RunConfig
from include.config_files import resolve_config
from include.errors import ConfigError
from include.findings import Finding
from include.storage import split_uri

MICRO = "amazon.nova-micro-v1:0:128k"
QWEN = {
    "name": "qwen",
    "provider": "sagemaker",
    "deploy": {
        "model_id": "Qwen/Qwen2.5-1.5B-Instruct",
        "image_uri": "tgi",
        "instance_types": ["ml.g5.2xlarge", "ml.g5.4xlarge"],
    },
}
CONF = {
    "evaluation": "preflight",
    "environment": "sandbox",
    "dataset": {"source": "x.jsonl"},
    "baseline": QWEN,
    "candidates": ["claude"],
}


def config(environment: dict[str, Any] | None = None, **conf: Any) -> RunConfig:
    resolved = resolve_config({**CONF, **conf}, environ={})
    changed = {**resolved.environment.model_dump(), **(environment or {})}
    return resolved.model_copy(update={"environment": Environment.model_validate(changed)})


def stubbed(service: str, answers: Callable[[Stubber], None]) -> Any:
    client = SESSION.client(service)
    stubber = Stubber(client)
    answers(stubber)
    stubber.activate()
    return client


def levels(found: list[Finding]) -> list[str]:
    return [finding.level for finding in found]


def quota(name: str, value: float) -> dict[str, Any]:
    return {"QuotaName": name, "QuotaCode": f"L-{len(name)}", "Value": value}


def test_the_sandbox_refuses_nothing_to_its_own_environment(sandbox: Sandbox) -> None:
    found = preflight.check(config(), sandbox.client)
    assert preflight.refusals(found) == ""
    looked_at = {finding.what for finding in found if finding.level == "ok"}
    assert {"judge", "bucket", "role", "model claude"} <= looked_at


def test_a_dead_address_is_a_warning_and_no_traceback() -> None:
    def nowhere(service: str, **_: Any) -> Any:
        once = Config(retries={"total_max_attempts": 1})
        return SESSION.client(service, endpoint_url="http://127.0.0.1:9", config=once)

    found = preflight.check(config(), nowhere)
    assert "refused" not in levels(found)
    assert sum("cannot be checked" in finding.message for finding in found) >= 4


# The table


def test_every_recipe_that_the_project_carries_is_in_the_table_as_it_is() -> None:
    known = {judge.recipe: judge for judge in judge_table.table().judges}
    assert set(known) == set(recipes.names())
    for name, judge in known.items():
        recipe = recipes.load(name)
        assert recipe["run"]["model_type"] == judge.model_type
        assert recipe["evaluation"]["task"] == judge.task


def test_an_instance_type_that_the_judge_does_not_run_on_is_refused_with_the_nearest() -> None:
    (problem,) = judge_table.check(MICRO, "llm_judge", "ml.g5.2xlarge", "us-east-1")
    assert problem.startswith(f"{MICRO} does not run on ml.g5.2xlarge; as of 2026-06-23 there is")
    assert "ml.g5.12xlarge" in problem


def test_a_task_of_another_model_is_refused_with_its_recipe() -> None:
    (problem,) = judge_table.check(MICRO, "rubric_llm_judge", "ml.p5.48xlarge", "us-east-1")
    assert "has no task rubric_llm_judge" in problem
    assert "nova_2_lite_rubric_llm_judge" in problem


def test_an_unknown_model_a_region_without_image_and_an_image_elsewhere_are_refused() -> None:
    assert "amazon.nova-micro-v1:0:128k" in judge_table.check("nova", "x", "y", "us-east-1")[0]
    (nowhere,) = judge_table.check(MICRO, "llm_judge", "ml.g5.12xlarge", "eu-central-1")
    assert "us-east-1, us-west-2, not in eu-central-1" in nowhere
    image = judge_table.image_uri("us-east-1")
    (elsewhere,) = judge_table.check(MICRO, "llm_judge", "ml.g5.12xlarge", "us-west-2", image)
    assert "takes images of us-west-2 only; use 176779409107.dkr" in elsewhere


def test_an_image_of_ones_own_does_in_any_region() -> None:
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nova:1"
    assert judge_table.check(MICRO, "llm_judge", "ml.g5.12xlarge", "eu-central-1", image) == []
    assert judge_table.image_uri("eu-central-1") is None


def test_a_table_of_ones_own_replaces_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = yaml.safe_load(judge_table.FILE.read_text())
    table["image"]["accounts"]["eu-west-2"] = "470633809225"
    file = tmp_path / "table.yaml"
    file.write_text(yaml.safe_dump(table))
    monkeypatch.setenv("NOVA_JUDGE_TABLE", str(file))
    assert judge_table.image_uri("eu-west-2") == (
        "470633809225.dkr.ecr.eu-west-2.amazonaws.com/nova-evaluation-repo:SM-TJ-Eval-V2-latest"
    )


@pytest.mark.parametrize(("text", "said"), [("judges: []", "judges"), ("a: [", "cannot be read")])
def test_a_broken_table_names_file_and_key(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"{uuid4()}.yaml"
    file.write_text(f"as_of: 2026-06-23\nimage: {{repository: a, tag: b, accounts: {{}}}}\n{text}")
    monkeypatch.setenv("NOVA_JUDGE_TABLE", str(file))
    with pytest.raises(ConfigError, match=said) as caught:
        judge_table.table()
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("instance_type", "local"),
    [
        ("ml.g4dn.xlarge", True),
        ("ml.g5.12xlarge", True),
        ("ml.g6e.4xlarge", True),
        ("ml.p3dn.24xlarge", True),
        ("ml.p4d.24xlarge", True),
        ("ml.p4de.24xlarge", True),
        ("ml.p5.48xlarge", True),
        ("ml.p6-b200.48xlarge", True),
        ("ml.m6gd.large", True),
        ("ml.p3.8xlarge", False),
        ("ml.m5.large", False),
        ("ml.c7i-flex.large", False),
        ("ml.inf2.xlarge", False),
    ],
)
def test_instance_types_with_disks_of_their_own_are_known(instance_type: str, local: bool) -> None:
    assert judge_table.has_local_storage(instance_type) is local


def test_a_volume_key_is_refused_for_a_judge_with_disks_of_its_own() -> None:
    key = {"volume_kms_key_arn": "arn:aws:kms:us-east-1:000000000000:key/1"}
    judge, model = preflight.volumes(config(key))
    assert (judge.level, model.level) == ("refused", "warning")
    assert "ml.g5.12xlarge" in judge.message
    assert "ml.g5.2xlarge, ml.g5.4xlarge" in model.message
    other = {"recipe": "nova_lite_llm_judge", "instance_type": "ml.p4d.24xlarge"}
    judges = preflight.volumes(config(key, judge={"second": other}))[:2]
    assert [each.message.split()[0] for each in judges] == ["ml.g5.12xlarge", "ml.p4d.24xlarge"]
    assert preflight.volumes(config()) == []


def test_a_recipe_that_cannot_be_read_is_refused_and_the_rest_is_looked_at(
    sandbox: Sandbox,
) -> None:
    missing = {"recipe": "s3://nova-judge-sandbox/no/recipe.yaml"}
    found = preflight.check(config(judge=missing), sandbox.client)
    assert (found[0].level, found[0].what) == ("refused", "recipe")
    assert "s3://nova-judge-sandbox/no/recipe.yaml cannot be read" in found[0].message
    assert {"bucket", "role", "model claude"} <= {finding.what for finding in found}


# Bucket


def test_a_missing_bucket_is_refused_with_the_command_that_makes_it(sandbox: Sandbox) -> None:
    name = f"missing-{uuid4().hex[:8]}"
    where = config({"output_s3_uri": f"s3://{name}/x"}).environment
    (found,) = preflight.bucket(where, sandbox.client("s3"))
    assert (found.level, found.command) == (
        "refused",
        f"aws s3 mb s3://{name} --region us-east-1",
    )


def test_a_bucket_in_another_region_is_refused(sandbox: Sandbox) -> None:
    name = f"far-{uuid4().hex[:8]}"
    elsewhere = {"LocationConstraint": "eu-west-1"}
    sandbox.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=elsewhere)
    (found,) = preflight.bucket(
        config({"output_s3_uri": f"s3://{name}"}).environment, sandbox.client("s3")
    )
    assert found.level == "refused"
    assert "is in eu-west-1, the environment in us-east-1" in found.message


def test_somebody_elses_bucket_is_refused() -> None:
    headers = {"HTTPHeaders": {"x-amz-bucket-region": "us-east-1"}}
    s3 = stubbed(
        "s3",
        lambda stub: stub.add_client_error(
            "head_bucket", "403", "Forbidden", 403, response_meta=headers
        ),
    )
    (found,) = preflight.bucket(config().environment, s3)
    assert found.level == "refused"
    assert "may be another's" in found.message


# Role and caller


def iam_role(sandbox: Sandbox, trust: dict[str, Any]) -> str:
    name = f"role-{uuid4().hex[:8]}"
    created = sandbox.client("iam").create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps(trust)
    )
    return str(created["Role"]["Arn"])


def trusted(sandbox: Sandbox, arn: str) -> Finding:
    (found,) = permissions.trusted(sandbox.client("iam"), config().environment, arn)
    return found


def test_a_role_that_sagemaker_may_assume_is_fine(sandbox: Sandbox) -> None:
    assert trusted(sandbox, iam_role(sandbox, permissions.trust_policy())).level == "ok"


def test_a_role_for_another_service_is_refused_and_the_fix_keeps_its_trust(
    sandbox: Sandbox,
) -> None:
    lambdas = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
    statement = {**lambdas, "Action": "sts:AssumeRole"}
    arn = iam_role(sandbox, {"Version": "2012-10-17", "Statement": [statement]})
    found = trusted(sandbox, arn)
    assert found.level == "refused"
    assert found.command and "lambda.amazonaws.com" in found.command
    assert "sagemaker.amazonaws.com" in found.command


def test_a_missing_role_and_one_of_another_account_are_refused(sandbox: Sandbox) -> None:
    missing = trusted(sandbox, "arn:aws:iam::000000000000:role/nobody")
    assert missing.level == "refused"
    assert missing.command and missing.command.startswith("aws iam create-role --role-name nobody")
    assert trusted(sandbox, "arn:aws:iam::999999999999:role/theirs").level == "refused"


def decision(action: str, said: str, **more: Any) -> dict[str, Any]:
    return {"EvalActionName": action, "EvalDecision": said, **more}


def simulated(need: permissions.Need, *decisions: dict[str, Any], **options: Any) -> Finding:
    iam = stubbed(
        "iam",
        lambda stub: stub.add_response(
            "simulate_principal_policy",
            {"EvaluationResults": list(decisions)},
            {
                "PolicySourceArn": "arn:aws:iam::000000000000:role/r",
                "ActionNames": list(need.actions),
                "ResourceArns": [need.resource],
            },
        ),
    )
    arn = "arn:aws:iam::000000000000:role/r"
    (found,) = permissions.simulate(iam, "role", arn, [need], **options)
    return found


STORAGE = permissions.Need("storage", ["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::b/*")


def test_a_missing_permission_is_refused_with_the_policy_that_grants_it() -> None:
    found = simulated(
        STORAGE, decision("s3:GetObject", "allowed"), decision("s3:PutObject", "implicitDeny")
    )
    assert found.level == "refused"
    assert "r may not s3:PutObject on arn:aws:s3:::b/*" in found.message
    assert found.command and "put-role-policy --role-name r" in found.command
    document = json.loads(found.command.split("--policy-document ")[1].strip("'"))
    assert document["Statement"][0]["Action"] == ["s3:GetObject", "s3:PutObject"]


def test_what_simulation_cannot_know_is_a_warning() -> None:
    denied = decision("s3:PutObject", "implicitDeny")
    assert simulated(STORAGE, denied, bucket_policy=True).level == "warning"
    conditional = {**denied, "MissingContextValues": ["aws:SourceVpc"]}
    found = simulated(STORAGE, conditional)
    assert found.level == "warning"
    assert "aws:SourceVpc" in found.message
    explicit = decision("s3:PutObject", "explicitDeny")
    assert simulated(STORAGE, explicit, bucket_policy=True).level == "refused"


def test_not_being_allowed_to_simulate_is_one_warning() -> None:
    iam = stubbed(
        "iam", lambda stub: stub.add_client_error("simulate_principal_policy", "AccessDenied")
    )
    (found,) = permissions.simulate(iam, "role", "arn:aws:iam::0:role/r", [STORAGE, STORAGE])
    assert found.level == "warning"
    assert found.fix == "allow iam:SimulatePrincipalPolicy to whoever runs this"


def test_the_role_needs_the_runs_bucket_the_image_and_the_keys() -> None:
    key = {"kms_key_arn": "arn:aws:kms:us-east-1:000000000000:key/1"}
    image = judge_table.image_uri("us-east-1")
    needs = {need.purpose: need for need in permissions.role_needs(config(key), image)}
    assert needs["storage"].resource == "arn:aws:s3:::nova-judge-sandbox/nova-judge/*"
    assert needs["image of the judge"].resource == (
        "arn:aws:ecr:us-east-1:708977205387:repository/nova-evaluation-repo"
    )
    assert needs["output key"].resource == key["kms_key_arn"]
    assert "network" not in needs


def test_the_caller_needs_endpoints_only_where_the_run_deploys_some() -> None:
    with_endpoint = {need.purpose for need in permissions.caller_needs(config())}
    claude = {"name": "b", "provider": "bedrock", "model_id": "amazon.nova-micro-v1:0"}
    without = {need.purpose for need in permissions.caller_needs(config(baseline=claude))}
    assert with_endpoint - without == {
        "models",
        "endpoint-configs",
        "endpoints",
        "asking qwen",
    }
    assert {"judge jobs", "passing the role", "storage", "asking claude"} <= without


def granted_by_the_page(sandbox: Sandbox, heading: str, config: RunConfig) -> str:
    """Make a role with the policies that docs/aws.md shows under a heading."""
    page = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    text = text.replace("111122223333", config.environment.account_id)
    text = text.replace("my-bucket/nova-judge", "nova-judge-sandbox/nova-judge")
    text = text.replace("my-bucket", "nova-judge-sandbox")
    arn = iam_role(sandbox, permissions.trust_policy())
    blocks = [block for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    for number, block in enumerate(blocks):
        if "sts:AssumeRole" not in block:
            sandbox.client("iam").put_role_policy(
                RoleName=arn.rsplit("/", 1)[-1], PolicyName=f"p{number}", PolicyDocument=block
            )
    return arn


def test_the_policies_on_the_page_about_aws_grant_all_that_is_looked_at(sandbox: Sandbox) -> None:
    run, iam, image = config(), sandbox.client("iam"), judge_table.image_uri("us-east-1")
    for heading, needs in (
        ("2. Execution role", permissions.role_needs(run, image)),
        ("3. Airflow's own", permissions.caller_needs(run, image)),
        ("3. Airflow's own", permissions.caller_needs(batch_config())),
    ):
        arn = granted_by_the_page(sandbox, heading, run)
        found = permissions.simulate(iam, "role", arn, needs)
        assert [finding.message for finding in found if finding.level != "ok"] == []
        assert len(found) == len(needs)


def test_a_role_without_policies_is_refused_what_the_run_needs(sandbox: Sandbox) -> None:
    arn = iam_role(sandbox, permissions.trust_policy())
    found = preflight.check(config({"execution_role_arn": arn}), sandbox.client)
    refused = preflight.refusals(found)
    assert "may not s3:GetObject, s3:PutObject on arn:aws:s3:::nova-judge-sandbox/" in refused
    assert "(image of the judge)" in refused
    assert [f.what for f in found if f.level == "refused"].count("role") == 4


def test_a_quota_of_zero_in_the_account_stops_the_run(tmp_path: Path) -> None:
    none = "ml.g5.12xlarge for training job usage=0"
    with running_sandbox(tmp_path, sandbox_quotas=none) as poor:
        refused = preflight.refusals(preflight.check(config(), poor.client))
    assert refused.startswith("quota: ml.g5.12xlarge for training job usage is 0, the run needs 1")


BATCH = {"provider": "bedrock", "model_id": "us.amazon.nova-micro-v1:0", "batch": True}
BATCH_ROLE = "arn:aws:iam::000000000000:role/batch"


def batch_config(**model: Any) -> RunConfig:
    """Return a run whose candidate `nova` is asked by batch jobs."""
    return config(candidates=["claude", {"name": "nova", **BATCH, **model}])


def test_the_sandbox_refuses_its_own_role_no_batch_job(sandbox: Sandbox) -> None:
    found = preflight.check(batch_config(), sandbox.client)
    assert preflight.refusals(found) == ""
    said = [finding.message for finding in found if finding.level == "ok"]
    assert "nova-judge-execution exists, and Bedrock may assume it" in said
    assert "nova-judge-execution is allowed: asking nova, its profile" in said
    assert "moto is allowed: passing nova-judge-execution to batch jobs" in said


def test_only_a_run_with_batch_jobs_needs_anything_for_them() -> None:
    assert permissions.batch_roles(config()) == {}
    without = permissions.caller_needs(config(candidates=["claude", {"name": "n", **BATCH}]))
    plain = {**BATCH, "batch": False}
    assert [need for need in without if "batch" in need.purpose]
    plain_needs = permissions.caller_needs(config(candidates=["claude", {"name": "n", **plain}]))
    assert not [need for need in plain_needs if "batch" in need.purpose]


def test_the_caller_needs_batch_jobs_their_models_and_to_pass_their_role() -> None:
    needs = permissions.caller_needs(batch_config(role_arn=BATCH_ROLE))
    batch = {(need.purpose, need.resource): need for need in needs if "batch" in need.purpose}
    ours = "arn:aws:bedrock:us-east-1:000000000000"
    assert set(batch) == {
        ("batch jobs", f"{ours}:model-invocation-job/*"),
        ("finding batch jobs", "*"),
        ("passing batch to batch jobs", BATCH_ROLE),
        (
            "a batch job with nova",
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
        ),
        (
            "a batch job with nova, its profile",
            f"{ours}:inference-profile/us.amazon.nova-micro-v1:0",
        ),
    }
    passed = batch["passing batch to batch jobs", BATCH_ROLE]
    assert passed.policy["Statement"][0]["Condition"] == {
        "StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}
    }
    assert set(batch["batch jobs", f"{ours}:model-invocation-job/*"].actions) == {
        "bedrock:CreateModelInvocationJob",
        "bedrock:GetModelInvocationJob",
        "bedrock:StopModelInvocationJob",
        "bedrock:TagResource",
        "bedrock:ListTagsForResource",
    }


def test_a_batch_role_reads_and_writes_the_runs_bucket_and_asks_the_model() -> None:
    key = {"kms_key_arn": "arn:aws:kms:us-east-1:000000000000:key/1"}
    vpc = {"vpc": {"subnets": ["s"], "security_group_ids": ["g"]}}
    models = permissions.batch_roles(batch_config())
    (asked,) = models.values()
    needs = permissions.batch_role_needs(config({**key, **vpc}).environment, asked)
    assert [(need.purpose, need.resource) for need in needs] == [
        ("storage", "arn:aws:s3:::nova-judge-sandbox/nova-judge/*"),
        ("storage list", "arn:aws:s3:::nova-judge-sandbox"),
        ("output key", key["kms_key_arn"]),
        (
            "asking nova",
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
        ),
        (
            "asking nova, its profile",
            "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.amazon.nova-micro-v1:0",
        ),
        ("network", "*"),
    ]


def test_a_batch_role_without_trust_or_policies_is_refused_with_what_helps(
    sandbox: Sandbox,
) -> None:
    client = sandbox.client
    for_sagemaker = iam_role(sandbox, permissions.trust_policy())
    refused = [
        finding
        for finding in preflight.check(batch_config(role_arn=for_sagemaker), client)
        if finding.level == "refused"
    ]
    assert [finding.what for finding in refused] == ["batch role"]
    assert refused[0].message.startswith("Bedrock may not assume role-")
    assert refused[0].command and "bedrock.amazonaws.com" in refused[0].command
    assert "sagemaker.amazonaws.com" in refused[0].command
    for_bedrock = iam_role(sandbox, permissions.trust_policy(permissions.BATCH_SERVICE))
    said = preflight.refusals(preflight.check(batch_config(role_arn=for_bedrock), client))
    assert "may not s3:GetObject, s3:PutObject on arn:aws:s3:::nova-judge-sandbox/" in said
    assert "may not bedrock:InvokeModel on arn:aws:bedrock:us-east-1::foundation-model/" in said
    nobody = "arn:aws:iam::000000000000:role/nobody"
    said = preflight.refusals(preflight.check(batch_config(role_arn=nobody), client))
    assert said == "batch role: there is no role nobody; create it"
    theirs = "arn:aws:iam::999999999999:role/theirs"
    said = preflight.refusals(preflight.check(batch_config(role_arn=theirs), client))
    assert said.endswith("correct the model's role_arn")


def test_what_the_look_asks_for_a_batch_role_is_enough_for_the_job(sandbox: Sandbox) -> None:
    run, iam = batch_config(), sandbox.client("iam")
    arn = iam_role(sandbox, permissions.trust_policy(permissions.BATCH_SERVICE))
    (asked,) = permissions.batch_roles(run).values()
    led = {each.name: bedrock_models.led_to(each, sandbox.client("bedrock")) for each in asked}
    needs = permissions.batch_role_needs(run.environment, asked, led)
    for number, need in enumerate(needs):
        iam.put_role_policy(
            RoleName=arn.rsplit("/", 1)[-1],
            PolicyName=f"p{number}",
            PolicyDocument=json.dumps(need.policy),
        )
    assert len({need.purpose for need in needs}) == len(needs)
    folder = f"{run.environment.output_s3_uri}/{uuid4()}"
    bucket, key = split_uri(f"{folder}/in.jsonl")
    content = [{"text": "Why?"}]
    record = {"modelInput": {"messages": [{"role": "user", "content": content}]}}
    body = f"{json.dumps(record)}\n" * 100
    sandbox.client("s3").put_object(Bucket=bucket, Key=key, Body=body.encode())
    bedrock = sandbox.client("bedrock")
    job = bedrock.create_model_invocation_job(
        jobName=f"enough-{uuid4().hex[:8]}",
        roleArn=arn,
        modelId=BATCH["model_id"],
        inputDataConfig={"s3InputDataConfig": {"s3Uri": f"s3://{bucket}/{key}"}},
        outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"{folder}/out/"}},
    )["jobArn"]
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = bedrock.get_model_invocation_job(jobIdentifier=job)
        if found["status"] in ("Completed", "Failed"):
            break
        time.sleep(0.1)
    assert (found["status"], found["successRecordCount"]) == ("Completed", 100), found


MINIMUM = "Minimum number of records per batch inference job for "
MINIMUMS = {
    "Claude 3 Haiku": 101,
    "Claude 3.5 Sonnet": 102,
    "Claude 3.5 Sonnet v2": 103,
    "Claude Sonnet 4": 104,
    "Claude Sonnet 4.5": 105,
    "Nova Micro V1": 106,
    "Nova Pro V1": 107,
    "Llama 3.1 8B Instruct": 108,
    "Llama 3.1 70B Instruct": 109,
    "OpenAI GPT OSS 120b": 110,
    "Qwen3 235B": 111,
    "DeepSeek v3": 112,
    "Mistral Small": 113,
}
"""Names as Service Quotas spells them."""


def batch_quotas(stub: Stubber) -> None:
    """Answer with values of the account's own for half of the models, AWS's defaults for all."""
    rows = [quota(f"{MINIMUM}{name}", value) for name, value in MINIMUMS.items()]
    others = [quota("Records per batch inference job for Nova Micro V1", 100_000)]
    defaults = [{**row, "Value": 100.0} for row in rows[:6]]
    stub.add_response("list_service_quotas", {"Quotas": [*others, *rows[:6]]})
    stub.add_response(
        "list_aws_default_service_quotas", {"Quotas": [*others, *defaults, *rows[6:]]}
    )


@pytest.mark.parametrize(
    ("model_id", "least"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", 101),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", 102),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", 103),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", 104),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", 105),
        ("us.anthropic.claude-sonnet-4-6", 100),
        ("amazon.nova-micro-v1:0", 106),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0", 107),
        ("meta.llama3-1-8b-instruct-v1:0", 108),
        ("us.meta.llama3-1-70b-instruct-v1:0", 109),
        ("openai.gpt-oss-120b-1:0", 110),
        ("qwen.qwen3-235b-a22b-2507-v1:0", 111),
        ("deepseek.v3-v1:0", 112),
        ("mistral.mistral-small-2402-v1:0", 113),
        ("us.amazon.nova-2-lite-v1:0", 100),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x1", 100),
    ],
)
def test_the_least_records_of_a_batch_are_the_models_own(model_id: str, least: int) -> None:
    assert quotas.batch_limits(stubbed("service-quotas", batch_quotas), model_id).least == least


NOVA_ID = "amazon.nova-micro-v1:0"


def test_the_most_records_of_a_batch_are_the_least_of_what_job_and_file_may_have() -> None:
    def answers(*rows: dict[str, Any]) -> Any:
        client = stubbed(
            "service-quotas",
            lambda stub: (
                stub.add_response("list_service_quotas", {"Quotas": list(rows)}),
                stub.add_response("list_aws_default_service_quotas", {"Quotas": []}),
            ),
        )
        return quotas.batch_limits(client, NOVA_ID)

    job, file = (f"{prefix}Nova Micro V1" for prefix in quotas.BATCH_RECORDS)
    size = quota(f"{quotas.BATCH_GIGABYTES}Nova Micro V1", 2)
    assert answers() == quotas.BatchLimits(100, 50_000, 1.0)
    assert answers(quota(job, 100_000)).most == 100_000
    assert answers(quota(job, 100_000), quota(file, 60_000)).most == 60_000
    assert answers(size).gigabytes == 2


@pytest.mark.parametrize(
    ("prompts", "size", "said"),
    [
        (99, 0, "99 prompts; a batch job of .* takes 100 or more"),
        (100, 1024**3, None),
        (50_000, 0, None),
        (50_001, 0, r"50001 prompts; a batch job of .* takes 50000 or fewer; .*dataset\.limit"),
        (100, 1024**3 + 11 * 1024**2, r"1\.01 GB of records; a batch job of .* takes 1 GB;"),
    ],
)
def test_a_batch_job_that_bedrock_would_not_take_is_refused_before_it_costs_money(
    sandbox: Sandbox, prompts: int, size: int, said: str | None
) -> None:
    found = preflight.batches(batch_config(), sandbox.client, prompts, {"nova": size})
    refused = preflight.refusals(found)
    assert re.search(said, refused) if said else refused == ""


def test_too_many_prompts_are_a_warning_where_responses_may_be_reused(sandbox: Sandbox) -> None:
    run = config(baseline={"name": "nova", **BATCH}, generation={"reuse": "baseline"})
    (found,) = preflight.batches(run, sandbox.client, 50_001, {})
    assert found.level == "warning"


def test_the_least_records_are_awss_default_where_nobody_may_look() -> None:
    denied = stubbed(
        "service-quotas",
        lambda stub: stub.add_client_error("list_service_quotas", "AccessDeniedException"),
    )
    assert quotas.batch_limits(denied, "amazon.nova-micro-v1:0").least == 100


def test_the_least_records_are_what_bedrock_then_asks_for(tmp_path: Path) -> None:
    least = {"Nova Micro V1": 7, "Claude Haiku 4.5": 9, "Llama 3.3 70B Instruct": 11}
    changed = ",".join(f"{MINIMUM}{name}={value}" for name, value in least.items())
    with running_sandbox(tmp_path, sandbox_quotas=changed) as account:
        client = account.client("service-quotas")
        for model_id, value in (
            ("us.amazon.nova-micro-v1:0", 7),
            ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 9),
            ("us.meta.llama3-3-70b-instruct-v1:0", 11),
            ("us.amazon.nova-lite-v1:0", 100),
        ):
            assert quotas.batch_limits(client, model_id).least == value


def test_asking_a_profile_needs_the_model_behind_it_too() -> None:
    asked = [
        need.resource for need in permissions.caller_needs(config()) if "claude" in need.purpose
    ]
    assert asked == [
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-6",
        "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.anthropic.claude-sonnet-4-6",
    ]


def test_a_profile_needs_the_model_in_every_region_that_it_leads_to(sandbox: Sandbox) -> None:
    (claude,) = config().candidates
    led = bedrock_models.led_to(claude, sandbox.client("bedrock"))
    assert [arn.split(":")[3] for arn in led] == ["us-east-1", "us-east-2", "us-west-2"]
    needs = permissions.caller_needs(config(), led={"claude": led})
    assert [need.purpose for need in needs if "claude" in need.purpose] == [
        "asking claude",
        "asking claude in us-east-2",
        "asking claude in us-west-2",
        "asking claude, its profile",
    ]


def test_a_model_that_is_asked_without_a_profile_leads_nowhere_else(sandbox: Sandbox) -> None:
    plain = {"name": "n", "provider": "bedrock", "model_id": "amazon.nova-micro-v1:0"}
    (model,) = config(candidates=[plain]).candidates
    assert bedrock_models.led_to(model, sandbox.client("bedrock")) == []


def test_the_caller_is_asked_for_under_the_role_behind_its_session() -> None:
    arn = "arn:aws:iam::000000000000:role/team/airflow"
    sts = stubbed(
        "sts",
        lambda stub: stub.add_response(
            "get_caller_identity",
            {"Arn": "arn:aws:sts::000000000000:assumed-role/airflow/session"},
        ),
    )

    def answers(stub: Stubber) -> None:
        role = {
            "Path": "/team/",
            "RoleName": "airflow",
            "RoleId": "A" * 16,
            "Arn": arn,
            "CreateDate": datetime(2026, 1, 1, tzinfo=UTC),
        }
        stub.add_response("get_role", {"Role": role}, {"RoleName": "airflow"})
        for _ in permissions.caller_needs(config()):
            stub.add_response(
                "simulate_principal_policy",
                {"EvaluationResults": [decision("x:y", "allowed")]},
                {"PolicySourceArn": arn, "ActionNames": ANY, "ResourceArns": ANY}
                | ({"ContextEntries": ANY} if _.passed_to else {}),
            )

    found = permissions._caller(config(), stubbed("iam", answers), sts, bucket_policy=False)
    assert set(levels(found)) == {"ok"}
    assert len(found) == len(permissions.caller_needs(config()))


# Quotas


def quotas_of(applied: dict[str, float], default: dict[str, float], **conf: Any) -> list[Finding]:
    def answers(stub: Stubber) -> None:
        for operation, values in zip(quotas.LISTS, (applied, default), strict=True):
            listed = [quota(name, value) for name, value in values.items()]
            stub.add_response(operation, {"Quotas": listed})

    return quotas.check(config(**conf), stubbed("service-quotas", answers))


def test_a_quota_of_zero_is_refused_with_link_and_command() -> None:
    needed = {"ml.g5.2xlarge for endpoint usage": 1.0, "ml.g5.4xlarge for endpoint usage": 1.0}
    found = quotas_of(needed, {"ml.g5.12xlarge for training job usage": 0.0})
    assert levels(found) == ["ok", "ok", "refused"]
    refused = found[-1]
    assert refused.message == "ml.g5.12xlarge for training job usage is 0, the run needs 1"
    assert refused.fix == (
        "request 1 at https://us-east-1.console.aws.amazon.com/servicequotas/home/services/"
        "sagemaker/quotas/L-37"
    )
    assert refused.command == (
        "aws service-quotas request-service-quota-increase --service-code sagemaker "
        "--quota-code L-37 --desired-value 1 --region us-east-1"
    )


def test_the_applied_value_counts_and_not_the_default() -> None:
    names = [need.quota for need in quotas.needs(config(), [1])]
    found = quotas_of(dict.fromkeys(names, 4.0), dict.fromkeys(names, 0.0))
    assert levels(found) == ["ok", "ok", "ok"]


def test_a_fallback_without_quota_and_fewer_judges_than_candidates_are_warnings() -> None:
    values = {
        "ml.g5.2xlarge for endpoint usage": 1.0,
        "ml.g5.4xlarge for endpoint usage": 0.0,
        "ml.g5.12xlarge for training job usage": 1.0,
    }
    other = {"name": "b", "provider": "bedrock", "model_id": "amazon.nova-micro-v1:0"}
    found = quotas_of(values, {}, candidates=["claude", other])
    assert levels(found) == ["ok", "warning", "warning"]
    assert "a pool of 1 slots" in (found[-1].fix or "")


def test_a_model_without_quota_for_any_of_its_instance_types_is_refused() -> None:
    values = {
        "ml.g5.2xlarge for endpoint usage": 0.0,
        "ml.g5.4xlarge for endpoint usage": 0.0,
        "ml.g5.12xlarge for training job usage": 1.0,
    }
    found = quotas_of(values, {})
    assert levels(found) == ["warning", "warning", "ok", "refused"]
    assert found[-1].message.startswith("qwen can be deployed on none of ml.g5.2xlarge")


def test_every_judge_job_of_a_round_robin_and_of_a_second_judge_wants_its_instance() -> None:
    other = {"name": "b", "provider": "bedrock", "model_id": "amazon.nova-micro-v1:0"}
    second = {"recipe": "nova_2_lite_rubric_llm_judge", "instance_type": "ml.p5.48xlarge"}
    conf = config(
        candidates=["claude", other],
        comparison="round_robin",
        judge={"canaries": 8, "second": second},
    )
    wanted = {need.quota: (need.least, need.most) for need in quotas.needs(conf, [1, 2])}
    assert wanted["ml.g5.12xlarge for training job usage"] == (1, 4)
    assert wanted["ml.p5.48xlarge for training job usage"] == (2, 4)


def test_more_pairs_than_a_judge_job_has_time_for_are_a_warning() -> None:
    assert preflight.judging_time(config(), 28_000) == []
    (found,) = preflight.judging_time(config(), 100_000)
    assert found.level == "warning"
    assert found.message == "100,000 pairs may take 84 h, and the job is stopped after 24.0 h"
    (short,) = preflight.judging_time(config(judge={"max_runtime_minutes": 30}), 1_000)
    assert "stopped after 0.5 h" in short.message


def test_a_second_judge_on_an_instance_that_it_does_not_run_on_is_refused(
    sandbox: Sandbox,
) -> None:
    second = {"recipe": "nova_2_lite_rubric_llm_judge", "instance_type": "ml.g5.12xlarge"}
    said = preflight.refusals(preflight.check(config(judge={"second": second}), sandbox.client))
    assert "amazon.nova-2-lite-v1:0:256k does not run on ml.g5.12xlarge" in said


def test_two_models_on_one_instance_type_need_a_quota_of_two() -> None:
    one = {**QWEN, "deploy": {**QWEN["deploy"], "instance_types": ["ml.g5.2xlarge"]}}
    needed = quotas.needs(config(baseline=one, candidates=[{**one, "name": "twin"}]), [2])
    assert {need.quota: need.least for need in needed} == {
        "ml.g5.2xlarge for endpoint usage": 2,
        "ml.g5.12xlarge for training job usage": 2,
    }


def test_quotas_that_nobody_may_read_or_that_are_not_listed_are_warnings() -> None:
    client = stubbed(
        "service-quotas",
        lambda stub: stub.add_client_error("list_service_quotas", "AccessDeniedException"),
    )
    (found,) = quotas.check(config(), client)
    assert found.level == "warning"
    assert found.fix == "allow servicequotas:ListServiceQuotas to whoever runs this"
    assert levels(quotas_of({}, {})) == ["warning"] * 3


# Models


def test_a_default_container_needs_what_looks_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    named = config()
    without = {key: value for key, value in QWEN["deploy"].items() if key != "image_uri"}
    unnamed = config(baseline={**QWEN, "deploy": without})
    assert preflight.images(unnamed) == []
    monkeypatch.setattr(deploy, "knows_images", lambda: False)
    assert preflight.images(named) == []
    (refused,) = preflight.images(unnamed)
    assert refused.message.startswith("qwen: deploy.image_uri is not given")


def test_what_looks_it_up_takes_seconds_to_import_and_is_not_imported_for_that() -> None:
    says = (
        "import sys; from include import deploy; "
        "print(deploy.knows_images(), 'sagemaker' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", says], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == [b"True", b"False"]


def lifecycle(**values: Any) -> Finding:
    details = {"modelArn": "arn:x", "modelId": "amazon.nova-micro-v1:0"}
    bedrock = stubbed(
        "bedrock",
        lambda stub: stub.add_response(
            "get_foundation_model",
            {"modelDetails": {**details, "modelLifecycle": values}},
            {"modelIdentifier": "anthropic.claude-sonnet-4-6"},
        ),
    )
    (found,) = bedrock_models.check(config(), bedrock)
    return found


def test_a_models_life_is_told() -> None:
    assert lifecycle(status="ACTIVE").level == "ok"
    legacy = lifecycle(status="LEGACY", endOfLifeTime=datetime(2099, 1, 2, tzinfo=UTC))
    assert legacy.level == "warning"
    assert "ends on 2099-01-02" in legacy.message
    ended = lifecycle(status="LEGACY", endOfLifeTime=datetime(2026, 1, 2, tzinfo=UTC))
    assert ended.level == "refused"
    assert "end of life on 2026-01-02" in ended.message


@pytest.mark.parametrize(
    ("model_id", "level"),
    [("anthropic.claude-sonnet-4-6", "refused"), ("us.anthropic.claude-sonnet-4-6", "ok")],
)
def test_a_model_behind_profiles_only_needs_the_profiles_id(model_id: str, level: str) -> None:
    details = {
        "modelArn": "arn:x",
        "modelId": "anthropic.claude-sonnet-4-6",
        "inferenceTypesSupported": ["INFERENCE_PROFILE"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
    bedrock = stubbed(
        "bedrock",
        lambda stub: stub.add_response("get_foundation_model", {"modelDetails": details}),
    )
    asked = {"name": "b", "provider": "bedrock", "model_id": model_id}
    (found,) = bedrock_models.check(config(candidates=[asked]), bedrock)
    assert found.level == level
    if level == "refused":
        assert found.fix and found.fix.startswith("write us.anthropic.claude-sonnet-4-6")


@pytest.mark.parametrize(
    ("model_id", "level"), [("nobody.knows-this", "refused"), ("us.nobody.knows-this", "warning")]
)
def test_a_model_that_bedrock_does_not_have_is_refused_unless_a_profile_may_lead_to_it(
    model_id: str, level: str, sandbox: Sandbox
) -> None:
    unknown = {"name": "b", "provider": "bedrock", "model_id": model_id}
    (found,) = bedrock_models.check(config(candidates=[unknown]), sandbox.client("bedrock"))
    assert found.level == level
    assert "Bedrock has no nobody.knows-this in us-east-1" in found.message


@pytest.mark.parametrize(
    ("model_id", "region", "warned"),
    [
        ("us.anthropic.claude-sonnet-4-6", "ap-northeast-1", True),
        ("eu.anthropic.claude-sonnet-4-6", "us-east-1", True),
        ("us.anthropic.claude-sonnet-4-6", "us-west-2", False),
        ("global.anthropic.claude-sonnet-4-6", "ap-northeast-1", False),
        ("anthropic.claude-sonnet-4-6", "ap-northeast-1", False),
    ],
)
def test_a_profile_of_another_part_of_the_world_is_warned_of(
    model_id: str, region: str, warned: bool, sandbox: Sandbox
) -> None:
    asked = {"name": "b", "provider": "bedrock", "model_id": model_id}
    given = config({"region": region}, candidates=[asked])
    *warnings, life = bedrock_models.check(given, sandbox.client("bedrock"))
    assert "another part of the world" not in life.message, "its life is looked at all the same"
    assert ["another part of the world" in each.message for each in warnings] == [True] * warned
    if region == "ap-northeast-1" and warned:
        assert warnings[0].fix == "write one that begins with apac. or jp. or au. or global."


def test_an_ended_model_is_refused_behind_a_profile_too(sandbox: Sandbox) -> None:
    ended = BedrockModel.model_construct(
        name="b", provider="bedrock", model_id="us.anthropic.claude-3-7-sonnet-20250219-v1:0"
    )
    run = config().model_copy(update={"candidates": [ended]})
    (found,) = bedrock_models.check(run, sandbox.client("bedrock"))
    assert found.level == "refused"
    assert found.fix == "it ended on 2026-04-28; use us.anthropic.claude-sonnet-4-6"


@pytest.mark.parametrize(
    ("model_id", "foundation"),
    [
        ("global.anthropic.claude-sonnet-5", "anthropic.claude-sonnet-5"),
        ("amazon.nova-micro-v1:0", "amazon.nova-micro-v1:0"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.a.b", "a.b"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x1", None),
        ("arn:aws:bedrock:us-east-1:1:provisioned-model/x1", None),
    ],
)
def test_the_foundation_model_behind_an_id_is_found(model_id: str, foundation: str | None) -> None:
    assert bedrock_models.foundation_model(model_id) == foundation


def test_refusals_are_one_message_with_the_fixes() -> None:
    found = [
        Finding("ok", "a", "fine"),
        Finding("refused", "quota", "it is 0", "request 1"),
        Finding("warning", "b", "who knows"),
        Finding("refused", "bucket", "it is not there"),
    ]
    assert findings.refusals(found) == "quota: it is 0; request 1\nbucket: it is not there"


def test_only_who_deletes_for_good_needs_to_be_allowed_to() -> None:
    def erasing(given: RunConfig) -> dict[str, str]:
        found = permissions.caller_needs(given)
        return {need.purpose: need.without for need in found if "for good" in need.purpose}

    both = ("deleting for good", "deleting for good, lists")
    assert erasing(config()) == {}
    assert erasing(config(store_text=False)) == dict.fromkeys(both, "refused")
    old = config()
    environment = old.environment.model_copy(update={"keep_runs_days": 90})
    expiring = old.model_copy(update={"environment": environment})
    assert erasing(expiring) == dict.fromkeys(both, "warning")
