"""Facts about nights on which something was planted: a weaker model behind the same name fails the
gate and is told; a new judge image is told as that. Everything over HTTP, but without an Airflow.
"""

import email
import email.policy
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from sandbox_server import ALPACA_EVAL, ROOT, Sandbox, free_port, running_sandbox

from include import judging, steps, storage, trend
from include.errors import ResultsError
from include.notify import after_gate
from include.runs import JudgeJob, Run, open_run
from include.storage import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ALPACA_EVAL.exists(), reason="AlpacaEval's data is not there"),
]

PROMPTS = 150
BASELINE = "gpt4_1106_preview"
STRONG, WEAK = "FuseChat-Qwen-2.5-7B-Instruct", "claude-2.1"
"""Win rates against the baseline, as published: 66 % and 14 %."""

NAME = "assistant"
OTHER_IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/nova-judge:next"


class Place:
    """One sandbox and the mail server, the topic and the files that the nights share."""

    def __init__(self, folder: Path, sandbox: Sandbox, letters: list[Any]) -> None:
        self.folder, self.sandbox, self.letters = folder, sandbox, letters
        self.night = 0

    def next_night(self, model: str) -> Run:
        """Let one of the recorded models answer behind the candidate's name, and run a night."""
        self.night += 1
        self.sandbox.stop()
        self.sandbox.settings["sandbox_recordings"] = str(record(self.folder, model))
        self.sandbox.start()
        record_of_run = steps.resolve(
            {
                "evaluation": "nightly",
                "dataset": {"source": str(self.folder / "prompts.jsonl"), "id_field": "id"},
                "baseline": {"name": "gpt-4", "provider": "bedrock", "model_id": BASELINE},
                "candidates": [{"name": NAME, "provider": "bedrock", "model_id": NAME}],
                "gate": {"rule": "no_regression", "margin": 0.05},
                "alerts": [
                    {"channel": "smtp", "to": "team@example.com", "on": ["pass", "fail"]},
                    {"channel": "sns", "to": self.topic(), "on": ["pass", "fail"]},
                ],
            },
            dag_id="nova_llm_judge__nightly",
            run_id=f"night-{self.night}",
            started_at=f"2026-01-0{self.night}T06:00:00+00:00",
            connect=lambda _: self.sandbox.client,
        )
        run = open_run(record_of_run, self.sandbox.client)
        shards = steps.load_prompts(run)
        deployments = steps.reserve(run, [])
        generated = [steps.generate(run, deployments, shard) for shard in shards]
        job = judging.write_judge_input(run, NAME, generated)
        judging.summarize(run, self.judged(job))
        self.decide(run, steps.report(run))
        return run

    def judged(self, job: JudgeJob) -> JudgeJob:
        sagemaker, request = self.sandbox.client("sagemaker"), job["request"]
        assert request is not None
        name = f"{request['TrainingJobName']}-1"
        arn = sagemaker.create_training_job(**{**request, "TrainingJobName": name})
        end = time.monotonic() + 60
        while True:
            found = sagemaker.describe_training_job(TrainingJobName=name)
            if found["TrainingJobStatus"] == "Completed":
                return {**job, "job_name": name, "job_arn": arn["TrainingJobArn"]}
            assert found["TrainingJobStatus"] == "InProgress", found
            assert time.monotonic() < end
            time.sleep(0.1)

    def decide(self, run: Run, summary_uri: str) -> None:
        """Do what the gate's task does, and tell those who asked."""
        context: dict[str, Any] = {
            "ti": SimpleNamespace(xcom_pull=lambda **_: run.record),
            "dag_run": SimpleNamespace(dag_id=run.record["dag_id"], run_id=run.record["run_id"]),
        }
        try:
            steps.gate(run, summary_uri)
        except ResultsError as error:
            context["exception"] = error
        after_gate(None)(context)

    def topic(self) -> str:
        """Return an SNS topic with a queue behind it: the sandbox forgets both when it starts."""
        sns, sqs = self.sandbox.client("sns"), self.sandbox.client("sqs")
        arn: str = sns.create_topic(Name="evaluations")["TopicArn"]
        self.queue = sqs.create_queue(QueueName="evaluations")["QueueUrl"]
        wanted = sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=wanted["Attributes"]["QueueArn"])
        return arn

    def told(self) -> list[tuple[str, str]]:
        """Return subject and text of this night's mail and of its message to the topic."""
        sqs = self.sandbox.client("sqs")
        messages = sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)["Messages"]
        bodies = [json.loads(message["Body"]) for message in messages]
        letters = [
            email.message_from_bytes(letter.content, policy=email.policy.default)
            for letter in self.letters
        ]
        self.letters.clear()
        return [
            *((str(letter["subject"]), _text(letter)) for letter in letters),
            *((body["Subject"], body["Message"]) for body in bodies),
        ]

    def rows(self) -> list[trend.TrendRow]:
        output = RunFolder(self.sandbox.client("s3"), "s3://nova-judge-sandbox/nova-judge")
        return trend.read(output, "nightly")


def _text(letter: Any) -> str:
    return "".join(part.get_content() for part in letter.walk() if not part.is_multipart())


def record(folder: Path, model: str) -> Path:
    """Write recordings in which a model of AlpacaEval answers as the candidate, and the prompts."""
    rows = [json.loads(line) for line in gzip.decompress(ALPACA_EVAL.read_bytes()).splitlines()]
    recorded, asked = [], []
    for row in rows[:PROMPTS]:
        answers = {BASELINE: row["responses"][BASELINE], NAME: row["responses"][model]}
        preference = {NAME: row["preference"][model]}
        recorded.append({"prompt": row["prompt"], "responses": answers, "preference": preference})
        asked.append({"id": str(row["id"]), "prompt": row["prompt"]})
    for name, content in (("prompts.jsonl", asked), (f"{model}.jsonl", recorded)):
        (folder / name).write_text("".join(f"{json.dumps(each)}\n" for each in content))
    return folder / f"{model}.jsonl"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("nights")
    letters: list[Any] = []

    class Mailbox:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            letters.append(envelope)
            return "250 OK"

    for kind in ("environments", "models"):
        (folder / "config" / kind).mkdir(parents=True)
    environment = (ROOT / "dags/environments/sandbox.yaml").read_text()
    (folder / "config/environments/sandbox.yaml").write_text(environment)
    server = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())
    server.start()
    smtp = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": server.port,
        "extra": {"from_email": "judge@example.com", "disable_ssl": True, "disable_tls": True},
    }
    delays = "endpoint=0.1,delete=0.1,job=0.3"
    with (
        running_sandbox(folder / "sandbox", sandbox_delays=delays) as sandbox,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(folder / "config"))
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(smtp))
        monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())
        yield Place(folder, sandbox, letters)
    server.stop()


def summary(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.folder.read(storage.SUMMARY))
    return found


def test_the_first_night_is_accepted(place: Place) -> None:
    run = place.next_night(STRONG)
    assert summary(run)["gate"]["outcome"] == "pass"
    assert len(place.told()) == 2


def test_a_weaker_model_behind_the_same_name_fails_the_gate_that_night_and_is_told(
    place: Place,
) -> None:
    run = place.next_night(WEAK)
    found = summary(run)
    assert found["gate"]["outcome"] == "fail"
    change = found["comparisons"][0]["change"]
    assert change["high"] < -0.3 and change["prompts"] == PROMPTS
    assert found["accepted"]["differences"] == []  # nobody could have known it from the config
    told = place.told()
    assert [subject.split(":")[:2] for subject, _ in told] == [["nightly", " gate fail"]] * 2
    for _, text in told:
        assert "no-regression allows a drop of 5 percentage points" in " ".join(text.split())
        assert "Also changed" not in text


def test_a_new_judge_image_is_told_as_that_and_breaks_the_line(place: Place) -> None:
    file = place.folder / "config/environments/sandbox.yaml"
    known = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**known, "judge_image_uri": OTHER_IMAGE}))
    run = place.next_night(STRONG)
    found = summary(run)
    # Compared with the first night: the second was not accepted.
    assert found["accepted"]["run_id"] == "night-1"
    (difference,) = found["accepted"]["differences"]
    assert (difference["what"], difference["later"]) == ("judge image", OTHER_IMAGE)
    page = " ".join(run.folder.read(storage.REPORT).decode().split())
    assert "Also changed: judge image." in page and OTHER_IMAGE in page
    told = place.told()
    assert len(told) == 2
    for _, text in told:
        assert "Also changed: judge image (" in " ".join(text.split())
    broken = [changed for _, changed in trend.lines(place.rows())]
    assert broken == [[], [], ["judge image"]]
