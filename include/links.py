"""Links from tasks in the Airflow UI: to the AWS console, to the report and to the run folder."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink
from airflow.providers.common.compat.sdk import XCom, conf
from airflow.sdk import BaseOperatorLink

from include.storage import split_uri


class SageMakerJobLink(BaseAwsLink):
    """The judge job in the SageMaker console."""

    name: ClassVar[str] = "SageMaker job"
    key: ClassVar[str] = "sagemaker_job"
    format_str: ClassVar[str] = (
        BASE_AWS_CONSOLE_LINK + "/sagemaker/home?region={region_name}#/jobs/{job_name}"
    )


class SageMakerEndpointLink(BaseAwsLink):
    """The endpoint in the SageMaker console."""

    name: ClassVar[str] = "SageMaker endpoint"
    key: ClassVar[str] = "sagemaker_endpoint"
    format_str: ClassVar[str] = (
        BASE_AWS_CONSOLE_LINK + "/sagemaker/home?region={region_name}#/endpoints/{endpoint_name}"
    )


class ContainerLogLink(BaseAwsLink):
    """The container's log in the CloudWatch console."""

    name: ClassVar[str] = "CloudWatch log"
    key: ClassVar[str] = "container_log"
    format_str: ClassVar[str] = (
        BASE_AWS_CONSOLE_LINK
        + "/cloudwatch/home?region={region_name}#logsV2:log-groups/log-group/{group}{streams}"
    )

    def format_link(self, **kwargs: Any) -> str:
        """Fill in the address; the console wants its part after `#` quoted, with `$` for `%`."""
        streams = f"?logStreamNameFilter={kwargs['stream']}" if kwargs.get("stream") else ""
        kwargs["group"] = quote(quote(kwargs["group"], safe=""), safe="").replace("%", "$")
        kwargs["streams"] = quote(streams, safe="").replace("%", "$")
        address: str = super().format_link(**kwargs)
        return address


class ReportLink(BaseOperatorLink):
    """The run's page in the Airflow UI: its progress, and its report when it is over."""

    name: ClassVar[str] = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the page's address."""
        return f"{run_address(ti_key.dag_id, ti_key.run_id)}/plugin/nova-judge"


class RunFolderLink(BaseOperatorLink):
    """The run folder in the S3 console."""

    name: ClassVar[str] = "Run folder"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the folder's address in the console; empty while there is none."""
        record = XCom.get_one(
            key="return_value", task_id="resolve", dag_id=ti_key.dag_id, run_id=ti_key.run_id
        )
        if record is None:
            return ""
        bucket, key = split_uri(record["uri"])
        hook: Any = AwsBaseHook(record["aws_conn_id"], client_type="s3")
        domain = BaseAwsLink.get_aws_domain(hook.conn_partition)
        region = hook.region_name
        return (
            f"https://console.{domain}/s3/buckets/{bucket}?region={region}&prefix={quote(key)}/"
            if domain
            else ""
        )


LINKS: tuple[type[BaseOperatorLink], ...] = (
    SageMakerJobLink,
    SageMakerEndpointLink,
    ContainerLogLink,
    ReportLink,
    RunFolderLink,
)


def run_address(dag_id: str, run_id: str) -> str:
    """Return the address of a run in the Airflow UI."""
    return f"{runs_address(dag_id)}/{quote(run_id, safe='')}"


def runs_address(dag_id: str) -> str:
    """Return the address of all runs of a DAG in the Airflow UI."""
    return f"{home()}/dags/{quote(dag_id)}/runs"


def home() -> str:
    """Return the address of the Airflow UI, without a slash at the end."""
    return str(conf.get("api", "base_url", fallback="http://localhost:8080")).rstrip("/")
