"""An evaluation and a way to AWS in; it is run, deleted, and what AWS said is handed back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from include import account, cloudwatch, judging, names, overview, runs, steps, storage, trend
from include.config import SageMakerModel
from include.config_files import resolve_config
from include.errors import DeploymentError, JudgeJobError
from include.runs import Generated
from scripts import local
from scripts.acceptance import bundle
from scripts.acceptance.bundle import Bundle
from scripts.acceptance.journal import Client, Journal
from scripts.acceptance.redact import Redactor
from scripts.acceptance.undo import ENDED, Undo, refused, uninterrupted, wait

MINUTES = 60
"""Of an endpoint and of the judge job, each, at the most."""

NOBODY = "nobody.knows-this-v1:0"


@dataclass
class Seen:
    """What was learned, kept up to date while the run goes on."""

    archive: dict[str, Any] | None = None
    log: list[str] = field(default_factory=list)
    summary: dict[str, Any] | None = None


class Trial:
    """One run: what it does, and undoes."""

    def __init__(self, conf: Mapping[str, Any], client: Client) -> None:
        self.conf, self.config = conf, resolve_config(conf)
        self.journal, self.seen = Journal(), Seen()
        self.client = self.journal.watching(client)
        self.started = datetime.now(UTC)
        self.run_id = f"acceptance-{self.started:%Y%m%dT%H%M%S%f}"
        self.poll = self.config.environment.poll_seconds
        self.undo = Undo(self.client, self.poll)
        self.seconds = (self.config.judge.max_runtime_minutes or MINUTES) * 60

    def run(self) -> str | None:
        """Do it all and delete it all.

        Returns:
            Why it did not get to its end; None if it did.
        """
        failed = None
        stack = ExitStack()
        try:
            self._work(stack)
        except KeyboardInterrupt:
            failed = "interrupted"
        except Exception as error:  # the bundle tells what went wrong, whatever it was
            failed = f"{type(error).__name__}: {error}"
        finally:
            with uninterrupted():
                stack.close()
                self.undo.attempt(
                    "a list of what is left",
                    self.undo.look_for_what_is_left,
                    self.config.evaluation,
                    self.run_id,
                )
        return failed

    def bundle(self, failed: str | None) -> Bundle:
        """Return what was seen; `failed` is what `run` returned."""
        dataset = {**self.conf["dataset"], "source": Path(self.conf["dataset"]["source"]).name}
        kept = {key: value for key, value in self.conf.items() if key != "environment"}
        manifest = {
            "started": self.started.isoformat(),
            "failed": failed,
            "kind": self.config.environment.kind,
            "region": self.config.environment.region,
            "conf": {**kept, "dataset": dataset},
            "left": self.undo.left,
            "versions": {name: metadata.version(name) for name in ("boto3", "botocore")},
        }
        seen, summary = self.seen, self.seen.summary
        if summary:
            named = {**summary["environment"], "name": "my-environment"}
            summary = {**summary, "environment": named}
        return Bundle(manifest, self.journal.kept(), seen.archive, seen.log, summary)

    def redactor(self) -> Redactor:
        """Return what takes the account's names out of the bundle."""
        caller = self.client("sts").get_caller_identity()["Arn"]
        deployed = [m.deploy for m in self.config.models if isinstance(m, SageMakerModel)]
        archives = [deploy.model_data for deploy in deployed if deploy and deploy.model_data]
        return Redactor(self.config.environment, caller, (*archives, str(local.ROOT)))

    def _work(self, stack: ExitStack) -> None:
        environment = self.config.environment
        slug = names.run_slug(self.config.evaluation, self.run_id)
        account.check(self.client("sts", **account.QUICK), environment)
        uri = f"{environment.output_s3_uri}/{self.config.evaluation}/{slug}"
        stack.callback(self.undo.attempt, uri, self.undo.objects, uri)
        rows = f"{environment.output_s3_uri}/{trend.name_of(self.config.evaluation, slug)}"
        stack.callback(self.undo.attempt, rows, self.undo.object, rows)
        output = storage.RunFolder(self.client("s3"), environment.output_s3_uri)
        point = output.at(overview.NAME)
        stack.callback(self.undo.attempt, point, overview.remove, output, uri)
        record = steps.resolve(
            self.conf,
            dag_id=self.config.evaluation,
            run_id=self.run_id,
            started_at=self.started.isoformat(),
            connect=lambda _: self.client,
        )
        run = runs.open_run(record, self.client)
        self._say("asking for what is not there, to learn AWS's words")
        self._provoke(run)
        shards = steps.load_prompts(run)
        (candidate,) = steps.plan(run, shards)
        generated = self._generate(run, shards, steps.reserve(run, [candidate]), stack)
        job = judging.write_judge_input(run, candidate, generated)
        if job["request"] is None:
            raise JudgeJobError("no pair of responses is there to be judged")
        job = self._judge(job, stack)
        self._read(run, job)
        judging.summarize(run, job)
        steps.report(run)
        self.seen.summary = json.loads(run.folder.read(storage.SUMMARY))

    def _generate(
        self,
        run: runs.Run,
        shards: Sequence[Any],
        deployments: Sequence[runs.Deployment],
        stack: ExitStack,
    ) -> list[Generated | None]:
        deployed = ExitStack()
        stack.push(deployed)  # deletes what an interrupt has left of it
        for deployment in deployments:
            if deployment["requests"]:
                name = str(deployment["endpoint_name"])
                deployed.callback(self.undo.attempt, name, self.undo.endpoint, deployment)
                self._deploy(deployment)
                steps.try_endpoint(run, deployment)
        generated: list[Generated | None] = []
        for shard in shards:
            self._say(f"{shard['model']} answers {shard['stop']} prompts")
            generated.append(steps.generate(run, deployments, shard))
        if any(deployment["requests"] for deployment in deployments):
            self._say("deleting the endpoint")
        with uninterrupted():
            deployed.close()
        return generated

    def _deploy(self, deployment: runs.Deployment) -> None:
        """Create an endpoint and wait for it, up to the cap."""
        sagemaker, requests = self.client("sagemaker"), deployment["requests"] or {}
        name, config = str(deployment["endpoint_name"]), requests["EndpointConfigs"][0]
        self._say(f"creating endpoint {name}")
        sagemaker.create_model(**requests["Model"])
        refused(sagemaker.create_model, **requests["Model"])
        sagemaker.create_endpoint_config(**config)
        refused(sagemaker.create_endpoint_config, **config)
        sagemaker.create_endpoint(
            EndpointName=name,
            EndpointConfigName=config["EndpointConfigName"],
            Tags=requests["Tags"],
        )
        refused(self.client("sagemaker-runtime").invoke_endpoint, EndpointName=name, Body=b"")
        sagemaker.describe_model(ModelName=requests["Model"]["ModelName"])
        sagemaker.describe_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
        for call in (sagemaker.list_models, sagemaker.list_endpoint_configs):
            call(NameContains=name)
        (listed,) = sagemaker.list_endpoints(NameContains=name)["Endpoints"]
        sagemaker.list_tags(ResourceArn=listed["EndpointArn"])
        found = wait(
            self.poll,
            lambda: sagemaker.describe_endpoint(EndpointName=name),
            lambda endpoint: endpoint["EndpointStatus"] != "Creating",
            self.seconds,
        )
        if found["EndpointStatus"] != "InService":
            reason = found.get("FailureReason", "not in service in time")
            raise DeploymentError(f"endpoint {name} is {found['EndpointStatus']}: {reason}")

    def _judge(self, job: runs.JudgeJob, stack: ExitStack) -> runs.JudgeJob:
        """Start the judge job and wait for it, up to the cap."""
        sagemaker, request = self.client("sagemaker"), dict(job["request"] or {})
        name = request["TrainingJobName"] = f"{request['TrainingJobName']}-1"
        stack.callback(self.undo.attempt, f"job {name}", self.undo.job, name)
        self._say(f"judge job {name}: {job['pairs']} pairs on {self.config.judge.instance_type}")
        created = sagemaker.create_training_job(**request)
        sagemaker.list_training_jobs(NameContains=name)
        sagemaker.list_tags(ResourceArn=created["TrainingJobArn"])
        found = wait(
            self.poll,
            lambda: sagemaker.describe_training_job(TrainingJobName=name),
            lambda each: each["TrainingJobStatus"] in ENDED,
            self.seconds + 1800,
        )
        self.seen.log = cloudwatch.tail(self.client("logs"), cloudwatch.TRAINING_JOBS, name, 200)
        if found["TrainingJobStatus"] != "Completed":
            reason = found.get("FailureReason") or found["SecondaryStatus"]
            raise JudgeJobError(f"judge job {name} is {found['TrainingJobStatus']}: {reason}")
        refused(sagemaker.stop_training_job, TrainingJobName=name)
        return {**job, "job_name": name, "job_arn": found["TrainingJobArn"]}

    def _read(self, run: runs.Run, job: runs.JudgeJob) -> None:
        prefix = f"judge/{job['key']}/{job['job_name']}/"
        archives = [name for name in run.folder.names(prefix) if name.endswith("output.tar.gz")]
        if archives:
            with run.folder.open(archives[0]) as file:
                self.seen.archive = bundle.open_archive(file)

    def _provoke(self, run: runs.Run) -> None:
        """Ask for things that are not there: what AWS says then, our code reads."""
        missing = f"nj-acceptance-missing-{names.digest(self.run_id)}"
        sagemaker, runtime = self.client("sagemaker"), self.client("sagemaker-runtime")
        asked: list[tuple[Callable[..., Any], dict[str, Any]]] = [
            *(
                (getattr(sagemaker, f"{verb}_{what}"), {key: missing})
                for what, key in (
                    ("model", "ModelName"),
                    ("endpoint_config", "EndpointConfigName"),
                    ("endpoint", "EndpointName"),
                )
                for verb in ("describe", "delete")
            ),
            (sagemaker.describe_training_job, {"TrainingJobName": missing}),
            (sagemaker.stop_training_job, {"TrainingJobName": missing}),
            (runtime.invoke_endpoint, {"EndpointName": missing, "Body": b"{}"}),
            (self.client("bedrock").get_foundation_model, {"modelIdentifier": NOBODY}),
            (
                self.client("bedrock-runtime").converse,
                {"modelId": NOBODY, "messages": [{"role": "user", "content": [{"text": "?"}]}]},
            ),
            (self.client("logs").describe_log_streams, {"logGroupName": f"/{missing}"}),
            (self.client("iam").get_role, {"RoleName": missing}),
        ]
        for call, request in asked:
            refused(call, **request)

    def _say(self, text: str) -> None:
        elapsed = (datetime.now(UTC) - self.started).total_seconds()
        print(f"{elapsed:6.0f} s  {text}", flush=True)
