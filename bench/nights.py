"""`make bench-nights`: many evaluations, many nights, 5 % faults: is a run lost, doubled, or wrong?

Airflow and the sandbox are started with a state folder of their own, in `.local/bench/nights`. A
run's id names its night, so the same command goes on where it was, however it ended. `--report`
only counts. What is measured is in docs/recurring.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from bench import nights_counted, nights_evaluations
from bench.nights_counted import Counted, run_id_of
from bench.processes import ROOT, STATE, aws_client, local_command
from bench.table import OURS, Result, machine, say, show, write
from include.names import dag_id
from scripts import local

RESULTS = ROOT / "bench" / "results" / "nights.json"
NIGHTS, EVALUATIONS = 21, len(nights_evaluations.EVALUATIONS)
LOOK_SECONDS = 3
LONGEST_NIGHT = timedelta(hours=2)
"""After which a night counts as stuck."""

PATIENCE = 10
"""How often Airflow is asked the same when it does not answer; ten runs keep it busy."""

RULES = ("no_regression", "non_inferiority")


def main(arguments: list[str] | None = None) -> int:
    """Run the nights, count, print and store the results; 1 if a run is lost or doubled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument(
        "--evaluations", type=int, default=EVALUATIONS, help=f"the first of {EVALUATIONS}"
    )
    parser.add_argument("--report", action="store_true", help="only count what there is")
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    facts = machine()
    nights = Nights(STATE / "nights", options.evaluations)
    try:
        if not options.report:
            nights.run(options.nights)
        counted = nights.count()
    except KeyboardInterrupt:
        say("\nThe same command goes on where it was")
        return 130
    except (local.LocalError, requests.RequestException) as error:
        say(f"Error: {error}\nThe same command goes on where it was")
        return 2
    finally:
        nights.down()
    results = list(results_of(counted, options.nights * options.evaluations))
    table(results)
    problems = list(problems_of(counted, 0 if options.report else options.nights, nights.names))
    for problem in problems:
        say(problem)
    whole = (options.nights, options.evaluations) == (NIGHTS, EVALUATIONS) and not options.report
    out = options.out or (RESULTS if whole else None)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    return int(bool(problems))


class Nights:
    """One copy of the product, and the evaluations that it runs night after night."""

    def __init__(self, state: Path, evaluations: int) -> None:
        self.evaluations = nights_evaluations.chosen(evaluations)
        self.names = list(self.evaluations)
        self.home = state / "config"
        self.place = local.Place(
            state=state,
            airflow_port=int(os.environ.get("AIRFLOW_PORT") or 8090),
            sandbox_port=int(os.environ.get("SANDBOX_PORT") or 4576),
        )
        self.api = local.Api(self.place)
        self.started = False

    def run(self, nights: int) -> None:
        """Let every night pass that has not, and print a line for each."""
        self.up(self._last_night())
        began, passed = time.monotonic(), 0
        for night in range(1, nights + 1):
            if not self._waiting(night):
                say(f"night {night:2} of {nights}  {self._said(night)}")
                continue
            self.up(night)
            self.pass_night(night)
            passed += 1
            rest = (time.monotonic() - began) / passed * (nights - night)
            end = datetime.now().astimezone() + timedelta(seconds=rest)
            expected = f"; the last ends at about {end:%H:%M}" if rest else ""
            say(f"night {night:2} of {nights}  {self._said(night)}{expected}")

    def up(self, night: int) -> None:
        """Start what is not running, with the sandbox of this night."""
        nights_evaluations.write(self.home, self.names)
        nights_evaluations.write_responses(self.home, night)
        self._mark.write_text(str(night), encoding="utf-8")
        self.started = True
        self._local("up")
        for name in self.names:
            self.api.call("PATCH", f"/dags/{dag_id(name)}", is_paused=False)
        # What a run leaves behind is to be seen, not to be cleaned away.
        self.api.call("PATCH", "/dags/nova_judge_janitor", is_paused=True)

    @property
    def _mark(self) -> Path:
        """Return the file that says which night it is."""
        return self.place.state / "night"

    def _last_night(self) -> int:
        return int(self._mark.read_text(encoding="utf-8")) if self._mark.exists() else 1

    def down(self) -> None:
        """Stop what was started here."""
        if self.started:
            self._local("down")

    def _local(self, command: str) -> None:
        local_command(
            self.place,
            command,
            NOVA_JUDGE_CONFIG_DIR=str(self.home),
            **nights_evaluations.sandbox(self._last_night()),
        )

    def pass_night(self, night: int) -> None:
        """Trigger the run of each evaluation, unless it was, and wait until all have ended.

        Raises:
            LocalError: A run has not ended in `LONGEST_NIGHT`.
        """
        end = time.monotonic() + LONGEST_NIGHT.total_seconds()
        for name in self.names:
            self._trigger(name, night)
        while waiting := self._waiting(night):
            if time.monotonic() > end:
                raise local.LocalError(f"{run_id_of(night)} does not end: {', '.join(waiting)}")
            time.sleep(LOOK_SECONDS)

    def _trigger(self, name: str, night: int) -> None:
        for _ in range(5):
            if self._state(name, night):
                return
            try:
                path = f"/dags/{dag_id(name)}/dagRuns"
                self.api.call("POST", path, logical_date=None, dag_run_id=run_id_of(night))
            except requests.RequestException:  # Airflow on SQLite is busy now and then: look again
                time.sleep(1)
        if not self._state(name, night):
            raise local.LocalError(f"Airflow starts no run of {name}")

    def _waiting(self, night: int) -> list[str]:
        """Return the evaluations whose run has not ended."""
        return [name for name in self.names if self._state(name, night) not in local.ENDED]

    def _state(self, name: str, night: int) -> str | None:
        """Return the state of a run; None if there is none."""
        path = f"/dags/{dag_id(name)}/dagRuns"
        runs = local.pages(self._get, path, "dag_runs")
        return next((r["state"] for r in runs if r["dag_run_id"] == run_id_of(night)), None)

    def _said(self, night: int) -> str:
        """Return what has become of a night's runs, in a few words."""
        s3 = self._client("s3")
        found = (nights_counted.runs_of(self._get, s3, name, night) for name in self.names)
        runs = list(chain.from_iterable(found))
        gates = [run.rows[0].gate if run.rows else "without a verdict" for run in runs]
        said = ", ".join(f"{gates.count(gate)} {gate}" for gate in sorted(set(gates)))
        ended = [run.ended for run in runs if run.ended]
        lasted = max(ended) - min(run.started for run in runs)
        retries = sum(sum(run.retries.values()) for run in runs)
        return (
            f"{len(ended)} of {len(self.names)} ended: {said}; {retries} tasks tried again; "
            f"{lasted.total_seconds() / 60:.1f} min"
        )

    def count(self) -> Counted:
        """Count all that there is; starts what is needed for it."""
        if not self.api.ready():
            self.up(self._last_night())
        return nights_counted.count(self._get, self._client, self.evaluations)

    @retry(
        retry=retry_if_exception_type(requests.Timeout),
        stop=stop_after_attempt(PATIENCE),
        reraise=True,
    )
    def _get(self, path: str) -> Any:
        return self.api.call("GET", path)

    def _client(self, service: str) -> Any:
        return aws_client(self.place.sandbox_url, service)


def results_of(counted: Counted, wanted: int) -> Iterator[Result]:
    """Yield the numbers.

    Args:
        counted: What there is.
        wanted: Runs that were asked for.
    """
    evaluations = len(counted.candidates)
    case = f"{wanted // evaluations} nights, {evaluations} evaluations"
    ended = sum(run.has_ended for run in counted.runs)
    numbers: list[tuple[str, float | None, str]] = [
        ("runs_triggered", len(counted.runs), "runs"),
        ("runs_ended", ended, "runs"),
        ("runs_lost", len(counted.lost), "runs"),
        ("runs_doubled", len(counted.doubled), "runs"),
        ("runs_wrong", len(counted.wrong), "runs"),
        ("runs_partial", len(counted.partial), "runs"),
        ("history_rows", sum(len(run.rows) for run in counted.runs), "rows"),
        ("judge_jobs_paid_twice", len(counted.paid_twice), "jobs"),
        ("resources_left", len(counted.left), "resources"),
        ("tasks_tried_again", counted.retries.total(), "tries"),
        ("requests_asked_again", counted.asked_again, "requests"),
        ("jobs_failed", counted.failed_jobs, "jobs"),
        ("night", counted.night_seconds, "s"),
    ]
    yield from (Result(OURS, case, metric, value, unit) for metric, value, unit in numbers)
    for task, tries in counted.retries.most_common():
        yield Result(OURS, f"{case}, {task}", "tasks_tried_again", tries, "tries")
    for rule in (None, *RULES):
        said = counted.decisions(rule)
        of = f"{case}, {rule or 'all gates'}"
        yield Result(OURS, of, "decisions", len(said), "runs")
        yield from shares(of, "false_alarms", said.count("fail"), len(said))
        yield from shares(of, "inconclusive", said.count("inconclusive"), len(said))


def shares(case: str, metric: str, count: int, of: int) -> Iterator[Result]:
    """Yield a count, its share and the ends of the share's 95 % Wilson interval."""
    yield Result(OURS, case, metric, count, "runs")
    if not of:
        return
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(count, of, alpha=0.05, method="wilson")
    for name, value in (("share", count / of), ("low", low), ("high", high)):
        yield Result(OURS, case, f"{metric}_{name}", float(value), "share")


def problems_of(counted: Counted, nights: int, names: Sequence[str]) -> Iterator[str]:
    """Yield what must not be."""
    there = {(run.evaluation, run.night) for run in counted.runs}
    for night in range(1, nights + 1):
        for name in names:
            if (name, night) not in there:
                yield f"Not triggered: {name} {run_id_of(night)}"
    for what, found in (
        ("Lost", counted.lost),
        ("Doubled", counted.doubled),
        ("Not what the gate says", counted.wrong),
        ("Paid twice", counted.paid_twice),
        ("Left", counted.left),
    ):
        yield from (f"{what}: {each}" for each in found)


def table(results: Sequence[Result]) -> None:
    """Print the numbers."""
    rows = [
        [each.case, each.metric, "-" if each.value is None else f"{each.value:.4g}", each.unit]
        for each in results
    ]
    show("What the nights have come to", ["case", "metric", "value", "unit"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
