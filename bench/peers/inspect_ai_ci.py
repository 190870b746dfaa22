"""inspect_ai's clustered intervals of the scores on standard input."""

import json
import sys
import time
from statistics import median
from typing import Any

DATA: dict[str, Any] = json.load(sys.stdin)
STARTED = time.process_time()

from inspect_ai.scorer import (  # type: ignore[import-not-found]  # noqa: E402
    SampleScore,
    Score,
    ci,
    stderr,
)

IMPORTED = time.process_time() - STARTED


def main() -> None:
    """Print what each took and the standard error that it found."""
    made = [
        SampleScore(score=Score(value=score), sample_metadata={"cluster": cluster})
        for score, cluster in zip(DATA["scores"], DATA["clusters"], strict=True)
    ]
    answer = {"cpu_import": IMPORTED}
    metrics = {
        "cpu_t": ci(cluster="cluster"),
        "cpu_bootstrap": ci(cluster="cluster", method="bootstrap", num_samples=1000),
    }
    for name, metric in metrics.items():
        spent = []
        for _ in range(DATA["rounds"]):
            before = time.process_time()
            metric(made)
            spent.append(time.process_time() - before)
        answer[name] = median(spent)
    answer["standard_error"] = float(stderr(cluster="cluster")(made))
    sys.stdout.write(json.dumps(answer) + "\n")


main()
