"""`make chaos`: whole runs on a real Airflow that is killed, with an AWS that fails, by seed.

Airflow and the sandbox are started with a new state folder, in `.local/bench/chaos`. Some runs go
at once, so each feels what strikes the others, too. Every run is held against one that nothing has
disturbed. Rows are kept in bench/results/chaos.json as they come, so the same command goes on where
it was; docs/reliability.md has the table.
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta
from pathlib import Path

import requests

from bench import chaos_counted, pages
from bench.chaos_plan import plan
from bench.chaos_runs import SETTINGS, Chaos
from bench.processes import ROOT, fresh_place
from bench.table import machine, say
from scripts.local import LocalError, Place

RESULTS = ROOT / "bench" / "results" / "chaos.json"
PAGE = ROOT / "docs" / "reliability.md"
RUNS, AT_ONCE = 100, 4


def main(arguments: list[str] | None = None) -> int:
    """Run what has not run yet, write the table; 1 if a run did not end as it has to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; one more for each")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--report", action="store_true", help="only write the table anew")
    parser.add_argument("--out", type=Path, default=RESULTS, help="rows that are there stay")
    options = parser.parse_args(arguments)
    kept = chaos_counted.read(options.out)
    wanted = range(options.seed, options.seed + options.runs)
    missing = [] if options.report else [seed for seed in wanted if seed not in kept]
    # Rows are kept, runs are not: what was cut off is run again from its beginning.
    place = fresh_place("chaos", 8094, 4580) if missing else Place.from_environment()
    chaos, facts = Chaos(place, SETTINGS), machine()
    try:
        if missing:
            say(f"{len(missing)} runs, {options.at_once} at once; first one that nothing disturbs")
            chaos.up()
            undisturbed = chaos.undisturbed()
        began = time.monotonic()
        for first in range(0, len(missing), options.at_once):
            seeds = missing[first : first + options.at_once]
            for row in chaos.wave([plan(seed) for seed in seeds], undisturbed):
                kept[row.seed] = row
                say(row.line())
            chaos_counted.write(options.out, facts, kept)
            done = first + len(seeds)
            rest = (time.monotonic() - began) / done * (len(missing) - done)
            if rest:
                end = datetime.now().astimezone() + timedelta(seconds=rest)
                say(f"{done} of {len(missing)}; the last ends at about {end:%H:%M}")
    except KeyboardInterrupt:
        say("\nThe same command goes on where it was")
        return 130
    except (LocalError, requests.RequestException) as error:
        say(f"Error: {error}\nThe same command goes on where it was")
        return 2
    finally:
        chaos.down()
    rows = sorted(kept.values(), key=lambda row: row.seed)
    if options.out == RESULTS:
        pages.fill(PAGE, "runs", chaos_counted.table(rows))
        pages.fill(PAGE, "sum", chaos_counted.sentences(rows))
    say("\n" + "\n".join(chaos_counted.sentences(rows)))
    return int(any(kept[seed].problems for seed in wanted if seed in kept))


if __name__ == "__main__":
    raise SystemExit(main())
