"""Facts about the policies in infra/nova-judge.yaml: a run passes under exactly these, and each of
their statements is missed. The sandbox holds every call against them, over HTTP.
"""

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from run_work import CLAUDE, NOVA, config, prompts, whole, write_rows
from sandbox_server import ROOT, Sandbox

from include import judge_table, ownership, permissions, runs, steps
from include.config_files import resolve_config
from include.errors import JudgeError
from include.runs import Run

TEMPLATE = ROOT / "infra" / "nova-judge.yaml"
ACCOUNT = "000000000000"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/k"
REGISTRY = "708977205387"
VALUES = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": ACCOUNT,
    "BucketName": "nova-judge-sandbox",
    "Prefix": "nova-judge",
    "AlertTopics": "nova-judge-*",
    "Key.Arn": KEY,
}
AIRFLOWS = ("Evaluations", "BatchJobs", "Deletion", "Looking")
"""Policies of Airflow's role."""

UNSEEN = {
    "KeyOfTheBucket": "the sandbox has no KMS; S3 asks KMS with the caller's permissions",
    "LogsRead": "logs are read only when a job or an endpoint has failed",
    "Metrics": "what containers measure is for people, and no run asks for it",
    "Alerts": "an alert that cannot be sent is said in the log, and ends no run",
}
"""Statements that no run here misses, and why; what they are for says AWS's Service Authorization
Reference."""

DEGRADED = ("Janitor", "DigestOfTheJudge")
"""Statements without which a run goes on: what is left is not removed, the digest is unknown."""


class _CloudFormation(yaml.SafeLoader):
    """Reads the template with the values of the sandbox's account."""


def _filled(loader: yaml.Loader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode) and tag == "Sub":
        text = str(loader.construct_sequence(node)[0]).replace("${Registry}", REGISTRY)
        return re.sub(r"\$\{([\w:.]+)\}", lambda found: VALUES.get(found[1], found[1]), text)
    if not isinstance(node, yaml.ScalarNode):
        return None  # of conditions and mappings
    if tag == "Sub":
        return re.sub(r"\$\{([\w:.]+)\}", lambda found: VALUES.get(found[1], found[1]), node.value)
    return VALUES.get(node.value, node.value)


_CloudFormation.add_multi_constructor("!", _filled)


def documents(role: str) -> dict[str, Any]:
    """Return the policies by name; `role` is what the execution role is called."""
    text = TEMPLATE.read_text().replace(
        "!GetAtt ExecutionRole.Arn", f"arn:aws:iam::{ACCOUNT}:role/{role}"
    )
    resources = yaml.load(text, _CloudFormation)["Resources"]
    found = {name: resources[name]["Properties"]["PolicyDocument"] for name in AIRFLOWS}
    (inline,) = resources["ExecutionRole"]["Properties"]["Policies"]
    return {**found, "ExecutionRole": inline["PolicyDocument"]}


class Account:
    """Roles of the template in the sandbox, and the sandbox as Airflow's role sees it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.url = sandbox, sandbox.url
        self.iam, self.name = sandbox.client("iam"), f"airflow-{uuid4().hex[:8]}"
        self.execution = f"execution-{uuid4().hex[:8]}"
        self.documents = documents(self.execution)
        services = ["sagemaker.amazonaws.com", "bedrock.amazonaws.com"]
        self._role(self.execution, {"Service": services})
        self.arn = self._role(self.name, {"AWS": "*"})
        self.whole()
        taken = sandbox.client("sts").assume_role(RoleArn=self.arn, RoleSessionName="airflow")
        keys = taken["Credentials"]
        self.session = boto3.session.Session(
            keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], "us-east-1"
        )

    def _role(self, name: str, principal: Any) -> str:
        allowed = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        return str(made["Role"]["Arn"])

    def _put(self, role: str, name: str, document: Any) -> None:
        self.iam.put_role_policy(
            RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document)
        )

    def whole(self) -> None:
        """Give both roles all statements."""
        self._put(self.execution, "ExecutionRole", self.documents["ExecutionRole"])
        for name in AIRFLOWS:
            self._put(self.name, name, self.documents[name])

    def without(self, policy: str, sid: str) -> None:
        """Give it all but one."""
        self.whole()
        document = copy.deepcopy(self.documents[policy])
        document["Statement"] = [s for s in document["Statement"] if s["Sid"] != sid]
        role = self.execution if policy == "ExecutionRole" else self.name
        self._put(role, policy, document)

    def client(self, service: str, **_: Any) -> Any:
        return self.session.client(service, endpoint_url=self.url)


@pytest.fixture(scope="module")
def account(sandbox: Sandbox) -> Account:
    return Account(sandbox)


@pytest.fixture
def conf(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """An evaluation that deploys an endpoint and asks Bedrock."""
    home = tmp_path / "config"
    (home / "environments").mkdir(parents=True)
    text = (ROOT / "dags/environments/sandbox.yaml").read_text()
    text = re.sub(r"role/[\w-]+", f"role/{account.execution}", text)
    (home / "environments/sandbox.yaml").write_text(text)
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(home))
    small = {"name": "small", "provider": "sagemaker"}
    small |= {"deploy": {"model_id": "Small/Small-1B", "instance_types": ["ml.g5.2xlarge"]}}  # type: ignore[dict-item]
    yield config(write_rows(tmp_path / "p.jsonl", prompts(3)), baseline=small, candidates=[CLAUDE])
    account.whole()


def statements() -> list[tuple[str, str]]:
    """Return every statement of both roles: policy and Sid."""
    found = documents("x").items()
    return [(name, s["Sid"]) for name, document in found for s in document["Statement"]]


def run_all(account: Account, conf: dict[str, Any]) -> Run:
    """Do all that a run's tasks and then the janitor call AWS for, as Airflow's role."""
    record = steps.resolve(
        conf,
        dag_id="d",
        run_id=str(uuid4()),
        started_at="2026-11-26T06:00:00+00:00",
        connect=lambda _: account.client,
    )
    run = runs.open_run(record, account.client)
    steps.plan(run, steps.load_prompts(run))
    sagemaker = account.client("sagemaker")
    (deployed,) = [each for each in steps.reserve(run, []) if each["requests"]]
    with an_endpoint(sagemaker, deployed):
        whole(account, run)  # type: ignore[arg-type]
    left = ownership.clean(
        sagemaker,
        account.client("bedrock"),
        run_state=lambda *_: "active",
        output_uri=run.config.environment.output_s3_uri,
        max_age=timedelta(hours=26),
        dry_run=False,
    )
    assert not list(left)
    return run


@contextmanager
def an_endpoint(sagemaker: Any, deployed: Any) -> Iterator[None]:
    """Call for an endpoint what `deploy` and `delete` call."""
    requests, name = deployed["requests"], deployed["endpoint_name"]
    settings = requests["EndpointConfigs"][0]
    sagemaker.create_model(**requests["Model"])
    try:
        sagemaker.create_endpoint_config(**settings)
        made = sagemaker.create_endpoint(
            EndpointName=name,
            EndpointConfigName=settings["EndpointConfigName"],
            Tags=requests["Tags"],
        )
        sagemaker.get_waiter("endpoint_in_service").wait(
            EndpointName=name, WaiterConfig={"Delay": 1}
        )
        assert sagemaker.list_tags(ResourceArn=made["EndpointArn"])["Tags"]
        yield
        sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.delete_endpoint_config(EndpointConfigName=settings["EndpointConfigName"])
    finally:
        sagemaker.delete_model(ModelName=requests["Model"]["ModelName"])


def test_a_run_passes_under_exactly_these_policies(account: Account, conf: dict[str, Any]) -> None:
    run = run_all(account, conf)
    summary = json.loads(run.folder.read("summary.json"))
    assert summary["status"] == "complete"
    assert summary["comparisons"][0]["counts"]["pairs"] == 3


NEEDED = [sid for policy, sid in statements() if policy == "Evaluations"]
NEEDED = [sid for sid in NEEDED if sid not in UNSEEN and sid not in DEGRADED]


@pytest.mark.parametrize("sid", NEEDED)
def test_a_run_fails_without_a_statement_and_says_what_it_may_not(
    account: Account, conf: dict[str, Any], sid: str
) -> None:
    (statement,) = [s for s in account.documents["Evaluations"]["Statement"] if s["Sid"] == sid]
    actions = statement["Action"]
    account.without("Evaluations", sid)
    with pytest.raises((ClientError, JudgeError)) as error:
        run_all(account, conf)
    said = str(error.value)
    assert any(action in said for action in ([actions] if isinstance(actions, str) else actions))


EVERYTHING = {
    "baseline": {
        "name": "small",
        "provider": "sagemaker",
        "deploy": {"model_id": "Small/Small-1B", "instance_types": ["ml.g5.2xlarge"]},
    },
    "candidates": [CLAUDE, {**NOVA, "batch": True}],
    "store_text": False,
    "alerts": [{"channel": "sns", "to": f"arn:aws:sns:us-east-1:{ACCOUNT}:nova-judge-nightly"}],
}
LOOKED_FOR = [
    (policy, sid) for policy, sid in statements() if policy != "Looking" and sid != "Metrics"
]


def findings(account: Account, conf: dict[str, Any]) -> list[Any]:
    """Return what make doctor finds about both roles."""
    resolved = resolve_config({**conf, **EVERYTHING})
    encrypted = resolved.environment.model_copy(update={"kms_key_arn": KEY})
    resolved = resolved.model_copy(update={"environment": encrypted})
    execution, found = resolved.environment.execution_role_arn, list[Any]()
    batch = permissions.batch_roles(resolved)[execution]
    for who, arn, needs in (
        ("caller", account.arn, permissions.caller_needs(resolved, IMAGE)),
        ("role", execution, permissions.role_needs(resolved, IMAGE)),
        ("batch role", execution, permissions.batch_role_needs(resolved.environment, batch)),
    ):
        found += permissions.simulate(account.iam, who, arn, needs)
    return found


IMAGE = f"{REGISTRY}.dkr.ecr.us-east-1.amazonaws.com/nova-evaluation-repo:latest"


def test_the_doctor_finds_nothing_missing(account: Account, conf: dict[str, Any]) -> None:
    assert {each.level for each in findings(account, conf)} == {"ok"}


@pytest.mark.parametrize(("policy", "sid"), LOOKED_FOR)
def test_the_doctor_misses_each_statement(
    account: Account, conf: dict[str, Any], policy: str, sid: str
) -> None:
    account.without(policy, sid)
    missed = [each for each in findings(account, conf) if each.level != "ok"]
    assert missed and all(each.fix for each in missed)


def test_the_stack_knows_the_judges_registry_in_every_region() -> None:
    mapped = yaml.load(TEMPLATE.read_text(), _CloudFormation)["Mappings"]["JudgeRegistry"]
    found = {region: each["Account"] for region, each in mapped.items()}
    assert found == judge_table.table().image.accounts
    assert found["us-east-1"] == REGISTRY
