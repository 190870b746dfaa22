"""The glue to Airflow: steps as tasks, and SageMaker operators that never pay twice.

The provider's operators trip over what a first try left behind, cannot delete an endpoint and
start a second job on a retry; the three classes here change exactly that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerBaseOperator,
    SageMakerEndpointOperator,
    SageMakerTrainingOperator,
)
from airflow.providers.amazon.aws.triggers.sagemaker import SageMakerTrigger
from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowFailException

from include import steps
from include.errors import DeploymentError, GenerationError, JudgeError, JudgeJobError
from include.steps import Deployment, JudgeJob, RunRecord

ALREADY_THERE = "Cannot create already existing"
NOT_THERE = "Could not find"
IN_PROGRESS = "Cannot update in-progress endpoint"
CAPACITY = ("InsufficientInstanceCapacity", "CapacityError", "ResourceLimitExceeded")

MAX_ATTEMPTS = 20
"""Judge jobs of one comparison, failed ones included, before a person has to look."""


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Fail at once, without a traceback, on what a person has to correct; let the rest retry."""
    try:
        yield
    except GenerationError:
        raise
    except JudgeError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None


def aws(aws_conn_id: str) -> steps.Client:
    """Return a function that makes boto3 clients of an Airflow connection."""

    def client(service: str, **config: Any) -> Any:
        from botocore.config import Config

        hook = AwsBaseHook(aws_conn_id, client_type=service, config=Config(**config))
        return hook.get_conn()

    return client


def step(work: Callable[..., Any], **options: Any) -> Any:
    """Make a task of a function in `steps`: the run's record in, the opened run for the work."""

    @task(task_id=work.__name__, doc_md=work.__doc__, multiple_outputs=False, **options)
    @functools.wraps(work)
    def execute(run: RunRecord, *args: Any, **kwargs: Any) -> Any:
        with _readable_errors():
            return work(steps.open_run(run, aws(run["aws_conn_id"])), *args, **kwargs)

    return execute


@task(multiple_outputs=True, doc_md=steps.resolve.__doc__)
def resolve(evaluation: dict[str, Any] | None = None, **context: Any) -> dict[str, Any]:
    """Turn the run's conf into a checked, complete config in a new run folder."""
    dag_run, params = context["dag_run"], dict(context["params"])
    # Given conf stands alone in the general DAG: half of it from the form's example would surprise.
    conf = {**(evaluation or {}), **(dag_run.conf or {})} or params
    with _readable_errors():
        record = steps.resolve(
            conf,
            dag_id=dag_run.dag_id,
            run_id=dag_run.run_id,
            started_at=(dag_run.start_date or dag_run.run_after).isoformat(),
            connect=aws,
        )
    return dict(record)


class DeployEndpointOperator(SageMakerEndpointOperator):
    """Create an endpoint, wait for it without a worker, and hear it answer one prompt.

    Safe to run again. A deployment that fails is handed on as a value, so that the run's other
    models go on; instance types are tried in order while AWS has no capacity for one.

    Args:
        run: The run's record.
        config: A `steps.Deployment`; nothing happens if it has no requests.

    Returns:
        The deployment, with `error` if there is no endpoint that answers.
    """

    template_fields: Sequence[str] = (*SageMakerEndpointOperator.template_fields, "run")

    def __init__(self, *, run: RunRecord, config: Deployment, **kwargs: Any) -> None:
        super().__init__(config=config, deferrable=True, **kwargs)
        self.run = run

    def execute(self, context: Any) -> Any:
        """Create what is missing and wait; return at once if there is nothing to deploy."""
        if self.config["requests"] is None:
            return self.config
        return self._create(choice=0)

    def execute_complete(
        self, context: Any, event: dict[str, Any] | None = None, choice: int = 0
    ) -> Any:
        """Go on after the wait: try the endpoint, or the next instance type, or give up."""
        if event and event["status"] == "success":
            with _readable_errors():
                run = steps.open_run(self.run, aws(self.run["aws_conn_id"]))
                try:
                    steps.try_endpoint(run, self.config)
                except DeploymentError as error:
                    return self._failed(str(error))
            return self.config
        reason = self.hook.describe_endpoint(self._name).get("FailureReason") or str(event)
        if any(code in reason for code in CAPACITY) and choice + 1 < len(self._endpoint_configs):
            self.log.warning("%s; trying the next instance type", reason)
            _delete_endpoint(self.hook.conn, self._name, self.run["poll_seconds"])
            return self._create(choice + 1)
        return self._failed(reason)

    @property
    def _name(self) -> str:
        return str(self.config["endpoint_name"])

    @property
    def _endpoint_configs(self) -> list[dict[str, Any]]:
        configs: list[dict[str, Any]] = self.config["requests"]["EndpointConfigs"]
        return configs

    def _create(self, choice: int) -> Any:
        from botocore.exceptions import ClientError

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
        except ClientError as error:
            return self._failed(str(error))
        startup = endpoint_config["ProductionVariants"][0][
            "ContainerStartupHealthCheckTimeoutInSeconds"
        ]
        poll = self.run["poll_seconds"]
        self.defer(
            trigger=SageMakerTrigger(
                job_name=self._name,
                job_type="endpoint",
                waiter_delay=poll,
                waiter_max_attempts=(startup + 1800) // poll,
                aws_conn_id=self.aws_conn_id,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            kwargs={"choice": choice},
        )

    def _failed(self, reason: str) -> Any:
        self.log.error("%s has no endpoint: %s", self.config["model"], reason)
        return {**self.config, "error": reason}


class DeleteEndpointOperator(SageMakerBaseOperator):
    """Delete an endpoint with its configs and its model; what is already gone is fine.

    Args:
        run: The run's record.
        config: A `steps.Deployment`; nothing happens if it has no requests.
    """

    template_fields: Sequence[str] = (*SageMakerBaseOperator.template_fields, "run")

    def __init__(self, *, run: RunRecord, config: Deployment, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.run = run

    def execute(self, context: Any) -> None:
        """Wait until the endpoint may be deleted, then delete all that belongs to it."""
        requests = self.config["requests"]
        if requests is None:
            return
        client = self.hook.conn
        _delete_endpoint(client, self.config["endpoint_name"], self.run["poll_seconds"])
        for each in requests["EndpointConfigs"]:
            name = each["EndpointConfigName"]
            _unless_gone(client.delete_endpoint_config, EndpointConfigName=name)
        _unless_gone(client.delete_model, ModelName=requests["Model"]["ModelName"])
        self.log.info("Endpoint %s, its configs and its model are gone", self.config["model"])


class NovaJudgeOperator(SageMakerTrainingOperator):
    """Run one judge job, once: attach to the job of an earlier try instead of starting another.

    The job's name is a digest of what it does, and an attempt. A job that is running or completed
    is the one we want; the next attempt starts only after one that failed or was stopped.

    Args:
        run: The run's record.
        config: A `steps.JudgeJob`; nothing happens if it has no request.

    Returns:
        The judge job's record, with the name and ARN of the job that completed.
    """

    template_fields: Sequence[str] = (*SageMakerTrainingOperator.template_fields, "run")

    def __init__(self, *, run: RunRecord, config: JudgeJob, **kwargs: Any) -> None:
        super().__init__(config=config, deferrable=True, print_log=False, **kwargs)
        self.run = run

    def execute(self, context: Any) -> Any:
        """Find or start the job, then wait for it without a worker."""
        request = self.config["request"]
        if request is None:
            self.log.info("No pair of %s needs a judge", self.config["candidate"])
            return self.config
        name, status = self._find(request["TrainingJobName"])
        if status is None:
            self.log.info("Starting judge job %s for %d pairs", name, self.config["pairs"])
            self.hook.conn.create_training_job(**{**request, "TrainingJobName": name})
        elif status == "Completed":
            return self._result(name)
        else:
            self.log.info("Attaching to judge job %s, which is %s", name, status)
        poll = self.run["poll_seconds"]
        longest = request["StoppingCondition"]["MaxRuntimeInSeconds"] + 3600
        self.defer(
            trigger=SageMakerTrigger(
                job_name=name,
                job_type="Training",
                waiter_delay=poll,
                waiter_max_attempts=longest // poll,
                aws_conn_id=self.aws_conn_id,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=longest),
        )

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        """Return the completed job, or fail with what SageMaker says about it."""
        if event is None:
            raise JudgeJobError("the wait for the judge job ended without an event")
        name = event["job_name"]
        if event["status"] == "success":
            return self._result(name)
        description = self.hook.describe_training_job(name)
        reason = description.get("FailureReason") or description["SecondaryStatus"]
        message = f"judge job {name} is {description['TrainingJobStatus']}: {reason}"
        if reason.startswith(("AlgorithmError", "ClientError")):
            raise AirflowFailException(message)  # the same input would fail, and cost, again
        raise JudgeJobError(message)

    def _find(self, base: str) -> tuple[str, str | None]:
        """Return the attempt to use and its status, None if it is still to be started."""
        from botocore.exceptions import ClientError

        for attempt in range(1, MAX_ATTEMPTS + 1):
            name = f"{base}-{attempt}"
            try:
                status = self.hook.describe_training_job(name)["TrainingJobStatus"]
            except ClientError as error:
                if "not found" in str(error) or NOT_THERE in str(error):
                    return name, None
                raise
            if status in ("InProgress", "Completed"):
                return name, status
        raise AirflowFailException(f"{MAX_ATTEMPTS} judge jobs {base}-N failed; look at their logs")

    def _result(self, name: str) -> Any:
        description = self.hook.describe_training_job(name)
        self.log.info("Judge job %s is complete", name)
        return {**self.config, "job_name": name, "job_arn": description["TrainingJobArn"]}


def _unless_there(create: Callable[..., Any], request: dict[str, Any]) -> None:
    """Call a create operation; that the resource exists already is fine."""
    from botocore.exceptions import ClientError

    try:
        create(**request)
    except ClientError as error:
        if not error.response["Error"]["Message"].startswith(ALREADY_THERE):
            raise


def _unless_gone(delete: Callable[..., Any], **request: str) -> None:
    """Call a delete operation; that there is nothing to delete is fine."""
    from botocore.exceptions import ClientError

    try:
        delete(**request)
    except ClientError as error:
        if not error.response["Error"]["Message"].startswith(NOT_THERE):
            raise


def _delete_endpoint(client: Any, name: str, poll_seconds: int) -> None:
    """Delete an endpoint, which AWS refuses while it is being created; wait until it is gone."""
    from botocore.exceptions import ClientError
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    def in_progress(error: BaseException) -> bool:
        return isinstance(error, ClientError) and IN_PROGRESS in str(error)

    for attempt in Retrying(
        retry=retry_if_exception(in_progress),
        wait=wait_fixed(poll_seconds),
        stop=stop_after_delay(3600),
        reraise=True,
    ):
        with attempt:
            _unless_gone(client.delete_endpoint, EndpointName=name)
    client.get_waiter("endpoint_deleted").wait(
        EndpointName=name, WaiterConfig={"Delay": poll_seconds, "MaxAttempts": 3600 // poll_seconds}
    )


def as_airflow_param(schema: dict[str, Any], default: Any) -> Param:
    """Make a field of the trigger form; without a default it has to be filled in."""
    return (
        Param(**schema)
        if default is None and "null" not in schema["type"]
        else Param(default, **schema)
    )


@task
def broken(message: str) -> None:
    """Fail with what is wrong with an evaluation's file."""
    raise AirflowFailException(message)
