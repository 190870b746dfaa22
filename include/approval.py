"""Asking a person about a gate, in the Airflow UI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException

from include import steps
from include.runs import RunRecord
from include.tasks import opened

APPROVE, REJECT = "Approve", "Reject"


class GateApprovalOperator(HITLOperator):
    """Ask whether a run that its gate did not pass is accepted; ends at once if nobody is asked.

    The task waits without a worker. No answer in time counts as a rejection.

    Args:
        run: The run's record.
        summary_uri: What `report` returned.

    Returns:
        Whether a person has approved.
    """

    template_fields: Sequence[str] = ("run", "summary_uri")

    def __init__(self, *, run: RunRecord, summary_uri: str, **kwargs: Any) -> None:
        # The subject is known when the report is.
        super().__init__(subject="the gate", options=[APPROVE, REJECT], **kwargs)
        self.run = run
        self.summary_uri = summary_uri

    def execute(self, context: Any) -> Any:
        """Put the question, or end."""
        with opened(self.run, without_texts=True) as known:
            question = steps.approval(known, self.summary_uri)
        if question is None:
            return False
        self.subject, self.body = question["subject"], question["body"]
        self.response_timeout = timedelta(hours=question["hours"])
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> bool:
        """Take the answer; without one, or with a no, asking again would not help."""
        try:
            answer = super().execute_complete(context, event)
        except HITLTimeoutError:
            raise AirflowFailException("nobody has answered in time") from None
        who = answer["responded_by_user"] or {}
        name = who.get("name") if isinstance(who, dict) else getattr(who, "name", None)
        if answer["chosen_options"] != [APPROVE]:
            raise AirflowFailException(f"{name or 'a person'} has rejected it")
        self.log.info("%s has approved", name or "A person")
        return True
