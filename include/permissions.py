"""A run's role and caller in, findings about what IAM lets them do out (IAM policy simulator)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.bedrock_models import foundation_model, led_to
from include.config import BedrockModel, Environment, Model, RunConfig, SageMakerModel
from include.findings import UNCHECKED, Finding, Level, attempt, code
from include.judge_table import REPOSITORY
from include.storage import split_uri

SERVICE, BATCH_SERVICE = "sagemaker.amazonaws.com", "bedrock.amazonaws.com"
SAID = {SERVICE: "SageMaker", BATCH_SERVICE: "Bedrock"}
"""Services that assume a run's roles."""

READ, WRITE, LIST = "s3:GetObject", "s3:PutObject", "s3:ListBucket"
ERASE = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload")
ERASE_LISTS = ("s3:ListBucketVersions", "s3:ListBucketMultipartUploads")
IMAGE = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
NETWORK = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
UNSURE: Level = "warning"
"""What a key's own policy allows cannot be simulated."""

BATCH_CALLS = (
    *("bedrock:CreateModelInvocationJob", "bedrock:GetModelInvocationJob"),
    *("bedrock:StopModelInvocationJob", "bedrock:TagResource", "bedrock:ListTagsForResource"),
)
JOB_CALLS = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags", "ListTags")
ENDPOINT_CALLS = tuple(
    f"{verb}{what}"
    for verb in ("Create", "Describe", "Delete")
    for what in ("Model", "EndpointConfig", "Endpoint")
)
TAGS = ("sagemaker:AddTags", "sagemaker:ListTags")
LISTED = ("Models", "EndpointConfigs", "Endpoints", "TrainingJobs")

Led = Mapping[str, Sequence[str]]
"""ARNs of the models that inference profiles lead to, by the model's name."""
NOWHERE: Led = {}


@dataclass(frozen=True)
class Need:
    """Actions that somebody needs on a resource."""

    purpose: str
    """What for; also the end of the policy's name in a fix."""
    actions: Sequence[str]
    resource: str
    without: Level = "refused"
    """What it means if they are missing."""
    passed_to: str | None = None
    """Value of the condition key iam:PassedToService."""

    @property
    def policy(self) -> dict[str, Any]:
        """The policy that grants it."""
        granted: dict[str, Any] = {"Effect": "Allow", "Action": list(self.actions)}
        granted["Resource"] = self.resource
        if self.passed_to:
            granted["Condition"] = {"StringEquals": {"iam:PassedToService": self.passed_to}}
        return {"Version": "2012-10-17", "Statement": [granted]}


def check(
    config: RunConfig, iam: Any, sts: Any, s3: Any, bedrock: Any, image: str | None
) -> list[Finding]:
    """Ask IAM whether the execution role and the caller may do what a run needs.

    Args:
        config: The run.
        iam: boto3's client.
        sts: boto3's client, for who the caller is.
        s3: boto3's client, for whether the bucket has a policy of its own.
        bedrock: boto3's client, for where inference profiles lead to.
        image: The judge's container.

    Returns:
        One finding for the trust and one for each purpose of role and caller.
    """
    environment = config.environment
    led = {m.name: led_to(m, bedrock) for m in config.models if isinstance(m, BedrockModel)}
    bucket_policy = _has_policy(s3, split_uri(environment.output_s3_uri)[0])
    execution, needed = environment.execution_role_arn, role_needs(config, image)
    findings = _role(iam, environment, execution, SERVICE, needed, bucket_policy)
    for arn, models in batch_roles(config).items():
        needs = [
            need
            for need in batch_role_needs(environment, models, led)
            if arn != execution or need not in needed
        ]
        findings += _role(iam, environment, arn, BATCH_SERVICE, needs, bucket_policy)
    findings += attempt(
        "caller",
        "sts:GetCallerIdentity",
        lambda: _caller(config, iam, sts, bucket_policy, image, led),
    )
    return findings


def _role(
    iam: Any,
    environment: Environment,
    arn: str,
    service: str,
    needs: Sequence[Need],
    bucket_policy: bool,
) -> list[Finding]:
    """Look whether a service may assume a role, and the role do what it needs to."""
    trust = trusted(iam, environment, arn, service)
    if any(finding.level == "refused" for finding in trust):
        return trust
    who = "role" if service == SERVICE else "batch role"
    return [*trust, *simulate(iam, who, arn, needs, bucket_policy)]


def trusted(iam: Any, environment: Environment, arn: str, service: str = SERVICE) -> list[Finding]:
    """Look whether a role is there and a service may assume it (IAM: GetRole)."""
    what, key = "role", "execution_role_arn"
    if service == BATCH_SERVICE:
        what, key = "batch role", "the model's role_arn"
    name, account = arn.rsplit("/", 1)[-1], arn.split(":")[4]
    if account != environment.account_id:
        message = f"{arn} is in account {account}, the environment in {environment.account_id}"
        return [Finding("refused", what, message, f"correct {key}")]

    def look() -> list[Finding]:
        try:
            role = iam.get_role(RoleName=name)["Role"]
        except iam.exceptions.NoSuchEntityException:
            return [_no_role(what, name, service)]
        policy = role.get("AssumeRolePolicyDocument") or {}
        if any(_lets_assume(statement, service) for statement in _statements(policy)):
            return [Finding("ok", what, f"{name} exists, and {SAID[service]} may assume it")]
        added = trust_policy(service)["Statement"]
        wanted = {**policy, "Statement": [*_statements(policy), *added]}
        command = (
            f"aws iam update-assume-role-policy --role-name {name} --policy-document "
            + shlex.quote(json.dumps(wanted))
        )
        message = f"{SAID[service]} may not assume {name}"
        return [Finding("refused", what, message, f"let {service} assume it", command)]

    return attempt(what, "iam:GetRole", look)


def trust_policy(service: str = SERVICE) -> dict[str, Any]:
    """Return the trust policy of a role that a service assumes."""
    allowed = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [allowed]}


def batch_roles(config: RunConfig) -> dict[str, list[BedrockModel]]:
    """Return the roles of batch jobs, each with the models that are asked under it."""
    roles: dict[str, list[BedrockModel]] = {}
    for model in config.models:
        if isinstance(model, BedrockModel) and model.batch:
            arn = model.role_arn or config.environment.execution_role_arn
            roles.setdefault(arn, []).append(model)
    return roles


def batch_role_needs(
    environment: Environment, models: Sequence[BedrockModel], led: Led = NOWHERE
) -> list[Need]:
    """Return what batch jobs with some models do under their role."""
    needs = [*_storage(environment.output_s3_uri), *_output_key(environment)]
    for model in models:
        needs += _with_model("asking", "bedrock:InvokeModel", model, environment, led)
    return [*needs, *([Need("network", NETWORK, "*")] if environment.vpc else [])]


def role_needs(config: RunConfig, image: str | None) -> list[Need]:
    """Return what endpoints and judge jobs do under the execution role."""
    environment = config.environment
    needs = [*_storage(environment.output_s3_uri), *_encryption(environment)]
    for model in config.models:
        if isinstance(model, SageMakerModel) and model.deploy and model.deploy.model_data:
            bucket, key = split_uri(model.deploy.model_data)
            needs.append(Need(f"archive of {model.name}", [READ], f"arn:aws:s3:::{bucket}/{key}"))
    needs.append(Need("registry", ["ecr:GetAuthorizationToken"], "*"))
    if arn := _repository(image):
        needs.append(Need("image of the judge", IMAGE, arn))
    groups = f"arn:aws:logs:{environment.region}:{environment.account_id}:log-group"
    needs.append(Need("logs", LOGS, f"{groups}:/aws/sagemaker/*", "warning"))
    if environment.vpc:
        needs.append(Need("network", NETWORK, "*"))
    return needs


def _repository(image: str | None) -> str | None:
    """Return the ARN of an image's repository; None for one that is not in ECR."""
    found = REPOSITORY.match(image or "")
    if found is None:
        return None
    return f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['name']}"


def caller_needs(config: RunConfig, image: str | None = None, led: Led = NOWHERE) -> list[Need]:
    """Return what Airflow itself does on AWS."""
    environment = config.environment
    region, account = environment.region, environment.account_id
    role = environment.execution_role_arn
    jobs = [f"sagemaker:{call}" for call in JOB_CALLS]
    ours = f"arn:aws:sagemaker:{region}:{account}"
    needs = [
        *_storage(environment.output_s3_uri),
        *_output_key(environment),
        Need("judge jobs", jobs, f"{ours}:training-job/nj-*"),
        Need("passing the role", ["iam:PassRole"], role, passed_to=SERVICE),
    ]
    deployed = [m for m in config.models if isinstance(m, SageMakerModel)]
    if any(model.deploy for model in deployed):
        for kind in ("Model", "EndpointConfig", "Endpoint"):
            calls = [f"sagemaker:{call}" for call in ENDPOINT_CALLS if call.endswith(kind)]
            if kind == "EndpointConfig":
                calls.append("sagemaker:CreateEndpoint")  # asked for on both
            path = {"EndpointConfig": "endpoint-config"}.get(kind, kind.lower())
            needs.append(Need(f"{path}s", [*calls, *TAGS], f"{ours}:{path}/nj-*"))
        if volume := environment.volume_kms_key_arn:
            needs.append(Need("volume key of endpoints", ["kms:CreateGrant"], volume, UNSURE))
    for model in config.models:
        needs += _asking(model, environment, led)
    needs += _batch_jobs(config, led)
    if arn := _repository(image):
        needs.append(Need("digest of the judge's image", ["ecr:BatchGetImage"], arn, "warning"))
    needs += _erasing(config)
    for alert in config.alerts:
        if alert.channel == "sns" and not alert.conn_id:
            topic = alert.to.rsplit(":", 1)[-1]
            needs.append(Need(f"alerts to {topic}", ["sns:Publish"], alert.to, "warning"))
    lists = [f"sagemaker:List{what}" for what in LISTED]
    needs.append(Need("cleaning up", lists, "*", "warning"))
    logs = ["logs:DescribeLogStreams", "logs:GetLogEvents"]
    groups = f"arn:aws:logs:{region}:{account}:log-group:/aws/sagemaker/*"
    return [*needs, Need("reading logs", logs, groups, "warning")]


def _asking(model: Model, environment: Environment, led: Led) -> list[Need]:
    """Return what asking a model needs; a profile and the model behind it are both asked for."""
    if isinstance(model, SageMakerModel):
        ours = f"arn:aws:sagemaker:{environment.region}:{environment.account_id}"
        arn = f"{ours}:endpoint/{model.endpoint_name or 'nj-*'}"
        calls = ["sagemaker:InvokeEndpoint"]
        calls += ["sagemaker:DescribeEndpoint"] if model.endpoint_name else []
        needs = [Need(f"asking {model.name}", calls, arn)]
        if component := model.inference_component_name:
            arn = f"{ours}:inference-component/{component}"
            looking = ["sagemaker:DescribeInferenceComponent"]
            needs.append(Need(f"looking at {component}", looking, arn))
        return needs
    if not isinstance(model, BedrockModel):
        return []
    return _with_model("asking", "bedrock:InvokeModel", model, environment, led)


def _with_model(
    doing: str, action: str, model: BedrockModel, environment: Environment, led: Led
) -> list[Need]:
    """Return a need for each ARN of a model, under names that differ: policies take them."""

    def where(arn: str) -> str:
        region = arn.split(":")[3]
        if "profile/" in arn:
            return ", its profile"
        return "" if region == environment.region else f" in {region or 'all regions'}"

    return [
        Need(f"{doing} {model.name}{where(arn)}", [action], arn)
        for arn in model_arns(model, environment, led.get(model.name, ()))
    ]


def model_arns(model: BedrockModel, environment: Environment, led: Sequence[str] = ()) -> list[str]:
    """Return the ARNs of a model of Bedrock: of a profile, and of the models behind it.

    Args:
        model: The model.
        environment: Where it is asked.
        led: What its profile leads to; empty: that of the environment's region is taken.
    """
    region, account = environment.region, environment.account_id
    arns = list(led)
    foundation = foundation_model(model.model_id)
    if foundation and not led:
        arns.append(f"arn:aws:bedrock:{region}::foundation-model/{foundation}")
    if model.model_id.startswith("arn:"):
        arns.append(model.model_id)
    elif model.model_id != foundation:
        arns.append(f"arn:aws:bedrock:{region}:{account}:inference-profile/{model.model_id}")
    return list(dict.fromkeys(arns))


def _batch_jobs(config: RunConfig, led: Led) -> list[Need]:
    """Return what starting, finding and stopping batch jobs needs, where there are any."""
    environment, roles = config.environment, batch_roles(config)
    if not roles:
        return []
    jobs = f"arn:aws:bedrock:{environment.region}:{environment.account_id}:model-invocation-job/*"
    needs = [
        Need("batch jobs", BATCH_CALLS, jobs),
        Need("finding batch jobs", ["bedrock:ListModelInvocationJobs"], "*"),
    ]
    for role, models in roles.items():
        passed = f"passing {role.rsplit('/', 1)[-1]} to batch jobs"
        needs.append(Need(passed, ["iam:PassRole"], role, passed_to=BATCH_SERVICE))
        for model in models:
            needs += _with_model("a batch job with", BATCH_CALLS[0], model, environment, led)
    return needs


def simulate(
    iam: Any, who: str, arn: str, needs: Sequence[Need], bucket_policy: bool = False
) -> list[Finding]:
    """Ask for each need whether it is met (IAM: SimulatePrincipalPolicy).

    Args:
        iam: boto3's client.
        who: `role` or `caller`, for the findings.
        arn: The role or user.
        needs: What it needs.
        bucket_policy: Whether the bucket has a policy of its own, which IAM does not simulate for
            roles: then a missing permission on S3 is a warning.
    """
    findings: list[Finding] = []
    for need in needs:

        def look(need: Need = need) -> list[Finding]:
            return [_finding(who, arn, need, _decisions(iam, arn, need), bucket_policy)]

        found = attempt(who, "iam:SimulatePrincipalPolicy", look)
        findings += found
        if found[0].message.startswith(UNCHECKED):
            break  # the next one would say the same
    return findings


def _decisions(iam: Any, arn: str, need: Need) -> list[dict[str, Any]]:
    request: dict[str, Any] = {
        "PolicySourceArn": arn,
        "ActionNames": list(need.actions),
        "ResourceArns": [need.resource],
    }
    if need.passed_to:
        request["ContextEntries"] = [
            {
                "ContextKeyName": "iam:PassedToService",
                "ContextKeyValues": [need.passed_to],
                "ContextKeyType": "string",
            }
        ]
    pages = iam.get_paginator("simulate_principal_policy").paginate(**request)
    return [result for page in pages for result in page["EvaluationResults"]]


def _finding(
    who: str, arn: str, need: Need, decisions: list[dict[str, Any]], bucket_policy: bool
) -> Finding:
    name = arn.rsplit("/", 1)[-1]
    denied = [each for each in decisions if each["EvalDecision"] != "allowed"]
    if not denied:
        return Finding("ok", who, f"{name} is allowed: {need.purpose}")
    actions = ", ".join(each["EvalActionName"] for each in denied)
    message = f"{name} may not {actions} on {need.resource} ({need.purpose})"
    unsure = not any(each["EvalDecision"] == "explicitDeny" for each in denied)
    if unsure and any(each.get("MissingContextValues") for each in denied):
        keys = sorted({key for each in denied for key in each.get("MissingContextValues", [])})
        message += f", unless the policy's condition on {', '.join(keys)} holds"
        return Finding("warning", who, message)
    if unsure and bucket_policy and need.resource.startswith("arn:aws:s3:::"):
        message += ", unless the bucket's own policy says so, which cannot be simulated"
        return Finding("warning", who, message)
    fix = f"allow {name} {actions}"
    if not unsure:
        return Finding(need.without, who, message, f"{fix}: a policy denies it explicitly")
    kind = "user" if ":user/" in arn else "role"
    label = re.sub(r"[^A-Za-z0-9]+", "-", need.purpose)
    command = (
        f"aws iam put-{kind}-policy --{kind}-name {name} --policy-name nova-judge-{label} "
        f"--policy-document {shlex.quote(json.dumps(need.policy))}"
    )
    return Finding(need.without, who, message, fix, command)


def _caller(
    config: RunConfig,
    iam: Any,
    sts: Any,
    bucket_policy: bool,
    image: str | None = None,
    led: Led = NOWHERE,
) -> list[Finding]:
    arn = str(sts.get_caller_identity()["Arn"])
    kind, _, rest = arn.split(":", 5)[5].partition("/")
    if kind == "root":
        message = "this is the account's root user, who may do everything"
        return [Finding("warning", "caller", message, "run Airflow under a role of its own")]
    if kind == "assumed-role":
        arn = _role_arn(iam, rest.split("/")[0], config.environment.account_id)
    return simulate(iam, "caller", arn, caller_needs(config, image, led), bucket_policy)


def _role_arn(iam: Any, name: str, account: str) -> str:
    """Return a role's ARN; its path is not in the identity that STS names."""
    from botocore.exceptions import ClientError

    try:
        return str(iam.get_role(RoleName=name)["Role"]["Arn"])
    except ClientError:
        return f"arn:aws:iam::{account}:role/{name}"


def _storage(uri: str) -> list[Need]:
    bucket, objects = _arns(uri)
    return [Need("storage", [READ, WRITE], objects), Need("storage list", [LIST], bucket)]


def _erasing(config: RunConfig) -> list[Need]:
    """Return what it takes to delete for good: a run's texts, and run folders that are old."""
    if config.store_text and config.environment.keep_runs_days is None:
        return []
    level: Level = "warning" if config.store_text else "refused"
    bucket, objects = _arns(config.environment.output_s3_uri)
    return [
        Need("deleting for good", ERASE, objects, level),
        Need("deleting for good, lists", ERASE_LISTS, bucket, level),
    ]


def _arns(uri: str) -> tuple[str, str]:
    """Return the ARNs of a bucket and of the objects below a URI."""
    bucket, prefix = split_uri(uri)
    arn = f"arn:aws:s3:::{bucket}"
    return arn, f"{arn}/{prefix}/*" if prefix else f"{arn}/*"


def _output_key(environment: Environment) -> list[Need]:
    key = environment.kms_key_arn
    if not key:
        return []
    return [Need("output key", ["kms:GenerateDataKey", "kms:Decrypt"], key, UNSURE)]


def _encryption(environment: Environment) -> list[Need]:
    volume, needs = environment.volume_kms_key_arn, _output_key(environment)
    if volume:
        needs.append(Need("volume key", ["kms:CreateGrant", "kms:DescribeKey"], volume, UNSURE))
    return needs


def _no_role(what: str, name: str, service: str) -> Finding:
    command = (
        f"aws iam create-role --role-name {name} --assume-role-policy-document "
        + shlex.quote(json.dumps(trust_policy(service)))
    )
    return Finding("refused", what, f"there is no role {name}", "create it", command)


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    statements = policy.get("Statement", [])
    return [statements] if isinstance(statements, dict) else list(statements)


def _lets_assume(statement: dict[str, Any], service: str) -> bool:
    principal, actions = statement.get("Principal", {}), statement.get("Action", [])
    services = principal.get("Service", []) if isinstance(principal, dict) else principal
    services = [services] if isinstance(services, str) else services
    actions = [actions] if isinstance(actions, str) else actions
    return (
        statement.get("Effect") == "Allow"
        and bool({service, "*"} & set(services))
        and bool({"sts:AssumeRole", "sts:*", "*"} & set(actions))
    )


def _has_policy(s3: Any, bucket: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return bool(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    except (BotoCoreError, ClientError) as error:
        return code(error) != "NoSuchBucketPolicy"
