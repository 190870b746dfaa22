"""AWS operators that never pay twice and leave nothing behind; records in, records out.

The provider's operators trip over what a first try left behind, cannot delete an endpoint, start a
second job on a retry and let go of a job that a person ended; the classes here change exactly that.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink
from airflow.providers.amazon.aws.operators.bedrock import BedrockBatchInferenceOperator
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerBaseOperator,
    SageMakerEndpointOperator,
    SageMakerTrainingOperator,
)
from airflow.providers.amazon.aws.triggers.bedrock import BedrockBatchInferenceCompletedTrigger
from airflow.providers.amazon.aws.triggers.sagemaker import SageMakerTrigger
from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException

from include import asking, cloudwatch, judge, judging, spending, steps
from include.errors import DeploymentError, GenerationError, JudgeJobError, is_transient
from include.links import ContainerLogLink, SageMakerEndpointLink, SageMakerJobLink
from include.ownership import IN_PROGRESS, is_gone
from include.runs import BatchJob, Deployment, JudgeJob, Run, RunRecord, open_run
from include.storage import RunFolder
from include.tasks import aws, readable_errors

ALREADY_THERE = "Cannot create already existing"
CAPACITY = ("InsufficientInstanceCapacity", "CapacityError", "ResourceLimitExceeded")

FINAL = ("AlgorithmError", "ClientError")
"""How a FailureReason begins that the same job would meet, and be paid for, again."""

REASON = 1000
"""Longest reason that goes through XCom; all of it is in the task's log."""

DELETION = 900
"""Seconds that an endpoint may take to go once AWS has agreed to delete it."""

MAX_ATTEMPTS = 20
"""Judge jobs of one comparison, failed ones included, before a person has to look."""


class DeployEndpointOperator(SageMakerEndpointOperator):
    """Create an endpoint, wait for it without a worker, and hear it answer one prompt.

    Safe to run again. A deployment that fails is handed on as a value, so that the run's other
    models go on; instance types are tried in order while AWS has no capacity for one. Killing the
    task needs no care here: `delete` runs whatever happened, and AWS refuses to delete an endpoint
    that is being created.

    Args:
        run: The run's record.
        config: A `steps.Deployment`; nothing happens if it has no requests.

    Returns:
        The deployment, with `error` if there is no endpoint that answers.
    """

    template_fields: Sequence[str] = (*SageMakerEndpointOperator.template_fields, "run")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (
        SageMakerEndpointLink(),
        ContainerLogLink(),
    )

    def __init__(self, *, run: RunRecord, config: Deployment, **kwargs: Any) -> None:
        super().__init__(config=config, deferrable=True, **kwargs)
        self.run = run

    def execute(self, context: Any) -> Any:
        """Create what is missing and wait; return at once if there is nothing to deploy."""
        if self.config["requests"] is None:
            return self.config
        _persist(context, self, SageMakerEndpointLink, endpoint_name=self._name)
        group = f"{cloudwatch.ENDPOINTS}{self._name}"
        _persist(context, self, ContainerLogLink, group=group, stream="")
        return self._create(context, choice=0)

    def execute_complete(
        self, context: Any, event: dict[str, Any] | None = None, choice: int = 0
    ) -> Any:
        """Go on after the wait: try the endpoint, or the next instance type, or give up."""
        if event and event["status"] == "success":
            return self._tried()
        description, said = self.hook.describe_endpoint(self._name), (event or {}).get("message")
        status = description["EndpointStatus"]
        if status == "InService":
            return self._tried()
        if status == "Creating" and (event or {}).get("status") != "timeout":
            reason = (
                f"endpoint {self._name} is being created, but the wait for it has ended: {said}"
            )
            if not _is_last_try(context):
                raise DeploymentError(reason)
            return self._failed(reason)
        return self._next(context, description.get("FailureReason") or str(event), choice)

    @property
    def _name(self) -> str:
        return str(self.config["endpoint_name"])

    @property
    def _endpoint_configs(self) -> list[dict[str, Any]]:
        configs: list[dict[str, Any]] = self.config["requests"]["EndpointConfigs"]
        return configs

    def _tried(self) -> Any:
        with readable_errors():
            run = _opened(self.run)
            try:
                steps.try_endpoint(run, self.config)
            except DeploymentError as error:
                return self._failed(str(error))
        return self.config

    def _create(self, context: Any, choice: int) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        client, requests = self.hook.conn, self.config["requests"]
        endpoint_config = self._endpoint_configs[choice]
        self.log.info("Creating endpoint %s", self._name)
        try:
            _unless_there(client.create_model, requests["Model"])
            _unless_there(client.create_endpoint_config, endpoint_config)
            _unless_there(
                client.create_endpoint,
                {
                    "EndpointName": self._name,
                    "EndpointConfigName": endpoint_config["EndpointConfigName"],
                    "Tags": requests["Tags"],
                },
            )
            description = client.describe_endpoint(EndpointName=self._name)
        except (BotoCoreError, ClientError) as error:
            if is_transient(error) and not _is_last_try(context):
                raise
            return self._next(context, str(error), choice)
        if self.config.get("priced"):
            variant, since = endpoint_config["ProductionVariants"][0], description["CreationTime"]
            folder, model = _folder(self.run), self.config["model"]
            spending.endpoint_created(folder, model, self._name, variant, since)
        if description["EndpointStatus"] == "Failed":  # an earlier try's
            return self._next(context, description["FailureReason"], choice)
        startup = endpoint_config["ProductionVariants"][0][
            "ContainerStartupHealthCheckTimeoutInSeconds"
        ]
        self.defer(
            trigger=_until_endpoint_is_ready(self, self._name, startup + 1800),
            method_name="execute_complete",
            kwargs={"choice": choice},
        )

    def _next(self, context: Any, reason: str, choice: int) -> Any:
        """Try the next instance type if the reason is a shortage of this one, or give up."""
        if any(code in reason for code in CAPACITY) and choice + 1 < len(self._endpoint_configs):
            self.log.warning("%s; trying the next instance type", reason)
            _delete_endpoint(self.hook.conn, self._name, self.run["poll_seconds"])
            _note_deletion(self.run, self.config)
            return self._create(context, choice + 1)
        return self._failed(reason)

    def _failed(self, reason: str) -> Any:
        run, said = _opened(self.run, without_texts=True), []
        if run.config.store_text:
            group = f"{cloudwatch.ENDPOINTS}{self._name}"
            said = cloudwatch.tail(aws(self.aws_conn_id)("logs"), group)
        self.log.error("%s has no endpoint: %s", self.config["model"], _with_log(reason, said))
        return {**self.config, "error": reason[:REASON]}


class DeleteEndpointOperator(SageMakerBaseOperator):
    """Delete an endpoint with its configs and its model; what is already gone is fine.

    AWS refuses to delete an endpoint that is being created: then it waits, without a worker.

    Args:
        run: The run's record.
        config: A `steps.Deployment`; nothing happens if it has no requests.
    """

    template_fields: Sequence[str] = (*SageMakerBaseOperator.template_fields, "run")

    def __init__(self, *, run: RunRecord, config: Deployment, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.run = run

    def execute(self, context: Any) -> None:
        """Delete all that belongs to the endpoint."""
        requests = self.config["requests"]
        if requests is None:
            return
        client, name = self.hook.conn, str(self.config["endpoint_name"])
        if not _delete_endpoint(client, name, self.run["poll_seconds"]):
            self.log.info("Endpoint %s is being created: waiting until it may be deleted", name)
            self.defer(
                trigger=_until_endpoint_is_ready(self, name, 3600), method_name="execute_again"
            )
        for each in requests["EndpointConfigs"]:
            config_name = each["EndpointConfigName"]
            _unless_gone(client.delete_endpoint_config, EndpointConfigName=config_name)
        _unless_gone(client.delete_model, ModelName=requests["Model"]["ModelName"])
        _note_deletion(self.run, self.config)
        _note_gone(client, self.run, self.config)
        self.log.info("Endpoint %s, its configs and its model are gone", self.config["model"])

    def execute_again(self, context: Any, event: dict[str, Any] | None = None) -> None:
        """Go on after the wait, whatever became of the endpoint."""
        self.execute(context)


STOPPING: set[asyncio.Task[None]] = set()
"""What is stopping jobs just now; asyncio itself keeps no hold of its tasks."""


class StopsWithItsTask:
    """A trigger that stops the job that it waits for when a person ends the task.

    Airflow calls `on_kill` when a person marks the deferred task failed, successful or skipped, and
    also when it is cleared; then the next try attaches to the job, so it must go on.
    """

    task_instance: Any
    log: Any

    async def on_kill(self) -> None:
        """Stop the job, unless its task was only cleared.

        The triggerer cancels a trigger again about every second until it is gone, and with it
        whatever `on_kill` is waiting for; so the work is a task of its own.
        """
        work = asyncio.create_task(self._stop())
        STOPPING.add(work)
        work.add_done_callback(STOPPING.discard)
        await asyncio.shield(work)

    async def _stop(self) -> None:
        from asgiref.sync import sync_to_async
        from botocore.exceptions import ClientError

        if not await sync_to_async(_was_ended)(self.task_instance):
            self.log.info("%s goes on: the next try attaches to it", self._job())
            return
        try:
            await self._send_stop()
        except ClientError as error:
            self.log.warning("%s is not stopped: %s", self._job(), error)
            return
        self.log.info("%s is being stopped: its task was ended", self._job())

    def _job(self) -> str:
        """Name the job in a sentence."""
        raise NotImplementedError

    async def _send_stop(self) -> None:
        """Ask AWS to stop the job."""
        raise NotImplementedError


class NovaJudgeTrigger(StopsWithItsTask, SageMakerTrigger):
    """Waits for a judge job; stopped by StopTrainingJob."""

    def _job(self) -> str:
        return f"Judge job {self.job_name}"

    async def _send_stop(self) -> None:
        async with await self.hook().get_async_conn() as client:
            await client.stop_training_job(TrainingJobName=self.job_name)


class BatchTrigger(StopsWithItsTask, BedrockBatchInferenceCompletedTrigger):
    """Waits for a batch inference job; stopped by StopModelInvocationJob."""

    def _job(self) -> str:
        return f"Batch job {self._arn()}"

    async def _send_stop(self) -> None:
        async with await self.hook().get_async_conn() as client:
            await client.stop_model_invocation_job(jobIdentifier=self._arn())

    def _arn(self) -> str:
        return str(self.serialized_fields["job_arn"])


class BatchOperator(BedrockBatchInferenceOperator):
    """Ask a model by one batch inference job, once, and put its answers into the ledger.

    The job is remembered in the run folder until its answers are taken: a retry, or a task that is
    cleared, attaches to it. The next job asks only for what is still missing, so that a task that
    is cleared pays for what failed and nothing else. A job that failed is not started again by a
    retry, unless the failure was Bedrock's own.

    Args:
        run: The run's record.
        config: A `runs.Deployment`; nothing happens unless its model is asked by batch jobs.

    Returns:
        A `runs.Generated`, None for models that are not asked by batch jobs.
    """

    template_fields: Sequence[str] = (
        *BedrockBatchInferenceOperator.template_fields,
        "run",
        "config",
    )

    def __init__(self, *, run: RunRecord, config: Deployment, **kwargs: Any) -> None:
        nothing = dict.fromkeys(("job_name", "role_arn", "model_id", "input_uri", "output_uri"), "")
        super().__init__(deferrable=True, **nothing, **kwargs)
        self.run, self.config = run, config
        self._started: tuple[str, Any] | None = None

    def execute(self, context: Any) -> Any:
        """Find or start the job, wait for it without a worker, take what it wrote.

        Raises:
            AirflowFailException: Jobs fail, or end with responses missing, and another would, too.
            GenerationError: Too many of the responses cannot be used.
        """
        with readable_errors():
            run = _opened(self.run)
            model = run.model(self.config["model"])
            if not asking.is_batch(model):
                return None
            job = self._found(run, model)
            if job:
                status = self._status(str(job["arn"]))
                if status["status"] not in BATCH_ENDED:
                    self._wait(context, job)
                self._take(run, model, job, status)
                if status["status"] in BATCH_WHOLE:
                    return asking.count_batch(run, model)
                if status["status"] == "Failed" and not _was_cleared(context):
                    raise _batch_failure(job, status)
            job = asking.next_batch(run, model)
            if job is None:
                return asking.count_batch(run, model)
            if job["number"] > MAX_ATTEMPTS:
                raise AirflowFailException(
                    f"{MAX_ATTEMPTS} batch jobs of {model.name} have ended, and responses are "
                    "still missing; look at their messages in this task's logs"
                )
            self._wait(context, self._start(run, model, job))

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        """Go on after the wait: what became of the job is asked of Bedrock.

        Raises:
            AirflowFailException, GenerationError: As `execute`.
        """
        with readable_errors():
            run = _opened(self.run)
            model = run.model(self.config["model"])
            if not asking.is_batch(model):
                return self.execute(context)
            job = asking.open_batch(run, model)
            if not (job and job["arn"] and asking.is_current(run, model, job)):
                return self.execute(context)
            status = self._status(job["arn"])
            if status["status"] not in BATCH_ENDED:
                said = str((event or {}).get("message", "no event")).splitlines()[-1]
                raise GenerationError(
                    f"batch job {job['name']} is {status['status']}, but the wait for it has "
                    f"ended: {said}"
                )
            self._take(run, model, job, status)
            if status["status"] not in BATCH_WHOLE:
                raise _batch_failure(job, status)
            return asking.count_batch(run, model)

    def on_kill(self) -> None:
        """Stop the job if a person ended the task; if a worker was scaled in, leave it running."""
        if self._started and _was_ended_in_time(self._started[1]):
            self._stop(self._started[0])

    def _found(self, run: Run, model: Any) -> BatchJob | None:
        """Return a job of an earlier try whose answers are not taken yet, with its ARN.

        One that was asked something else, before the run's config or prompts changed, is stopped.
        """
        job = asking.open_batch(run, model)
        if job is None:
            return None
        arn = job["arn"] or self._listed(job["name"])
        if not asking.is_current(run, model, job):
            self.log.warning("%s asks what the run no longer wants to know", job["name"])
            if arn:
                self._stop(arn)
            asking.note_batch(run, job, arn=arn, ended="given up: the run changed")
            return None
        return asking.note_batch(run, job, arn=arn) if arn else self._start(run, model, job)

    def _start(self, run: Run, model: Any, job: BatchJob) -> BatchJob:
        """Start a job; its token makes a second start of the same job the first one."""
        name = job["name"]
        self.log.info("Starting batch job %s for %d prompts", name, job["records"])
        request = asking.batch_request(run, model, job)
        arn: str | None
        try:
            arn = str(self._call("create_model_invocation_job", **request)["jobArn"])
        except self.hook.conn.exceptions.ConflictException as error:
            arn = self._listed(name)
            if arn is None:
                raise GenerationError(f"batch job {name} cannot be found: {error}") from None
        return asking.note_batch(run, job, arn=arn)

    def _wait(self, context: Any, job: BatchJob) -> None:
        arn, poll = str(job["arn"]), self.run["poll_seconds"]
        self._started = (arn, context.get("ti"))
        self.log.info("Waiting for batch job %s: %s", job["name"], arn)
        self.defer(
            trigger=BatchTrigger(
                job_arn=arn,
                waiter_delay=poll,
                waiter_max_attempts=max(1, BATCH_SECONDS // poll),
                aws_conn_id=self.aws_conn_id,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=BATCH_SECONDS + 3600),
        )

    def _status(self, arn: str) -> Any:
        """Return what Bedrock says of a job; one that is being stopped is waited for."""
        end = time.monotonic() + STOPPING_SECONDS
        while True:
            found = self._call("get_model_invocation_job", jobIdentifier=arn)
            if found["status"] != "Stopping":
                return found
            if time.monotonic() > end:
                raise GenerationError(f"batch job {arn} does not stop; the next try takes it up")
            time.sleep(min(self.run["poll_seconds"], 30))

    def _listed(self, name: str) -> str | None:
        """Return the ARN of the job of this name; a job that was just started may be missing."""
        found = self._call("list_model_invocation_jobs", nameContains=name)
        there = (each["jobArn"] for each in found["invocationJobSummaries"])
        return next(there, None)

    def _stop(self, arn: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self.hook.conn.stop_model_invocation_job(jobIdentifier=arn)
        except ClientError as error:
            self.log.warning("Batch job %s is not stopped: %s", arn, error)

    def _call(self, operation: str, **request: Any) -> Any:
        """Call Bedrock; what it would refuse again fails the task, with what it said."""
        from botocore.exceptions import ClientError

        try:
            return getattr(self.hook.conn, operation)(**request)
        except ClientError as error:
            if error.response["Error"]["Code"].startswith(REFUSED):
                raise AirflowFailException(
                    f"{error}\nWhat batch jobs need is in docs/aws.md; then clear this task"
                ) from None
            raise

    def _take(self, run: Run, model: Any, job: BatchJob, status: Any) -> None:
        ended = _said(job, status)
        self.log.log(logging.INFO if status["status"] == "Completed" else logging.WARNING, ended)
        asking.take_batch(run, model, job, ended)


BATCH_WHOLE = ("Completed", "PartiallyCompleted", "Expired")
"""Statuses of a batch job that ended by itself, having asked what it could."""

BATCH_ENDED = (*BATCH_WHOLE, "Failed", "Stopped")

BATCH_SECONDS = 26 * 3600
"""How long a batch job is waited for; Bedrock ends it after 24 hours."""

STOPPING_SECONDS = 900
"""How long a batch job may take to stop."""

REFUSED = ("AccessDenied", "Unauthorized", "Validation")
"""How the codes of errors begin that another try would meet, too."""


def _said(job: BatchJob, status: Any) -> str:
    message = status.get("message")
    return f"batch job {job['name']} is {status['status']}" + (f": {message}" if message else "")


def _batch_failure(job: BatchJob, status: Any) -> Exception:
    """Return the error of a job that did not end well; a retry only where it may help."""
    internal = "internal" in status.get("message", "").lower()
    lasting = status["status"] == "Failed" and not internal
    return (AirflowFailException if lasting else GenerationError)(_said(job, status))


class NovaJudgeOperator(SageMakerTrainingOperator):
    """Run one judge job, once: attach to the job of an earlier try instead of starting another.

    The job's name is a digest of what it does, and an attempt. A job that is running or completed
    is the one we want. The next attempt starts only after one that failed or was stopped, and when
    a task that had succeeded was cleared on purpose. An end that the next job would meet, too (its
    input is refused, its time is up), is not repeated by a retry, only by a person who clears the
    task.

    Args:
        run: The run's record.
        config: A `runs.JudgeJob`; nothing happens if it has no request.

    Returns:
        The judge job's record, with the name and ARN of the job that completed.
    """

    template_fields: Sequence[str] = (*SageMakerTrainingOperator.template_fields, "run")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (SageMakerJobLink(), ContainerLogLink())

    def __init__(self, *, run: RunRecord, config: JudgeJob, **kwargs: Any) -> None:
        super().__init__(config=config, deferrable=True, print_log=False, **kwargs)
        self.run = run
        self._started: tuple[str, Any] | None = None

    def execute(self, context: Any) -> Any:
        """Find or start the job, then wait for it without a worker."""
        request = self.config["request"]
        if request is None:
            self.log.info("No pair of %s needs a judge", self.config["key"])
            return self.config
        name, description = self._find(request, _was_cleared(context))
        _persist(context, self, SageMakerJobLink, job_name=name)
        _persist(context, self, ContainerLogLink, group=cloudwatch.TRAINING_JOBS, stream=name)
        if description and description["TrainingJobStatus"] == "Completed":
            return self._result(description)
        self._started = (name, context.get("ti"))
        if description is None:
            self._start({**request, "TrainingJobName": name})
        else:
            self.log.info("Attaching to judge job %s", name)
        stopping = request["StoppingCondition"]
        longest = stopping["MaxRuntimeInSeconds"] + stopping.get("MaxPendingTimeInSeconds", 0)
        poll = self.run["poll_seconds"]
        self.defer(
            trigger=NovaJudgeTrigger(
                job_name=name,
                job_type="Training",
                waiter_delay=poll,
                waiter_max_attempts=(longest + 3600) // poll,
                aws_conn_id=self.aws_conn_id,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=longest + 3600),
        )

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        """Return the completed job.

        Raises:
            AirflowFailException: It has failed, with what SageMaker and the container say about
                it, and the next one would fail in the same way.
            JudgeJobError: It has failed, and another one may not.
        """
        if event is None:
            raise JudgeJobError("the wait for the judge job ended without an event")
        description = self.hook.describe_training_job(event["job_name"])
        if description["TrainingJobStatus"] == "Completed":
            return self._result(description)
        raise self._failure(description)

    def on_kill(self) -> None:
        """Stop the job if a person ended the task; if a worker was scaled in, leave it running."""
        if self._started is None:
            return
        name, ti = self._started
        if _was_ended_in_time(ti):
            _unless_gone(self.hook.conn.stop_training_job, TrainingJobName=name)

    def _start(self, request: dict[str, Any]) -> None:
        from botocore.exceptions import ClientError

        name = request["TrainingJobName"]
        with readable_errors():
            run = _opened(self.run)
            request = judging.within_budget(run, self.config, request)
            judging.forget_comparison(run, self.config["key"])
        self.log.info("Starting judge job %s for %d pairs", name, self.config["pairs"])
        try:
            self.hook.conn.create_training_job(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUse":
                raise JudgeJobError(f"SageMaker refuses judge job {name}: {error}") from None
            self.log.info("Another try was quicker: attaching to judge job %s", name)

    def _find(self, request: dict[str, Any], cleared: bool) -> tuple[str, Any]:
        """Return the attempt to use and its description, None if it is still to be started."""
        base, last = request["TrainingJobName"], None
        for attempt in range(1, MAX_ATTEMPTS + 1):
            name = f"{base}-{attempt}"
            description = spending.describe(self.hook.conn, name)
            if description is None:
                if last and _is_final(last) and not cleared:
                    raise self._failure(last)
                return name, None
            if self._is_wanted(name, description["TrainingJobStatus"]):
                other = judge.differences(request, description)
                if not other:
                    return name, description
                raise AirflowFailException(
                    f"training job {name} exists already, and its {', '.join(other)} is not this "
                    "comparison's; start another run"
                )
            last = description
        raise AirflowFailException(f"{MAX_ATTEMPTS} judge jobs {base}-N failed; look at their logs")

    def _is_wanted(self, name: str, status: str) -> bool:
        """Whether a job is running, or complete and not yet handed on by this task."""
        if status == "Completed":
            return not judging.is_summarized(
                _opened(self.run, without_texts=True), self.config, name
            )
        return status in ("InProgress", "Stopping")

    def _failure(self, description: dict[str, Any]) -> Exception:
        name, status = description["TrainingJobName"], description["TrainingJobStatus"]
        reason = description.get("FailureReason") or description["SecondaryStatus"]
        run, said = _opened(self.run, without_texts=True), []
        if run.config.store_text:
            said = cloudwatch.tail(aws(self.aws_conn_id)("logs"), cloudwatch.TRAINING_JOBS, name)
        else:
            reason = f"{description['SecondaryStatus']}: {_kind(reason)}"
        if self._ended_by_budget(description):
            judging.cap_judge(run, self.config)
            reason += ": the budget allowed it no more time"
        message = _with_log(f"judge job {name} is {status}: {reason}", said)
        return AirflowFailException(message) if _is_final(description) else JudgeJobError(message)

    def _ended_by_budget(self, description: dict[str, Any]) -> bool:
        """Whether a job's time was up, and the budget had cut that time short."""
        had, wanted = (
            each["StoppingCondition"]["MaxRuntimeInSeconds"]
            for each in (description, self.config["request"])
        )
        return bool(description["SecondaryStatus"] == "MaxRuntimeExceeded" and had < wanted)

    def _result(self, description: dict[str, Any]) -> Any:
        name, arn = description["TrainingJobName"], description["TrainingJobArn"]
        self.log.info("Judge job %s is complete", name)
        return {**self.config, "job_name": name, "job_arn": arn}


def _is_final(description: dict[str, Any]) -> bool:
    """Whether another job of this kind would end the same way: refused, or out of time."""
    out_of_time = description["SecondaryStatus"] == "MaxRuntimeExceeded"
    return out_of_time or str(description.get("FailureReason", "")).startswith(FINAL)


def _is_last_try(context: Any) -> bool:
    ti = context.get("ti")
    return ti is None or bool(ti.try_number > ti.max_tries)


def _was_cleared(context: Any) -> bool:
    """Whether this is the first try since a person cleared the task, or the very first."""
    ti = context.get("ti")
    if ti is None:
        return True
    return bool(ti.try_number == ti.max_tries - ti.task.retries + 1)


BY_HAND = ("failed", "success", "skipped", "removed")
"""States of a task that somebody has ended while it was waiting or running."""


def _was_ended(ti: Any) -> bool:
    """Whether a person has ended a task, not cleared it; False if Airflow does not say."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    if ti is None:
        return False
    found = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    return any(state in BY_HAND for state in found.get(ti.run_id, {}).values())


def _was_ended_in_time(ti: Any) -> bool:
    """Ask the same within the seconds that a killed task has.

    In a thread: the signal may have interrupted a call that holds what this one needs.
    """
    ended: list[bool] = []
    question = threading.Thread(target=lambda: ended.append(_was_ended(ti)), daemon=True)
    question.start()
    question.join(timeout=3)
    return ended == [True]


def _until_endpoint_is_ready(operator: Any, name: str, seconds: int) -> SageMakerTrigger:
    poll = operator.run["poll_seconds"]
    return SageMakerTrigger(
        job_name=name,
        job_type="endpoint",
        waiter_delay=poll,
        waiter_max_attempts=seconds // poll,
        aws_conn_id=operator.aws_conn_id,
        botocore_config=operator.botocore_config,
    )


def _persist(context: Any, operator: Any, link: type[BaseAwsLink], **values: str) -> None:
    meta = operator.hook.conn.meta
    link.persist(
        context=context,
        operator=operator,
        region_name=meta.region_name,
        aws_partition=meta.partition,
        **values,
    )


def _kind(reason: str) -> str:
    """Return what kind of failure SageMaker names: the rest may quote what the container read."""
    kind = re.match(r"\w*Error\b", reason)
    named = kind[0] if kind else "a reason that is not repeated here"
    return f"{named}; the run keeps no texts, so the rest is in SageMaker's console only"


def _with_log(message: str, lines: Sequence[str]) -> str:
    return "\n  ".join([f"{message}\nThe end of its log:", *lines]) if lines else message


def _opened(run: RunRecord, *, without_texts: bool = False) -> Run:
    return open_run(run, aws(run["aws_conn_id"]), without_texts=without_texts)


def _folder(run: RunRecord) -> RunFolder:
    return RunFolder(aws(run["aws_conn_id"])("s3"), run["uri"])


def _note_deletion(run: RunRecord, deployment: Deployment) -> None:
    """Note that a model's endpoint costs nothing any more, where its cost is known."""
    if deployment.get("priced"):
        name = str(deployment["endpoint_name"])
        spending.endpoint_deleted(_folder(run), deployment["model"], name)


def _note_gone(client: Any, run: RunRecord, deployment: Deployment) -> None:
    """Note the same of endpoints that an earlier config of the run made, if they are gone."""
    from botocore.exceptions import ClientError

    folder, model = _folder(run), deployment["model"]
    for name in spending.open_endpoints(folder, model) if deployment.get("priced") else ():
        try:
            client.describe_endpoint(EndpointName=name)
        except ClientError as error:
            if is_gone(error):
                spending.endpoint_deleted(folder, model, name)


def _unless_there(create: Callable[..., Any], request: dict[str, Any]) -> None:
    """Call a create operation; that the resource exists already is fine."""
    from botocore.exceptions import ClientError

    try:
        create(**request)
    except ClientError as error:
        if not error.response["Error"]["Message"].startswith(ALREADY_THERE):
            raise


def _unless_gone(end: Callable[..., Any], **request: str) -> None:
    """Call what deletes or stops something; that it is not there is fine."""
    from botocore.exceptions import ClientError

    try:
        end(**request)
    except ClientError as error:
        if not is_gone(error):
            raise


def _delete_endpoint(client: Any, name: str, poll_seconds: int) -> bool:
    """Delete an endpoint and wait until it is gone; False if AWS refuses because it is created."""
    from botocore.exceptions import ClientError

    try:
        _unless_gone(client.delete_endpoint, EndpointName=name)
    except ClientError as error:
        if not error.response["Error"]["Message"].startswith(IN_PROGRESS):
            raise
        status = client.describe_endpoint(EndpointName=name)["EndpointStatus"]
        if status != "Deleting":
            return False
    delay = min(poll_seconds, 30)
    client.get_waiter("endpoint_deleted").wait(
        EndpointName=name, WaiterConfig={"Delay": delay, "MaxAttempts": DELETION // delay}
    )
    return True
