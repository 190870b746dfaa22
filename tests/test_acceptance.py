"""Facts about `make acceptance`: what it costs is said first, all is deleted, the bundle is true.

The sandbox stands in for AWS. A bundle from AWS itself goes into tests/bundles/, and is then
compared with the sandbox here.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.config import Config
from sandbox_server import ROOT, SESSION, Sandbox, free_port, running_sandbox

from include.config_files import load_environment
from include.errors import ResultsError
from scripts.acceptance import __main__ as acceptance
from scripts.acceptance import bundle
from scripts.acceptance.bundle import Bundle
from scripts.acceptance.redact import Redactor
from scripts.acceptance.trial import Trial

pytestmark = pytest.mark.filterwarnings(
    # judging.summarize leaves the judge's archive, a temporary file, for the garbage collector
    "ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)

BUNDLES = sorted((ROOT / "tests" / "bundles").glob("*.zip"))
SLOW_ENOUGH = {"sandbox_delays": "endpoint=1,delete=1,job=0.5"}
"""What is asked while an endpoint is created or deleted is asked within these seconds."""

ENVIRONMENT = {
    "account_id": "000000000000",
    "region": "us-east-1",
    "aws_conn_id": "aws_sandbox",
    "execution_role_arn": "arn:aws:iam::000000000000:role/nova-judge-execution",
    "output_s3_uri": "s3://nova-judge-sandbox/their-prefix",
    "tags": {"team": "their-team"},
    "poll_seconds": 1,
}
MODEL = {
    "provider": "sagemaker",
    "deploy": {
        "model_id": "Tiny/Tiny-1B",
        "image_uri": "763104351884.dkr.ecr.us-east-1.amazonaws.com/tgi:1",
        "instance_types": ["ml.g5.12xlarge", "ml.g5.xlarge"],
        "environment": {"SETTINGS": "arn:aws:secretsmanager:us-east-1:000000000000:secret:hf"},
    },
}
WITH_ENDPOINT = acceptance.Options("their-environment", model="tiny")


@dataclass
class Done:
    """One acceptance run that is over."""

    sandbox: Sandbox
    exit_code: int
    path: Path

    @property
    def bundle(self) -> Bundle:
        return bundle.read(self.path)


@pytest.fixture(scope="module", autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A config folder as a user would have it."""
    folder = tmp_path_factory.mktemp("config")
    for kind, name, content in (
        ("environments", "their-environment", ENVIRONMENT),
        ("models", "tiny", MODEL),
    ):
        (folder / kind).mkdir()
        (folder / kind / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOVA_JUDGE_CONFIG_DIR", str(folder))
        yield


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), **SLOW_ENOUGH) as running:
        yield running


@pytest.fixture(scope="module")
def done(aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Done:
    out = tmp_path_factory.mktemp("out")
    code = acceptance.start(WITH_ENDPOINT, True, clients(aws), out)
    (path,) = out.glob("acceptance-*.zip")
    return Done(aws, code, path)


def clients(sandbox: Sandbox) -> Any:
    """Make a new client each time, as Airflow's hooks do: a journal listens to its own only."""

    def client(service: str, **config: Any) -> Any:
        return SESSION.client(service, endpoint_url=sandbox.url, config=Config(**config))

    return client


def resources(sandbox: Sandbox) -> list[str]:
    sagemaker, logs = sandbox.client("sagemaker"), sandbox.client("logs")
    groups = logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/")["logGroups"]
    streams = [
        stream["logStreamName"]
        for group in groups
        for stream in logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]
    ]
    prefix = {"Bucket": "nova-judge-sandbox", "Prefix": "their-prefix/"}
    return [
        *(e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]),
        *(
            each["EndpointConfigName"]
            for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ),
        *(model["ModelName"] for model in sagemaker.list_models()["Models"]),
        *(
            job["TrainingJobName"]
            for job in sagemaker.list_training_jobs(StatusEquals="InProgress")[
                "TrainingJobSummaries"
            ]
        ),
        *(o["Key"] for o in sandbox.client("s3").list_objects_v2(**prefix).get("Contents", [])),
        *streams,
    ]


def operations(seen: Bundle, refused: bool) -> set[str]:
    return {call.operation for call in seen.calls if (call.error is not None) is refused}


# The run


def test_a_run_gets_to_its_end_and_leaves_nothing(done: Done) -> None:
    assert done.exit_code == 0
    assert done.bundle.manifest["failed"] is None
    assert done.bundle.manifest["left"] == []
    assert resources(done.sandbox) == []


def test_the_endpoint_is_on_the_smallest_instance_and_the_job_is_capped(done: Done) -> None:
    requests = {call.operation: call.request for call in done.bundle.calls if not call.error}
    (variant,) = requests["CreateEndpointConfig"]["ProductionVariants"]
    assert variant["InstanceType"] == "ml.g5.xlarge"
    job = requests["CreateTrainingJob"]
    assert job["ResourceConfig"]["InstanceType"] == "ml.g5.12xlarge"
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    train = job["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert train.endswith("/llm_judge.jsonl")


def test_the_bundle_holds_answers_errors_archive_log_and_summary(done: Done) -> None:
    seen = done.bundle
    assert {
        "CreateTrainingJob",
        "DescribeTrainingJob",
        "ListTrainingJobs",
        "DescribeEndpoint",
        "InvokeEndpoint",
        "Converse",
        "GetLogEvents",
    } <= operations(seen, refused=False)
    assert {
        "DescribeTrainingJob",
        "StopTrainingJob",
        "DescribeEndpoint",
        "DeleteEndpoint",
        "DeleteModel",
        "CreateModel",
        "InvokeEndpoint",
        "Converse",
        "GetFoundationModel",
    } <= operations(seen, refused=True)
    assert seen.archive
    assert {"members", "results", "tables"} == set(seen.archive)
    assert "winrate" in seen.archive["results"]["results"]["all"]
    assert "metrics" in seen.archive["tables"][0]["columns"]
    assert len(seen.archive["tables"][0]["rows"]) == 1
    assert seen.log
    assert seen.summary
    assert seen.summary["status"] == "complete"


def test_the_bundle_does_not_say_whose_account_it_was(done: Done) -> None:
    with zipfile.ZipFile(done.path) as archive:
        text = "\n".join(archive.read(name).decode() for name in archive.namelist())
    for theirs in (
        "000000000000",
        "nova-judge-sandbox",
        "nova-judge-execution",
        "their-prefix",
        "their-team",
        "their-environment",
        "secret:hf",
        str(ROOT),
    ):
        assert theirs not in text, theirs
    assert "arn:aws:iam::111122223333:role/my-role" in text
    assert "s3://my-bucket/my-prefix/acceptance/" in text


def test_without_a_confirmation_the_cost_is_said_and_nothing_happens(
    aws: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(service: str, **_: Any) -> Any:
        raise AssertionError(f"{service} was asked")

    options = replace(WITH_ENDPOINT, minutes=30)
    assert acceptance.start(options, False, nobody, tmp_path) == 2
    said = capsys.readouterr().out
    assert "1 x ml.g5.12xlarge for training, at most 30 minutes" in said
    assert "1 x ml.g5.xlarge behind an endpoint, at most 50 minutes" in said
    assert "7 requests to us.amazon.nova-micro-v1:0" in said
    assert "add CONFIRM=1" in said
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_deletes_what_it_has_made(aws: Sandbox) -> None:
    made = clients(aws)

    def interrupted(service: str, **config: Any) -> Any:
        client = made(service, **config)

        def interrupt(params: dict[str, Any], **_: Any) -> None:
            if b"messages" in params.get("Body", b""):
                assert resources(aws)
                raise KeyboardInterrupt

        event = "before-parameter-build.sagemaker-runtime.InvokeEndpoint"
        client.meta.events.register(event, interrupt)
        return client

    trial = Trial(acceptance.conf(WITH_ENDPOINT), interrupted)
    assert trial.run() == "interrupted"
    assert trial.undo.left == []
    assert resources(aws) == []


@pytest.mark.parametrize(
    ("faults", "reason"),
    [("capacity=1", "InsufficientInstanceCapacity"), ("job_failure=1", "is Failed")],
)
def test_a_failed_run_deletes_what_it_has_made_and_still_tells(
    faults: str, reason: str, tmp_path: Path
) -> None:
    quick = {"sandbox_delays": "endpoint=0,delete=0,job=0", "sandbox_faults": faults}
    with running_sandbox(tmp_path / "state", **quick) as scarce:
        assert acceptance.start(WITH_ENDPOINT, True, clients(scarce), tmp_path) == 1
        assert resources(scarce) == []
    (path,) = tmp_path.glob("*.zip")
    seen = bundle.read(path)
    assert reason in seen.manifest["failed"]
    assert "DescribeEndpoint" in operations(seen, refused=False)


def test_what_cannot_be_deleted_is_named(aws: Sandbox, tmp_path: Path) -> None:
    made = clients(aws)

    def stubborn(service: str, **config: Any) -> Any:
        client = made(service, **config)

        def refuse(**_: Any) -> None:
            raise RuntimeError("no")

        client.meta.events.register("before-parameter-build.s3.DeleteObjects", refuse)
        return client

    trial = Trial(acceptance.conf(acceptance.Options("their-environment")), stubborn)
    assert trial.run() is None
    (left,) = trial.undo.left
    assert left.startswith("s3://nova-judge-sandbox/their-prefix/acceptance/")
    trial.undo.client = made
    trial.undo.objects(left.removesuffix(": no"))
    assert resources(aws) == []


def test_what_is_left_is_named_though_no_bundle_can_be_written(
    aws: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise ResultsError("a secret would be left in it")

    def leave(trial: Trial) -> str:
        trial.undo.left.append("endpoint nj-x: no")
        return "it was cut off"

    monkeypatch.setattr(acceptance.bundle, "write", fail)
    monkeypatch.setattr(Trial, "run", leave)
    options = acceptance.Options("their-environment")
    with pytest.raises(ResultsError):
        acceptance.start(options, True, clients(aws), tmp_path)
    said = capsys.readouterr().err
    assert "Left      endpoint nj-x: no" in said and "it was cut off" in said


# Comparing


def test_the_sandbox_answers_as_a_bundle_of_itself_says(done: Done) -> None:
    assert acceptance.replay(done.bundle, "their-environment", clients(done.sandbox)) == []


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_the_sandbox_answers_as_aws_did(path: Path, aws: Sandbox) -> None:
    assert acceptance.replay(bundle.read(path), "their-environment", clients(aws)) == []


def changed(seen: Bundle, operation: str, **response: Any) -> Bundle:
    calls = [
        replace(call, response={**call.response, **response})
        if call.operation == operation and not call.error
        else call
        for call in seen.calls
    ]
    return replace(seen, calls=calls)


def test_a_key_that_the_sandbox_lacks_is_told_once(done: Done) -> None:
    theirs = changed(done.bundle, "DescribeTrainingJob", WarmPoolStatus={"Status": "Available"})
    assert bundle.differences(theirs, done.bundle) == [
        "sagemaker DescribeTrainingJob: WarmPoolStatus: only there"
    ]
    assert bundle.differences(done.bundle, theirs) == [
        "sagemaker DescribeTrainingJob: WarmPoolStatus: only here"
    ]


def test_a_value_of_another_type_is_told_and_another_value_is_not(done: Done) -> None:
    other = changed(done.bundle, "DescribeTrainingJob", TrainingTimeInSeconds=99)
    assert bundle.differences(other, done.bundle) == []
    typed = changed(done.bundle, "DescribeTrainingJob", CreationTime="yesterday")
    assert bundle.differences(typed, done.bundle) == [
        "sagemaker DescribeTrainingJob: CreationTime: text there, time here"
    ]


def test_other_words_of_an_error_are_told(done: Done) -> None:
    calls = [
        replace(call, error={**call.error, "Message": f'No model named "{index}".'})
        if call.operation == "DescribeModel" and call.error
        else call
        for index, call in enumerate(done.bundle.calls)
    ]
    there, here = bundle.differences(replace(done.bundle, calls=calls), done.bundle)
    assert "DescribeModel: refused there only: 400 ValidationException: No model named" in there
    assert "DescribeModel: refused here only: 400 ValidationException: Could not find" in here


def test_an_operation_that_never_succeeds_here_is_told(done: Done) -> None:
    ours = replace(done.bundle, calls=[c for c in done.bundle.calls if c.operation != "Converse"])
    told = bundle.differences(done.bundle, ours)
    assert "bedrock-runtime Converse: answered there, never here" in told


def test_another_archive_is_told(done: Done) -> None:
    archive = copy.deepcopy(done.bundle.archive)
    assert archive
    archive["members"].append({"name": "nova/eval_results/inference_output.jsonl", "size": 1})
    archive["results"]["results"]["all"]["winrate"] = None
    archive["results"]["results"]["all"]["margin"] = 0.1
    was = archive["tables"][0]["columns"]["metrics"]
    archive["tables"][0]["columns"]["metrics"] = "list<item: string>"
    told = bundle.differences(replace(done.bundle, archive=archive), done.bundle)
    assert [line for line in told if "winrate" in line] == []
    assert "archive: nova/eval_results/inference_output.jsonl: only there" in told
    assert "archive results: results.all.margin: only there" in told
    assert f"archive tables: metrics: list<item: string> there, {was} here" in told


def test_a_run_without_an_archive_differs_from_one_with(done: Done) -> None:
    told = bundle.differences(replace(done.bundle, archive=None), done.bundle)
    assert told == ["archive: only here"]


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    file.write_text("x")
    with pytest.raises(ResultsError, match="is no bundle of make acceptance"):
        bundle.read(file)


# Redaction


@pytest.fixture
def redactor() -> Redactor:
    environment = load_environment("their-environment").model_copy(
        update={"account_id": "123412341234"}
    )
    caller = "arn:aws:sts::123412341234:assumed-role/Their-Airflow/jane"
    return Redactor(environment, caller, ("s3://their-models/m.tar.gz",))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "arn:aws:iam::123412341234:role/nova-judge-execution",
            "arn:aws:iam::111122223333:role/my-role",
        ),
        ("s3://nova-judge-sandbox/their-prefix/a", "s3://my-bucket/my-prefix/a"),
        ("their-prefix/a/b.json", "my-prefix/a/b.json"),
        ("User: Their-Airflow/jane may not", "User: my-caller-1/my-caller-2 may not"),
        ("708977205387.dkr.ecr.us-east-1.amazonaws.com/x", None),
        ("555555555555 777777777777 555555555555", "999900000001 999900000002 999900000001"),
        ("s3://their-models/m.tar.gz", "my-name-1"),
        ("s3://somebody-elses/x", "s3://other-bucket-1/x"),
        ("AROAABCDEFGHIJKLMNOP:jane", "AROA00000001EXAMPLE:my-caller-2"),
        ("subnet-0123456789abcdef0 in vpc-01234567", "subnet-00000001 in vpc-00000002"),
        (
            "jane.doe@example.org at 10.1.2.3, ip-10-1-2-3",
            "somebody@example.com at 10.0.0.1, 10.0.0.1",
        ),
        ("arn:aws:kms:us-east-1:123412341234:key/1", "arn:aws:kms:my-1"),
        ("claude-3-7-sonnet-20250219 at 2026-11-24T22-02-09.817675", None),
        ("nj-acceptance-endpoint-0ab006c376de", None),
    ],
)
def test_what_names_the_account_is_replaced_and_nothing_else(
    text: str, redacted: str | None, redactor: Redactor
) -> None:
    assert redactor.text(text) == (redacted or text)
    assert redactor.leaks(redactor.text(text)) == []


def test_secrets_go_by_their_keys_and_own_tags_whole(redactor: Redactor) -> None:
    value = {
        "Environment": {"HF_TOKEN": "hf_abc", "HF_TASK": "text-generation"},
        "Tags": [
            {"Key": "cost-centre", "Value": "4711"},
            {"Key": "nova-judge:environment", "Value": "their-environment"},
            {"Key": "nova-judge:evaluation", "Value": "acceptance"},
        ],
    }
    assert redactor.value(value) == {
        "Environment": {"HF_TOKEN": "(not shown)", "HF_TASK": "text-generation"},
        "Tags": [
            {"Key": "tag-1", "Value": "x"},
            {"Key": "nova-judge:environment", "Value": "my-environment"},
            {"Key": "nova-judge:evaluation", "Value": "acceptance"},
        ],
    }


def test_a_bundle_with_a_leak_is_not_written(
    redactor: Redactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redactor, "text", lambda text: text)
    leaky = Bundle({"failed": "in nova-judge-sandbox"}, [], None, [], None)
    with pytest.raises(ResultsError, match=r"names of the account are left in \['manifest'\]"):
        bundle.write(leaky, redactor, tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


# The command


def command(port: int, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.acceptance", *arguments, "--cwd", str(state)],
        cwd=ROOT,
        env={**os.environ, "SANDBOX_PORT": str(port), "STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_refuses_without_a_confirmation(aws: Sandbox, tmp_path: Path) -> None:
    answer = command(aws.port, tmp_path, "--env", "their-environment")
    assert answer.returncode == 2, answer.stderr
    assert "In account 000000000000, us-east-1, this run costs:" in answer.stdout
    assert "Nothing was started" in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_signal_ends_the_command_when_all_is_deleted(
    number: signal.Signals, tmp_path: Path
) -> None:
    with running_sandbox(tmp_path / "state", sandbox_delays="endpoint=4,delete=1") as slow:
        arguments = ("--env", "their-environment", "--model", "tiny", "--yes")
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.acceptance", *arguments, "--cwd", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "SANDBOX_PORT": str(slow.port), "STATE_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        while "creating endpoint" not in process.stdout.readline():
            assert process.poll() is None
        while not slow.client("sagemaker").list_endpoints()["Endpoints"]:
            assert process.poll() is None
        process.send_signal(number)
        time.sleep(0.2)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "did not get to its end: interrupted" in said
        assert resources(slow) == []
    (path,) = tmp_path.glob("acceptance-*.zip")
    assert bundle.read(path).manifest["left"] == []


@pytest.mark.slow
def test_the_command_compares_a_bundle_with_the_sandbox(done: Done, tmp_path: Path) -> None:
    told = {"WarmPoolStatus": {"Status": "Available"}}
    path = tmp_path / "theirs.zip"
    with zipfile.ZipFile(done.path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = json.loads(source.read(name))
            for call in content if name == "calls.json" else []:
                if call["operation"] == "DescribeTrainingJob" and call["response"]:
                    call["response"].update(told)
            target.writestr(name, json.dumps(content))
    arguments = ("--env", "their-environment", "--compare", "theirs.zip")
    answer = command(done.sandbox.port, tmp_path, *arguments)
    assert answer.returncode == 1, answer.stderr
    assert answer.stdout.endswith("sagemaker DescribeTrainingJob: WarmPoolStatus: only there\n")


def test_a_sandbox_that_is_not_running_is_said_in_one_sentence(tmp_path: Path) -> None:
    answer = command(free_port(), tmp_path, "--env", "their-environment")
    assert answer.returncode == 2
    assert answer.stderr == "Error: the sandbox is not running; start it with `make up`\n"


def test_a_model_without_an_endpoint_of_its_own_is_refused() -> None:
    options = acceptance.Options("their-environment", model="no-such")
    with pytest.raises(Exception, match="there is no model 'no-such'"):
        acceptance.conf(options)
