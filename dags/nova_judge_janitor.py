"""Delete and stop what outlived its run.

Every 15 minutes it looks, in each environment, at the endpoints, endpoint configs, models, running
judge jobs and batch jobs that carry the project's tags. What belongs to a run that has ended goes;
so does what belongs to no run that this Airflow knows, once it is older than `max_age_hours`. Each
task returns a line for everything that it did. With `dry_run` it only says what it would do.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from include.config_files import environment_names
from include.ownership import MAX_AGE
from include.tasks import clean

with DAG(
    "nova_judge_janitor",
    description=(__doc__ or "").splitlines()[0],
    doc_md=__doc__,
    schedule=CronTriggerTimetable("*/15 * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"retries": 2},  # its first run comes while Airflow is still starting
    params={
        "dry_run": Param(False, type="boolean", description="Only say what would be done."),
        "max_age_hours": Param(
            MAX_AGE / timedelta(hours=1),
            type="number",
            exclusiveMinimum=0,
            description="How old something may be whose run this Airflow does not know.",
        ),
    },
    tags=["nova-judge"],
):
    clean.override(map_index_template="{{ task.op_kwargs['environment'] }}").expand(
        environment=task(environment_names)()
    )
