"""Thousands of damaged archives and results: each is read or refused, and none does anything else.

A failure names the seed; `FUZZ_SEED=n` runs that one again, and `FUZZ_SECONDS` says for how long.
"""

import gzip
import io
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hostile import archives

from include import judge_output
from include.errors import ResultsError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))

SCORE = {"score_A": 2, "score_B": 4, "weight": 0.6, "type": "scale", "justification_A": "Why."}
SAID = (
    {"forward_output": "[[A>B]]", "backward_output": "[[B>A]]"},
    {"a_scores": 0.0, "b_scores": 2.0, "criteria_breakdown": {"accuracy": SCORE}},
    {"weighted_score_A": 0.5, "weighted_score_B": 0.7, "score_margin": -0.2},
)
SPELLINGS: tuple[Callable[[object], object], ...] = (repr, json.dumps, dict)


def flip(body: bytes, rng: random.Random) -> bytes:
    """Change some bits."""
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(body: bytes, rng: random.Random) -> bytes:
    """Put other bytes in place of some: of zeros, of ones, or any."""
    at, size = rng.randrange(len(body)), rng.choice((1, 4, 8, 64))
    new = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
    return body[:at] + new + body[at + size :]


def cut(body: bytes, rng: random.Random) -> bytes:
    """Leave away the end."""
    return body[: rng.randrange(len(body))]


def splice(body: bytes, rng: random.Random) -> bytes:
    """Put a part of it somewhere else, too."""
    start, end, at = (rng.randrange(len(body)) for _ in range(3))
    return body[:at] + body[min(start, end) : max(start, end)] + body[at:]


def honest(rng: random.Random) -> dict[str, bytes]:
    """The files of a judge job, in one of the forms that they may have."""
    spell, said = rng.choice(SPELLINGS), rng.choice(SAID)
    texts = [
        {"prompt": pair.prompt, "response_A": pair.baseline, "response_B": pair.candidate}
        for pair in archives.PAIRS
    ]
    made = [{"metrics": spell(said), "specifics": spell(text)} for text in texts]
    return {archives.RESULTS: archives.GOOD, archives.DETAILS: archives.as_table(made)}


def damaged(rng: random.Random) -> tuple[str, bytes]:
    """An archive with damage somewhere, and where that is."""
    files, harm = honest(rng), rng.choice((flip, overwrite, cut, splice))
    where = rng.choice(("archive", "tar", "results", "details", "details", "names"))
    if where in ("results", "details"):
        name = archives.RESULTS if where == "results" else archives.DETAILS
        files[name] = harm(files[name], rng)
    if where == "names":
        names = [*files, *rng.choices([*files], k=rng.randrange(3))]
        bodies = [*files.values(), *rng.choices([*files.values()], k=3)]
        rng.shuffle(bodies)
        members = [archives.member(*each) for each in zip(names, bodies, strict=False)]
    else:
        members = [archives.member(name, body) for name, body in files.items()]
    packed = archives.pack(*members)
    if where == "archive":
        packed = harm(packed, rng)
    if where == "tar":
        packed = gzip.compress(harm(gzip.decompress(packed), rng), 1)
    return where, packed


@pytest.mark.slow
def test_damaged_archives_are_read_or_refused_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: Counter[tuple[str, str]] = Counter()
    end, seed = time.monotonic() + SECONDS, SEED
    while time.monotonic() < end:
        where, body = damaged(random.Random(seed))
        try:
            output = judge_output.read(io.BytesIO(body), archives.PAIRS)
            json.dumps(asdict(output), allow_nan=False)
            seen[where, "read"] += 1
        except ResultsError as error:
            assert 0 < len(str(error)) < 5000, f"FUZZ_SEED={seed}"
            seen[where, "refused"] += 1
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={seed}: damage to the {where}")
            raise
        assert list(tmp_path.iterdir()) == [], f"FUZZ_SEED={seed}"
        seed += 1
    assert {where for where, _ in seen} == {"archive", "tar", "results", "details", "names"}
    assert seed - SEED > 1000
