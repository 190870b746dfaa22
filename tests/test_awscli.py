"""Facts about the sandbox in the hands of a person with awscli, installed from PyPI."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_server import Sandbox, running_sandbox
from sandbox_work import BUCKET, ONE, ROLE, job_request, put_input

pytestmark = pytest.mark.slow

BODY = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}


class Shell:
    """A person's shell: aws against a sandbox."""

    def __init__(self, command: Path, sandbox: Sandbox, folder: Path) -> None:
        self.command, self.sandbox, self.folder = command, sandbox, folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.environ = {
            **kept,
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.command), "--endpoint-url", self.sandbox.url, *arguments],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def ok(self, *arguments: str) -> Any:
        """Run a command that has to succeed; return its JSON."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, *arguments: str) -> str:
        """Run a command that AWS has to refuse; return what it says."""
        done = self.run(*arguments)
        assert done.returncode != 0, done.stdout
        assert "An error occurred" in done.stderr
        return done.stderr

    def until(self, key: str, value: str, *arguments: str) -> Any:
        """Describe until a field has a value."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            answer = self.ok(*arguments)
            if answer[key] == value:
                return answer
        raise AssertionError(answer)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("awscli")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin" / "pip"), "install", "--quiet", "awscli"]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "bin" / "aws"


@pytest.fixture(scope="module")
def shell(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    settings = {
        "sandbox_delays": "endpoint=15,delete=0,job=12",
        "sandbox_quotas": "ml.g6.12xlarge for training job usage=0",
    }
    with running_sandbox(tmp_path_factory.mktemp("state"), **settings) as running:
        yield Shell(command, running, tmp_path_factory.mktemp("home"))


def test_endpoints_by_hand(shell: Shell) -> None:
    container = {"Image": "tgi", "Environment": {"HF_MODEL_ID": "Tiny/Tiny-1B"}}
    model = ["--model-name", "hand", "--execution-role-arn", ROLE]
    model += ["--primary-container", json.dumps(container), "--tags", "Key=team,Value=search"]
    arn = shell.ok("sagemaker", "create-model", *model)["ModelArn"]
    again = shell.refused("sagemaker", "create-model", *model)
    assert "(ValidationException) when calling the CreateModel operation" in again
    assert f'Cannot create already existing model "{arn}".' in again

    variant = "VariantName=AllTraffic,ModelName=hand,InitialInstanceCount=1,InstanceType="
    config = ["--endpoint-config-name", "hand", "--production-variants"]
    bad = shell.refused("sagemaker", "create-endpoint-config", *config, f"{variant}ml.z9.huge")
    assert "Member must satisfy enum value set" in bad
    shell.ok("sagemaker", "create-endpoint-config", *config, f"{variant}ml.g5.2xlarge")

    endpoint = ["--endpoint-name", "hand"]
    none = shell.refused("sagemaker", "describe-endpoint", *endpoint)
    assert (
        'Could not find endpoint "arn:aws:sagemaker:us-east-1:000000000000:endpoint/hand"' in none
    )
    shell.ok("sagemaker", "create-endpoint", *endpoint, "--endpoint-config-name", "hand")
    early = shell.refused("sagemaker", "delete-endpoint", *endpoint)
    assert "Cannot update in-progress endpoint" in early
    (shell.folder / "body.json").write_text(json.dumps(BODY))
    invoke = ["sagemaker-runtime", "invoke-endpoint", *endpoint, "--body", "fileb://body.json"]
    assert "Endpoint hand of account" in shell.refused(*invoke, "answer.json")
    shell.ok("sagemaker", "wait", "endpoint-in-service", *endpoint)

    listed = shell.ok("sagemaker", "list-endpoints", "--name-contains", "han")["Endpoints"]
    assert [(e["EndpointName"], e["EndpointStatus"]) for e in listed] == [("hand", "InService")]
    shell.ok(*invoke, "answer.json")
    answer = json.loads((shell.folder / "answer.json").read_text())
    assert answer["choices"][0]["message"]["content"]
    tags = shell.ok("sagemaker", "list-tags", "--resource-arn", arn)["Tags"]
    assert tags == [{"Key": "team", "Value": "search"}]

    shell.ok("sagemaker", "delete-endpoint", *endpoint)
    shell.ok("sagemaker", "wait", "endpoint-deleted", *endpoint)
    shell.ok("sagemaker", "delete-endpoint-config", "--endpoint-config-name", "hand")
    shell.ok("sagemaker", "delete-model", "--model-name", "hand")
    assert shell.ok("sagemaker", "list-models")["Models"] == []
    assert "Could not find model" in shell.refused(
        "sagemaker", "delete-model", "--model-name", "hand"
    )


def test_training_jobs_by_hand(shell: Shell) -> None:
    put_input(shell.sandbox, "cli", ONE)

    def request(job: str, instance_type: str = "ml.g5.12xlarge") -> list[str]:
        resources = {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30}
        tags = [{"Key": "run", "Value": "7"}]
        body = job_request("cli", job, ResourceConfig=resources, Tags=tags)
        return ["sagemaker", "create-training-job", "--cli-input-json", json.dumps(body)]

    def described(job: str) -> list[str]:
        return ["sagemaker", "describe-training-job", "--training-job-name", job]

    assert "ml.z9.huge" in shell.refused(*request("bad", "ml.z9.huge"))
    beyond = shell.refused(*request("beyond", "ml.g6.12xlarge"))
    assert "(ResourceLimitExceeded)" in beyond
    assert "'ml.g6.12xlarge for training job usage' is 0 Instances" in beyond
    assert "Requested resource not found." in shell.refused(*described("absent"))

    arn = shell.ok(*request("done"))["TrainingJobArn"]
    assert "(ResourceInUse)" in shell.refused(*request("done"))
    shell.ok(*request("stopped"))
    running = shell.ok("sagemaker", "list-training-jobs", "--status-equals", "InProgress")
    names = [job["TrainingJobName"] for job in running["TrainingJobSummaries"]]
    assert names == ["done", "stopped"]  # AWS lists jobs with the oldest first
    stop = ["sagemaker", "stop-training-job", "--training-job-name", "stopped"]
    shell.ok(*stop)
    shell.until("TrainingJobStatus", "Stopped", *described("stopped"))
    assert "is in status Stopped" in shell.refused(*stop)

    shell.until("TrainingJobStatus", "Completed", *described("done"))
    wait = ["sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name"]
    shell.ok(*wait, "done")
    tags = shell.ok("sagemaker", "list-tags", "--resource-arn", arn)["Tags"]
    assert tags == [{"Key": "run", "Value": "7"}]
    kept = shell.run("s3", "ls", f"s3://{BUCKET}/cli/out/done/output/")
    assert "output.tar.gz" in kept.stdout
    group = ["--log-group-name", "/aws/sagemaker/TrainingJobs"]
    prefix = ["--log-stream-name-prefix", "done/"]
    (stream,) = shell.ok("logs", "describe-log-streams", *group, *prefix)["logStreams"]
    name = ["--log-stream-name", stream["logStreamName"]]
    events = shell.ok("logs", "get-log-events", *group, *name)["events"]
    assert events[-1]["message"] == "Evaluation complete"


def test_role_and_quotas_by_hand(shell: Shell) -> None:
    simulated = shell.ok(
        *("iam", "simulate-principal-policy", "--policy-source-arn", ROLE),
        *("--action-names", "s3:GetObject", "s3:DeleteBucket"),
        *("--resource-arns", f"arn:aws:s3:::{BUCKET}/x"),
    )
    decisions = [result["EvalDecision"] for result in simulated["EvaluationResults"]]
    assert decisions == ["allowed", "implicitDeny"]
    quotas = ["service-quotas", "list-service-quotas", "--service-code", "sagemaker"]
    wanted = "Quotas[?QuotaName=='ml.g6.12xlarge for training job usage'].Value"
    assert shell.ok(*quotas, "--query", wanted) == [0.0]
