"""A DAG file in, what it costs Airflow's DAG processor to parse it out, as JSON.

The processor imports the modules of Airflow that the file itself names, once, and then forks a
child for each time that it parses the file. So does this.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from airflow.dag_processing import processor  # noqa: TID251 - what is measured
from airflow.dag_processing.dagbag import BundleDagBag  # noqa: TID251
from structlog import get_logger

log = get_logger()


def parse(file: Path) -> dict[str, Any]:
    """Parse a file and serialize its DAGs; return what that took, in seconds, and what came of it.

    Also what was imported for it: modules that were not there before.
    """
    before = set(sys.modules)
    started, cpu_started = time.perf_counter(), time.process_time()
    bag = BundleDagBag(
        dag_folder=file, bundle_path=file.parent, bundle_name="dags-folder", load_op_links=False
    )
    parsed, cpu_parsed = time.perf_counter(), time.process_time()
    serialized, errors = processor._serialize_dags(bag, log)
    ended = time.perf_counter()
    return {
        "parse": parsed - started,
        "parse_cpu": cpu_parsed - cpu_started,
        "serialize": ended - parsed,
        "dags": len(serialized),
        "tasks": max((len(dag.tasks) for dag in bag.dags.values()), default=0),
        "broken": sorted(dag.dag_id for dag in bag.dags.values() if "broken" in dag.tags),
        "errors": {**bag.import_errors, **errors},
        "modules": sorted(set(sys.modules) - before),
    }


def in_a_child(file: Path) -> dict[str, Any]:
    """Parse a file in a fork of this process; `fork` is how long the child lived, in seconds."""
    reader, writer = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if not child:
        os.close(reader)
        with os.fdopen(writer, "w") as said:
            json.dump(parse(file), said)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as saying:
        said = json.load(saying)
    os.waitpid(child, 0)
    return {**said, "fork": time.perf_counter() - started}


def main() -> int:
    """Print a JSON object: `ahead`, what importing ahead takes, its modules, and all `children`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    before, started = set(sys.modules), time.perf_counter()
    processor._pre_import_airflow_modules(str(options.file), log)
    ahead = time.perf_counter() - started
    modules = sorted(set(sys.modules) - before)
    children = [in_a_child(options.file) for _ in range(options.times)]
    said = json.dumps({"ahead": ahead, "modules": modules, "children": children})
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
