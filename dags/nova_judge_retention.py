"""Delete the folders of old runs.

Once a day it looks, in each environment that says `keep_runs_days`, for run folders that were last
written so long ago, and deletes them with all versions: not the history, and not the last accepted
run of an evaluation. Each task returns a line for every folder. With `dry_run` it only says what it
would do.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from include.config_files import environment_names
from include.tasks import expire

with DAG(
    "nova_judge_retention",
    description=(__doc__ or "").splitlines()[0],
    doc_md=__doc__,
    schedule=CronTriggerTimetable("40 2 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"retries": 2},
    params={"dry_run": Param(False, type="boolean", description="Only say what would be done.")},
    tags=["nova-judge"],
):
    expire.override(map_index_template="{{ task.op_kwargs['environment'] }}").expand(
        environment=task(environment_names)()
    )
