"""evalica's Bradley-Terry strengths of the pairings on standard input, resampled by prompt.

evalica resamples rows; whole prompts are drawn here, and it fits each draw with its weights.
"""

import json
import sys
import time
from typing import Any

DATA: dict[str, Any] = json.load(sys.stdin)
STARTED = time.process_time()

import evalica  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402

IMPORTED = time.process_time() - STARTED

SAID = {1.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.X}


def main() -> None:
    """Print what it took, once, and the win rate of each model against the first."""
    first, second, winners, units = [], [], [], []
    for each in DATA["pairings"]:
        first += [each["first"]] * len(each["scores"])
        second += [each["second"]] * len(each["scores"])
        winners += [SAID[score] for score in each["scores"]]
        units += each["units"]
    named = [np.array(names, dtype=object) for names in (first, second)]
    prompts, prompt = np.unique(units, return_inverse=True)
    rng = np.random.default_rng(0)
    before = time.process_time()
    once = evalica.bradley_terry(*named, winners, tolerance=1e-8, limit=1000)
    found = once.scores
    strengths = np.empty((DATA["resamples"], len(found)))
    for n in range(DATA["resamples"]):
        drawn = rng.integers(len(prompts), size=len(prompts))
        weights = np.bincount(drawn, minlength=len(prompts)).astype(float)[prompt]
        again = evalica.bradley_terry(*named, winners, index=once.index, weights=weights)
        strengths[n] = again.scores.reindex(found.index)
    np.quantile(strengths, [0.025, 0.975], axis=0)
    spent = time.process_time() - before
    home = found[first[0]]
    answer = {
        "cpu_import": IMPORTED,
        "cpu_board": spent,
        "win_rates": {name: float(each / (each + home)) for name, each in found.items()},
    }
    sys.stdout.write(json.dumps(answer) + "\n")


main()
