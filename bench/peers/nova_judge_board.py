"""Our board of the pairings on standard input."""

import json
import sys
import time
from statistics import median
from typing import Any

DATA: dict[str, Any] = json.load(sys.stdin)
STARTED = time.process_time()

import scipy.special  # noqa: E402, F401 - the product imports it where it is used

from include.board import PairingScores, rank  # noqa: E402

IMPORTED = time.process_time() - STARTED


def main() -> None:
    """Print what it took and the win rate of each model against the first."""
    pairings = [PairingScores(**each) for each in DATA["pairings"]]
    spent = []
    for _ in range(DATA["rounds"]):
        before = time.process_time()
        board = rank(pairings, baseline=pairings[0].first, confidence_level=0.95)
        spent.append(time.process_time() - before)
    answer = {
        "cpu_import": IMPORTED,
        "cpu_board": median(spent),
        "win_rates": {each.model: each.win_rate for each in board.models},
    }
    sys.stdout.write(json.dumps(answer) + "\n")


main()
