"""`make bench-ui`: how soon the pages in the Airflow UI are there, beside loading with pandas.

Airflow and the sandbox are started with a state folder of their own, in `.local/bench/ui`, and a
run with 10,000 pairs is made by the DAG. What is measured is the time of a request, with its login
and its look into Airflow's database; beside it, what a notebook does to show the same pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import random
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from bench.processes import ROOT, aws_client, fresh_place, local_command
from bench.table import OURS, Result, machine, say, show, write
from include import overview, trend
from include.config_files import load_environment
from include.judge_output import DETAILS
from include.names import GENERAL_DAG
from include.storage import RunFolder
from scripts import local

RESULTS = ROOT / "bench" / "results" / "ui.json"
PANDAS = "pandas"
EVALUATIONS, RUNS, PAIRS = 200, 100, 10_000
TIMES = 20
"""Requests of each page, after the first one."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and store the results; 1 if a page takes a second or more."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--out", type=Path, help="where to write; default: only a full run writes")
    options = parser.parse_args(arguments)
    place = fresh_place("ui", 8091, 4577)
    facts = machine()
    try:
        say(f"A run with {options.pairs:,} pairs is made, which takes some minutes")
        run_id = run(place, options.pairs)
        s3 = aws_client(place.sandbox_url, "s3")
        output = RunFolder(s3, load_environment("sandbox").output_s3_uri)
        (template,) = trend.read(output, "pairs")
        fill(output, template)
        results = list(measured(place, run_id, template, options.pairs, options.times))
    except (local.LocalError, requests.RequestException) as error:
        say(f"Error: {error}")
        return 2
    finally:
        local_command(place, "down")
    table(results)
    out = options.out or (RESULTS if options.pairs == PAIRS and options.times == TIMES else None)
    if out:
        write(out, facts, results)
        say(f"\nWritten to {out}")
    slow = [each for each in results if each.system == OURS and (each.value or 0) >= 1]
    return int(bool(slow))


def run(place: local.Place, pairs: int) -> str:
    """Compare existing responses to so many prompts; return the run's id."""
    rng = random.Random(pairs)
    words = ["answer", "because", "number", "maybe", "river", "seven", "light", "question"]
    folder = place.state / "data"
    folder.mkdir()

    def rows(name: str, key: str, length: int) -> str:
        lines = (
            json.dumps({"id": f"p{n}", key: f"{n} " + " ".join(rng.choices(words, k=length))})
            for n in range(pairs)
        )
        file = folder / f"{name}.jsonl"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(file)

    def model(name: str) -> dict[str, str]:
        return {"name": name, "provider": "responses", "source": rows(name, "response", 150)}

    config = {
        "evaluation": "pairs",
        "dataset": {"source": rows("prompts", "prompt", 40), "id_field": "id"},
        "baseline": model("old"),
        "candidates": [model("new")],
    }
    file = folder / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    out = folder / "out"
    local_command(place, "scripts.run", "--config", str(file), "--out", str(out))
    return str(json.loads((out / "summary.json").read_text(encoding="utf-8"))["run_id"])


def fill(output: RunFolder, template: trend.TrendRow) -> None:
    """Make the list long: evaluations with many runs each, as their runs would leave them."""
    rng = random.Random(EVALUATIONS)
    for number in range(EVALUATIONS):
        rates = [rng.uniform(0.3, 0.7) for _ in range(RUNS)]
        rows = [
            dataclasses.replace(
                template,
                evaluation=f"evaluation-{number:03d}",
                run_id=f"run-{night}",
                run_folder=f"{template.run_folder}-{number}-{night}",
                started_at=template.started_at - timedelta(days=RUNS - night),
                win_rate=rate,
                low=rate - 0.1,
                high=rate + 0.1,
            )
            for night, rate in enumerate(rates)
        ]
        overview.add(output, rows)


def measured(
    place: local.Place, run_id: str, template: trend.TrendRow, pairs: int, times: int
) -> Iterator[Result]:
    """Yield how long each page takes, and each way of pandas."""
    api = local.Api(place)
    api.log_in()
    session = api.session
    home = f"{place.airflow_url}/nova-judge"
    of_run = f"{home}/runs/{GENERAL_DAG}/{quote(run_id)}"
    many = f"{EVALUATIONS} evaluations, {RUNS} runs each"
    of_pairs = f"{pairs:,} pairs"
    pages = {
        "list": (many, f"{home}/"),
        "evaluation": (many, f"{home}/evaluations/sandbox/evaluation-007"),
        "run": (of_pairs, of_run),
        "pairs": (of_pairs, f"{of_run}/pairs/new"),
        "pairs_last": (of_pairs, f"{of_run}/pairs/new?number={pairs // 50}"),
        "pairs_words": (of_pairs, f"{of_run}/pairs/new?words=river+seven"),
        "pair": (of_pairs, f"{of_run}/pairs/new/{pairs // 2}"),
    }
    for name, (case, address) in pages.items():

        def ask(address: str = address) -> None:
            session.get(address, timeout=120).raise_for_status()

        yield from timed(OURS, case, name, ask, times)
    s3 = aws_client(place.sandbox_url, "s3")
    folder = RunFolder(s3, template.run_folder)
    yield from timed(PANDAS, of_pairs, "pairs", lambda: with_pandas(folder), times)


def timed(
    system: str, case: str, name: str, work: Callable[[], object], times: int
) -> Iterator[Result]:
    """Yield the first time, the median and the longest of those after it."""
    lasted = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        lasted.append(time.perf_counter() - started)
    first, *rest = lasted
    yield Result(system, case, f"{name}_first", first, "s")
    yield Result(system, case, f"{name}_median", statistics.median(rest), "s")
    yield Result(system, case, f"{name}_longest", max(rest), "s")


def with_pandas(folder: RunFolder) -> str:
    """Show the first fifty pairs as a notebook does: what the judge left, read whole."""
    import pandas

    (name,) = [each for each in folder.names("judge/") if each.endswith("/output.tar.gz")]
    with tarfile.open(fileobj=io.BytesIO(folder.read(name))) as archive:
        (member,) = [each for each in archive.getmembers() if DETAILS.search(each.name)]
        details: Any = archive.extractfile(member)
        table = pandas.read_parquet(io.BytesIO(details.read()))
    return str(table.head(50).to_html())


def table(results: list[Result]) -> None:
    """Print the numbers."""
    rows = [
        [each.case, f"{each.system} {each.metric}", f"{each.value or 0:.3f}"] for each in results
    ]
    show("Seconds until it is there", ["case", "what", "s"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
