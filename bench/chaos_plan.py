"""A seed in, what one run of `make chaos` has to bear out: faults of AWS, and one kill -9.

Which part is killed in which stage goes by turns, so that 20 seeds in a row hold every pair; the
faults and the moment are drawn. Faults are orders for the sandbox (POST /sandbox/faults).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from include.names import slug

PARTS = ("worker", "scheduler", "triggerer", "api-server", "sandbox")
STAGES = {
    "creating": "deploy",
    "generating": "generate",
    "judging": "compare.judge",
    "summarizing": "compare.summarize",
}
"""The task that a run is at in each stage."""

WAITING = ("creating", "judging")
"""Stages whose task waits in the triggerer for the most part, without a worker."""

LONGEST_DELAY = 4.0
"""Seconds between a run's coming to a stage and the blow."""

REQUEST_TIMEOUT = 10
"""Seconds after which a run gives a request to a model up."""

THROTTLED = {"code": "ThrottlingException", "message": "Rate exceeded"}
BUSY = {"code": "ServiceUnavailableException", "status": 503}
BROKEN = {"code": "InternalFailure", "status": 500}
SAGEMAKER = (
    *("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint"),
    *("DeleteEndpoint", "CreateTrainingJob", "DescribeTrainingJob"),
)
CREATING = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "CreateTrainingJob")
MODELS = {"InvokeEndpoint": 1, "Converse": 4}
"""What models are asked by, and how many requests pass first: each run tries its models with one,
and Converse, which names no run, is shared by those that go at once."""
S3 = ("GetObject", "PutObject")

NO_CAPACITY = "InsufficientInstanceCapacity: there are no instances of this type"
CAPACITY_ERROR = "CapacityError: Unable to provision requested ML compute capacity."
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
REFUSED = "AlgorithmError: chaos has made the container fail"


@dataclass(frozen=True)
class Kind:
    """One way in which AWS fails."""

    name: str
    operations: tuple[str, ...]
    order: dict[str, Any]
    most: int = 3
    """Requests that it strikes at the most."""


MILD = (
    Kind("throttled", SAGEMAKER, THROTTLED),
    Kind("throttled", (*MODELS,), {**THROTTLED, "status": 429}, most=8),
    Kind("5xx", SAGEMAKER, BROKEN),
    Kind("5xx", (*MODELS,), BUSY, most=8),
    Kind("answer lost", CREATING, {**BROKEN, "carried_out": True}, most=1),
    Kind("time-out", (*MODELS,), {"latency_ms": (REQUEST_TIMEOUT + 2) * 1000}, most=2),
    Kind("slow", (*SAGEMAKER, *S3, *MODELS), {"latency_ms": 2000}),
    Kind("cut", (*MODELS, *S3), {"cut": True}),
    Kind("cut", (*CREATING, "PutObject"), {"cut": True, "carried_out": True}, most=2),
    Kind("S3 error", S3, {"code": "SlowDown", "status": 503}, most=5),
    Kind("S3 error", S3, {"code": "InternalError", "status": 500}),
)
"""What a run has to bear without any trace in its summary."""

SEVERE = (
    Kind("no capacity", ("CreateEndpoint",), {"failure_reason": NO_CAPACITY}, most=1),
    Kind("no capacity", ("CreateTrainingJob",), {"failure_reason": CAPACITY_ERROR}, most=1),
    Kind("job failed", ("CreateTrainingJob",), {"failure_reason": INTERNAL}, most=1),
    Kind("job stopped", ("CreateTrainingJob",), {}, most=1),
)
"""What a run has to bear by starting something anew."""

REFUSAL = Kind("job refused", ("CreateTrainingJob",), {"failure_reason": REFUSED}, most=1)
"""What no run can bear: it fails, and says why."""


@dataclass(frozen=True)
class Plan:
    """What one run has to bear."""

    seed: int
    evaluation: str
    """Names the run, and its resources."""
    part: str
    """What is killed."""
    stage: str
    """When."""
    delay: float
    """Seconds after that."""
    kinds: tuple[str, ...]
    """Of its faults, in words."""
    orders: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def waits(self) -> bool:
        """Whether the part is killed while the run's task waits in the triggerer."""
        return self.stage in WAITING and self.part != "worker"

    @property
    def stops_job(self) -> bool:
        """Whether somebody stops the run's judge job."""
        return "job stopped" in self.kinds

    @property
    def is_refused(self) -> bool:
        """Whether the run has to fail."""
        return REFUSAL.name in self.kinds

    @property
    def jobs(self) -> int:
        """How many judge jobs it takes: another one for each that does not end well."""
        in_vain = [order for order in self.orders if order["operation"] == "CreateTrainingJob"]
        failed = sum("failure_reason" in order for order in in_vain)
        return 1 + failed + self.stops_job


def plan(seed: int) -> Plan:
    """Return what the run with this seed has to bear: always the same."""
    dice, evaluation = random.Random(seed), f"chaos-{seed:04d}"
    part = PARTS[seed % len(PARTS)]
    stage = list(STAGES)[seed // len(PARTS) % len(STAGES)]
    if part == "triggerer":  # elsewhere it has nothing of this run
        stage = WAITING[seed // len(PARTS) % len(WAITING)]
    chosen = dice.sample(MILD, 4)
    if seed % 11 == 10:
        chosen.append(REFUSAL)
    elif seed % 3 == 0:
        chosen.append(dice.choice(SEVERE))
    orders = [_order(kind, dice, evaluation) for kind in chosen if kind.order]
    orders.sort(key=lambda order: "failure_reason" not in order)  # else another may come first
    return Plan(
        seed=seed,
        evaluation=evaluation,
        part=part,
        stage=stage,
        delay=dice.uniform(0, LONGEST_DELAY),
        kinds=tuple(kind.name for kind in chosen),
        orders=tuple(orders),
    )


def _order(kind: Kind, dice: random.Random, evaluation: str) -> dict[str, Any]:
    """Draw operation and number of a fault that strikes this run alone.

    Converse names no run: there it strikes whichever comes first.
    """
    operation = dice.choice(kind.operations)
    return {
        "operation": operation,
        "resource": None if operation == "Converse" else f"*{slug(evaluation)}*",
        "times": dice.randint(1, kind.most),
        "skip": MODELS.get(operation, 0),
        **kind.order,
    }
