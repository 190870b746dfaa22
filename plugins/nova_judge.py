"""What the project adds to the Airflow UI: links from tasks to the AWS console."""

from __future__ import annotations

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from include.operators import LINKS


class NovaJudgePlugin(AirflowPlugin):
    """Registers the links, so that the UI can show them."""

    name = "nova_judge"
    operator_extra_links: ClassVar[list[object]] = [link() for link in LINKS]
