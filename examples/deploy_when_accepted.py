"""A deployment that waits for an evaluation: copy it into your dags folder.

It runs whenever the gate of `nova_llm_judge__qwen-vs-claude` has succeeded, and goes on only if the
gate passed or a person approved.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

from airflow.sdk import DAG, Asset, task

log = getLogger(__name__)

VERDICT = Asset("nova_judge/qwen-vs-claude")

with DAG("deploy_when_accepted", schedule=[VERDICT], tags=["nova-judge"]):

    @task.short_circuit
    def accepted(**context: Any) -> bool:
        """Go on only with a run that its gate passed or that a person approved."""
        (event, *_) = reversed(context["triggering_asset_events"][VERDICT])
        outcome = event.extra
        log.info("gate: %(gate)s. %(reason)s Report: %(report)s", outcome)
        return bool(outcome["gate"] == "pass" or outcome["approved"])

    @task
    def deploy() -> None:
        """Put your deployment here."""
        log.info("The candidate goes into production")

    accepted() >> deploy()
