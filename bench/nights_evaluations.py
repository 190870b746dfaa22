"""The evaluations of `make bench-nights`: ten files, and what one night has that another has not.

The baseline and the candidate of an evaluation are about equal or the candidate is better, so a
gate that fails is a false alarm. Each night the models answer otherwise, as sampling makes them do:
stand-ins by their seed (SANDBOX_MODELS), existing responses by being written anew. What goes wrong
is thrown anew, too (SANDBOX_FAULTS). Judge, prompts and everything else stay the same.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.processes import ROOT

PROMPTS = ROOT / "include" / "samples" / "prompts.jsonl"
LIMIT = 60
SHARE = 0.05
"""Of requests, endpoints and jobs that go wrong, for each way to go wrong."""

DELAYS = "endpoint=15,delete=1,job=15"
"""Seconds that things take: on AWS minutes, and no wait is over before Airflow knows of it."""

LARGER = ["ml.g5.2xlarge", "ml.g5.4xlarge", "ml.g5.8xlarge"]


def sandbox(night: int) -> dict[str, str]:
    """Return the SANDBOX_* variables of a night."""
    ways = ("throttle", "error", "timeout", "capacity", "job_failure")
    faults = ",".join(f"{way}={SHARE:g}" for way in ways)
    return {
        "SANDBOX_MODELS": f"seed={night}",
        "SANDBOX_FAULTS": f"{faults},seed={night}",
        "SANDBOX_DELAYS": DELAYS,
        "SANDBOX_QUOTAS": "Minimum number of records per batch inference job for Nova Micro V1=3",
    }


def _bedrock(name: str, model_id: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "provider": "bedrock", "model_id": model_id, **more}


def _endpoint(name: str, model_id: str) -> dict[str, Any]:
    deploy = {"model_id": model_id, "instance_types": LARGER}
    return {"name": name, "provider": "sagemaker", "deploy": deploy}


def _gate(rule: str, margin: float, **more: Any) -> dict[str, Any]:
    return {"rule": rule, "margin": margin, **more}


MICRO = _bedrock("micro", "us.amazon.nova-micro-v1:0")
LITE = _bedrock("lite", "us.amazon.nova-lite-v1:0")
HAIKU = _bedrock("haiku", "us.anthropic.claude-haiku-4-5-20251001-v1:0")
LLAMA = _bedrock("llama", "us.meta.llama3-1-8b-instruct-v1:0")
QWEN_3B = _endpoint("qwen-3b", "Qwen/Qwen2.5-3B-Instruct")
QWEN_7B = _endpoint("qwen-7b", "Qwen/Qwen2.5-7B-Instruct")
BATCH = {**MICRO, "name": "micro-batch", "batch": True}
OLD, NEW = ({"name": name, "provider": "responses"} for name in ("old", "new"))
RUBRIC = {"recipe": "nova_2_lite_rubric_llm_judge", "instance_type": "ml.p5.48xlarge"}

EVALUATIONS: dict[str, dict[str, Any]] = {
    "endpoint-and-bedrock": {
        "baseline": QWEN_7B,
        "candidates": [MICRO],
        "gate": _gate("no_regression", 0.1),
    },
    "files-regression": {
        "baseline": OLD,
        "candidates": [NEW],
        "gate": _gate("no_regression", 0.05),
    },
    "bedrock-parity": {
        "baseline": LITE,
        "candidates": [HAIKU],
        "gate": _gate("non_inferiority", 0.1),
    },
    "batch": {
        "baseline": LLAMA,
        "candidates": [BATCH],
        "gate": _gate("no_regression", 0.02),
    },
    "two-candidates": {
        "baseline": QWEN_3B,
        "candidates": [MICRO, QWEN_7B],
        "gate": _gate("non_inferiority", 0.05),
    },
    "endpoints": {
        "baseline": QWEN_3B,
        "candidates": [QWEN_7B],
        "gate": _gate("no_regression", 0.2),
    },
    "reused-baseline": {
        "baseline": QWEN_7B,
        "candidates": [LLAMA],
        "generation": {"reuse": "baseline"},
        "gate": _gate("non_inferiority", 0.15),
    },
    "rubric": {
        "baseline": MICRO,
        "candidates": [LITE],
        "judge": RUBRIC,
        "gate": _gate("no_regression", 0.1),
    },
    "categories": {
        "baseline": LLAMA,
        "candidates": [MICRO],
        "gate": _gate("no_regression", 0.1, by_category=True),
    },
    "files-parity": {
        "baseline": OLD,
        "candidates": [NEW],
        "gate": _gate("non_inferiority", 0.05),
    },
}
"""By name, what differs between them; a short benchmark takes the first ones."""


def chosen(count: int) -> dict[str, dict[str, Any]]:
    """Return the first so many evaluations."""
    return dict(list(EVALUATIONS.items())[:count])


def write(home: Path, names: Sequence[str]) -> None:
    """Write the config folder: the project's environments and models, and these evaluations."""
    for kind in ("environments", "models"):
        shutil.copytree(ROOT / "dags" / kind, home / kind, dirs_exist_ok=True)
    (home / "evaluations").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(EVALUATIONS):
        file = home / "evaluations" / f"{name}.yaml"
        if name in names:
            content = _evaluation(name, number, home)
            file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        else:
            file.unlink(missing_ok=True)


def _evaluation(name: str, number: int, home: Path) -> dict[str, Any]:
    special = EVALUATIONS[name]
    models = [
        {**model, "source": str(_responses(home, name, model["name"]))}
        if model["provider"] == "responses"
        else model
        for model in (special["baseline"], *special["candidates"])
    ]
    return {
        "evaluation": name,
        "dataset": {
            "source": str(PROMPTS),
            "id_field": "id",
            "category_field": "category",
            "limit": LIMIT,
            "select": "random",
            "seed": number,
        },
        **special,
        "baseline": models[0],
        "candidates": models[1:],
        # A request that the sandbox never answers is asked again after so many seconds.
        "generation": {"request_timeout_seconds": 5, **special.get("generation", {})},
    }


def write_responses(home: Path, night: int) -> None:
    """Write the existing responses of a night; the same ones when a night is taken up again."""
    prompts = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    for name, special in EVALUATIONS.items():
        for model in (special["baseline"], *special["candidates"]):
            if model["provider"] != "responses":
                continue
            rng = random.Random(f"{night} {name} {model['name']}")
            rows = [{"id": row["id"], "response": _answer(row["prompt"], rng)} for row in prompts]
            file = _responses(home, name, model["name"])
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_suffix(".new")
            new.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            new.replace(file)


def _responses(home: Path, evaluation: str, model: str) -> Path:
    return home / "responses" / f"{evaluation}-{model}.jsonl"


def _answer(prompt: str, rng: random.Random) -> str:
    """Write something in the prompt's words, now longer and now shorter."""
    return " ".join(rng.choices(prompt.split(), k=max(5, round(rng.gauss(60, 20)))))
