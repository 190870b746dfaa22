"""Facts about the links that tasks show."""

from types import SimpleNamespace
from typing import Any

import pytest

from include import links

KEY = SimpleNamespace(dag_id="nova_llm_judge", run_id="manual__2026-11-26T06:00:00+00:00")


def test_the_report_is_a_page_of_the_run_in_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links.conf, "get", lambda *_, **__: "https://airflow.example.com/team/")
    assert links.ReportLink().get_link(None, ti_key=KEY) == (
        "https://airflow.example.com/team/dags/nova_llm_judge/runs/"
        "manual__2026-11-26T06%3A00%3A00%2B00%3A00/plugin/nova-judge"
    )


@pytest.mark.parametrize(
    ("region", "domain"), [("eu-west-1", "aws.amazon.com"), ("cn-north-1", "amazonaws.cn")]
)
def test_the_run_folder_is_shown_in_the_console_of_its_partition(
    monkeypatch: pytest.MonkeyPatch, region: str, domain: str
) -> None:
    extra = f'{{"region_name": "{region}"}}'
    monkeypatch.setenv(
        "AIRFLOW_CONN_AWS_EVALUATIONS",
        f'{{"conn_type": "aws", "login": "a", "password": "b", "extra": {extra}}}',
    )
    asked: list[Any] = []

    def get_one(**key: str) -> dict[str, str]:
        asked.append(key)
        return {"uri": "s3://bucket/nova-judge/nightly/run 1", "aws_conn_id": "aws_evaluations"}

    monkeypatch.setattr(links.XCom, "get_one", get_one)
    assert links.RunFolderLink().get_link(None, ti_key=KEY) == (
        f"https://console.{domain}/s3/buckets/bucket?region={region}"
        "&prefix=nova-judge/nightly/run%201/"
    )
    assert asked[0]["task_id"] == "resolve" and asked[0]["run_id"] == KEY.run_id


def test_without_a_run_folder_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links.XCom, "get_one", lambda **_: None)
    assert links.RunFolderLink().get_link(None, ti_key=KEY) == ""


def test_links_lead_to_the_job_and_its_log() -> None:
    where = {"region_name": "us-east-1", "aws_domain": "aws.amazon.com"}
    job = links.SageMakerJobLink().format_link(**where, job_name="nj-x-1")
    assert job == "https://console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/nj-x-1"
    group = "/aws/sagemaker/TrainingJobs"
    log = links.ContainerLogLink().format_link(**where, group=group, stream="nj-x-1")
    assert log.endswith(
        "log-group/$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Dnj-x-1"
    )
