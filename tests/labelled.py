"""A run with pairs to be labelled, and people who fill in its form."""

import csv
import io
import json
from dataclasses import asdict

from judged import LOSS, WIN, count, judge

from include import browse, labels, publish, storage
from include.config_files import resolve_config
from include.preferences import resolve_pairs
from include.records import JudgeOutput, Judgment, Pair

GIVEN = {
    "evaluation": "nightly",
    "dataset": {"source": "prompts.jsonl"},
    "baseline": {"name": "qwen", "provider": "bedrock", "model_id": "qwen"},
    "candidates": ["claude"],
}
IMAGE = {"uri": "111122223333.dkr.ecr.us-east-1.amazonaws.com/judge:1", "digest": "sha256:aa"}
STARTED = "2026-01-05T06:00:00+00:00"


def make_pairs(count=120):
    """Pairs of two categories; two have identical responses, and two too long ones."""
    pairs = [
        Pair(
            f"p{n}",
            f"Question {n}?",
            f"{n}: the baseline's",
            f"{n}: the candidate's",
            "judged",
            "maths" if n % 3 else "code",
        )
        for n in range(count - 4)
    ]
    same = [Pair(f"same{n}", "Same?", "yes", "yes", "identical", "code") for n in range(2)]
    long = [Pair(f"long{n}", "Long?", "a", "b", "too_long", "code") for n in range(2)]
    return [*pairs, *same, *long]


def write_run(folder, pairs=None, *, candidates=("claude",), **changes):
    """Store what a run leaves, and publish it; the candidate wins two pairs of three."""
    pairs = pairs or make_pairs()
    config = resolve_config({**GIVEN, "candidates": [_model(n) for n in candidates]}, environ={})
    stored = {"config": config.model_dump(mode="json", by_alias=True), "digest": config.digest()}
    folder.write(storage.CONFIG, json.dumps(stored))
    folder.write(storage.RECIPE, changes.get("recipe", "run: {}"))
    index = {"count": len(pairs), "sha256": changes.get("dataset", "ab" * 32), "blocks": []}
    folder.write(storage.PROMPTS, json.dumps(index))
    judgeable = [pair for pair in pairs if pair.status == "judged"]
    said = [LOSS if n % 3 == 0 else WIN for n in range(len(judgeable))]
    judgments = judge(judgeable, said)
    for candidate in candidates:
        output, several = JudgeOutput({}, judgments), len(candidates)
        comparison = count(pairs, output, candidate=candidate, candidates=several)
        image = {**IMAGE, **changes.get("image", {})}
        result = {"comparison": asdict(comparison), "warnings": [], "job_arn": None, "image": image}
        folder.write_records(f"pairs/{candidate}/pairs.jsonl", pairs)
        folder.write(f"judgments/{candidate}.parquet", storage.to_parquet(judgments, Judgment))
        folder.write(f"comparisons/{candidate}.json", json.dumps(result))
        browse.write(folder, candidate, resolve_pairs(pairs, judgments), [])
    publish.publish(config, folder, dag_id="d", run_id="r", started_at=STARTED)


def _model(name):
    return {"name": name, "provider": "bedrock", "model_id": name}


def summary_of(folder):
    return json.loads(folder.read(storage.SUMMARY))


def make_form(folder, candidate="claude", number=1_000, drawn="random", seed=0):
    summary = summary_of(folder)
    about = labels.judged(summary["evaluation"], summary["provenance"], "qwen", candidate)
    stored = browse.Pairs(folder, candidate)
    return list(labels.form(stored, stored.index(), about, number=number, seed=seed, drawn=drawn))


def fill(form, answer):
    """Fill in a form; `answer` gets the number of a pair and whose response it prefers comes back.

    Args:
        form: Its rows.
        answer: Returns baseline, candidate, tie, or what else is written into the form.
    """
    filled = []
    for row in form:
        said = answer(int(row["response_1"].split(":")[0]))
        if said in ("baseline", "candidate"):
            said = "1" if said in row["response_1"] else "2"
        filled.append({**row, "preference": said})
    return filled


def as_csv(rows, delimiter=","):
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    return file.getvalue().encode("utf-8-sig")
