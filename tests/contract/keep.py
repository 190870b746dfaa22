"""Writes kept.json, what the SDKs send: PYTHONPATH=.:tests python -m contract.keep"""

import json
import tempfile
from pathlib import Path

from contract.cases import ENDPOINTS, JOBS, Job, Json
from contract.driven import Driven, driving
from contract.sdk import HERE

KEPT = HERE / "kept.json"
KEPT_JOBS = [job for job in JOBS if len(job.options) != 1]
"""With no option and with all; those with one are between them."""


def look(driven: Driven) -> Json:
    """Return the requests of the kept cases, by their keys."""
    return {
        case.key: driven.job(case) if isinstance(case, Job) else driven.endpoint(case)
        for case in [*KEPT_JOBS, *ENDPOINTS]
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, driving(Path(folder)) as driven:
        KEPT.write_text(json.dumps(look(driven), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
