"""What a run uses in, money out: estimated before it begins, bounded while it runs, counted after.

All that is assumed is in the constants here, and `ASSUMED` says it to people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from include import judge
from include.config import (
    ANCHORS,
    CANARIES,
    BedrockModel,
    ResponsesModel,
    RunConfig,
    SageMakerModel,
    is_second,
)
from include.errors import ConfigError
from include.prices import InstancePrices, ModelPrices, Prices
from include.records import Cost, CostPart, Notice

Unit = Literal["instance hours", "million tokens"]

CHARACTERS_PER_TOKEN = 4
CHARACTERS_PER_PROMPT = 2_000
"""Where the prompts are not read."""
OUTPUT_SHARE = 0.5
"""Of max_tokens, which a response takes on average."""
UNLIMITED_TOKENS = 4_096
"""Longest response of a model without max_tokens."""
SECONDS_PER_RESPONSE = 10
"""With as many requests at once as limits.max_concurrency says."""
ENDPOINT_START_SECONDS = 600
ENDPOINT_WAIT_SECONDS = 2_700
"""What creating and deleting an endpoint may take beyond its container's startup timeout."""
JUDGE_START_SECONDS = 900
"""Until a judge job's container judges."""
LEAST_JUDGE_SECONDS = 600
"""With less a judge job is not started: it would end before it judges."""
JUDGE_SECONDS_PER_PAIR = 3
"""For both orders."""

ASSUMED = (
    f"Assumed: {CHARACTERS_PER_TOKEN} characters are a token; a response takes "
    f"{OUTPUT_SHARE:.0%} of max_tokens, at most all of it ({UNLIMITED_TOKENS:,} without one); an "
    f"endpoint starts in {ENDPOINT_START_SECONDS // 60} minutes, and a response takes "
    f"{SECONDS_PER_RESPONSE} s; a judge job starts in {JUDGE_START_SECONDS // 60} minutes, and a "
    f"pair takes {JUDGE_SECONDS_PER_PAIR} s. At most: the dearest instance type, every time limit "
    "used up once. Storage, logs, traffic, taxes, and endpoints that are not the run's own are not "
    "counted."
)


@dataclass(frozen=True)
class Use:
    """Something that AWS charges for."""

    what: str
    quantity: float
    unit: Unit
    key: str
    """Where its price stands in the price file."""
    price: float | None
    """For one unit; None: the file does not say."""

    @property
    def amount(self) -> float:
        """Money; 0 without a price."""
        return round(self.quantity * (self.price or 0.0), 6)


@dataclass(frozen=True)
class Work:
    """What a run has to do, as far as it is known beforehand."""

    prompts: int
    characters: int
    """Of all prompts, with system prompts and earlier turns."""
    judged: Mapping[str, int]
    """Pairs of each judge job, by its key."""
    replicas: Sequence[int] = (1, 1)
    """Instances of a job of the judge, and of the second one."""


@dataclass(frozen=True)
class Estimate:
    """What a run will use, thing by thing in the same order."""

    likely: list[Use]
    most: list[Use]
    judges: dict[str, float]
    """What of it is each judge job's, in money."""


def endpoint_use(
    prices: Prices, model: str, instance_type: str, seconds: float, instances: int = 1
) -> Use:
    """Price an endpoint's time."""
    price = prices.instances.get(instance_type, InstancePrices()).hosting
    key = f"instances.{instance_type}.hosting"
    return Use(f"endpoint of {model}", seconds * instances / 3600, "instance hours", key, price)


def judge_use(
    prices: Prices, key: str, instance_type: str, seconds: float, instances: int = 1
) -> Use:
    """Price a judge job's time."""
    price = prices.instances.get(instance_type, InstancePrices()).training
    price_key = f"instances.{instance_type}.training"
    what = f"judge of {judged(key)}"
    return Use(what, seconds * instances / 3600, "instance hours", price_key, price)


def judged(key: str) -> str:
    """Say what a judge job judges.

    Example:
        >>> judged("claude"), judged("nova~claude"), judged("~claude"), judged("_anchors")
        ('claude', 'nova against claude', 'claude, second judge', 'the anchor pairs')
    """
    if key in (ANCHORS, CANARIES):
        return "the anchor pairs" if key == ANCHORS else "the canary pairs"
    candidate, other_way, opponent = key.partition("~")
    if not candidate:
        return f"{opponent}, second judge"
    return f"{candidate} against {opponent}" if other_way else candidate


def token_uses(
    prices: Prices, model: BedrockModel, tokens_in: float, tokens_out: float, *, batch: bool
) -> list[Use]:
    """Price a Bedrock model's tokens, in a batch job or not."""
    known = prices.models.get(model.model_id, ModelPrices())
    told, prefix = ("batch ", "batch_") if batch else ("", "")
    return [
        Use(
            f"{told}{kind} of {model.name}",
            tokens / 1e6,
            "million tokens",
            f"models.{model.model_id}.{prefix}{kind}",
            getattr(known, f"{prefix}{kind}"),
        )
        for kind, tokens in (("input", tokens_in), ("output", tokens_out))
    ]


def estimate(config: RunConfig, prices: Prices, work: Work) -> Estimate:
    """Say what a run will use, and what it may use at most."""
    likely: list[Use] = []
    most: list[Use] = []
    asking = max(map(float, _asking_seconds(config, work)), default=0.0)
    for model in config.models:
        if isinstance(model, SageMakerModel) and model.deploy:
            types, limit = model.deploy.instance_types, model.deploy.container_startup_timeout
            limit += ENDPOINT_WAIT_SECONDS + config.generation.shard_timeout_minutes * 60
            expected = min(ENDPOINT_START_SECONDS + asking, limit)
            likely.append(endpoint_use(prices, model.name, types[0], expected))
            each = (endpoint_use(prices, model.name, name, limit) for name in types)
            most.append(max(each, key=lambda use: math.inf if use.price is None else use.price))
        elif isinstance(model, BedrockModel):
            tokens_in = work.characters / CHARACTERS_PER_TOKEN
            tokens_out = work.prompts * (model.parameters.max_tokens or UNLIMITED_TOKENS)
            shares = ((likely, OUTPUT_SHARE), (most, 1.0))
            for found, share in shares:
                out = share * tokens_out
                found += token_uses(prices, model, tokens_in, out, batch=model.batch)
    judges: dict[str, float] = {}
    for key, pairs in work.judged.items():
        replicas = work.replicas[is_second(key)]
        limit = judge.max_runtime_seconds(pairs, config.judge.max_runtime_minutes)
        expected = min(JUDGE_START_SECONDS + JUDGE_SECONDS_PER_PAIR * pairs, limit)
        both = (
            judge_use(prices, key, config.judge_of(key).instance_type, seconds, replicas)
            for seconds in (expected, limit)
        )
        likely.append(next(both))
        most.append(next(both))
        judges[key] = likely[-1].amount
    return Estimate(likely, most, judges)


def _asking_seconds(config: RunConfig, work: Work) -> Iterable[float]:
    """Yield how long each model is asked: all endpoints live until the slowest has answered."""
    for model in config.models:
        if not isinstance(model, ResponsesModel) and not getattr(model, "batch", False):
            yield work.prompts * SECONDS_PER_RESPONSE / model.limits.max_concurrency


def plan(config: RunConfig, work: Work) -> Estimate | None:
    """Estimate a run, and refuse one that its budget does not allow.

    Returns:
        None without a price file.

    Raises:
        ConfigError: With a budget: the estimate is above it, or a price is missing.
    """
    budget, prices = config.budget_usd, config.prices
    if prices is None:
        if budget is None:
            return None
        name = config.environment.name
        raise ConfigError(
            f"budget_usd needs prices, and environment {name} has none; make prices ENV={name} "
            "writes a price file"
        )
    found = estimate(config, prices, work)
    # What a batch job has left out is asked for one by one.
    batched = (each for each in config.models if isinstance(each, BedrockModel) and each.batch)
    others = (use for each in batched for use in token_uses(prices, each, 1, 1, batch=False))
    missing = unpriced([*found.likely, *found.most, *others])
    if budget is not None and missing:
        raise ConfigError(
            f"budget_usd needs every price, and the price file has no {', '.join(missing)}"
        )
    if budget is not None and total(found.likely) > budget:
        parts = "\n".join(f"  {_line(use)}" for use in found.likely)
        raise ConfigError(
            f"this run would cost about {usd(total(found.likely))}, more than its budget_usd of "
            f"{usd(budget)}:\n{parts}\n{ASSUMED}\nTake fewer prompts (dataset.limit) or a smaller "
            "max_tokens, or raise budget_usd."
        )
    return found


def lines(found: Estimate, prices: Prices) -> list[str]:
    """Say what a run will cost, thing by thing, and what that takes for granted."""
    missing = unpriced([*found.likely, *found.most])
    if missing:
        return [f"Cost: not known, the price file has no {', '.join(missing)}."]
    about, at_most = usd(total(found.likely)), usd(total(found.most))
    return [
        f"Cost: about {about}, at most {at_most} (prices of {prices.priced_at}).",
        *(
            f"  {_line(likely)}, at most {usd(most.amount)}"
            for likely, most in zip(found.likely, found.most, strict=True)
        ),
        ASSUMED,
    ]


def _line(use: Use) -> str:
    quantity = f"{use.quantity:,.2f}" if use.quantity >= 1 else f"{use.quantity:.2g}"
    return f"{use.what}: {quantity} {use.unit} x {usd(use.price or 0)} = {usd(use.amount)}"


def unpriced(uses: Iterable[Use]) -> list[str]:
    """Return where the price file lacks a price of something that is used."""
    return list(dict.fromkeys(u.key for u in uses if u.price is None and u.quantity))


def total(uses: Iterable[Use]) -> float:
    """Add up."""
    return round(sum((use.amount for use in uses), 0.0), 6)


def affordable_seconds(prices: Prices, instance_type: str, instances: int, money: float) -> float:
    """Return how long a judge job may run for some money."""
    hour = judge_use(prices, "", instance_type, 3600, instances).amount
    return math.inf if hour == 0 else max(0.0, money) / hour * 3600


def cost(
    prices: Prices, estimated: float | None, uses: Sequence[Use] | None
) -> tuple[Cost | None, list[Notice]]:
    """Say what a run has cost; None, and why, where a price of something it used is missing.

    Args:
        prices: Of the run.
        estimated: Before it began, if it got there.
        uses: What it has used; None: AWS does not tell.
    """
    priced_at = prices.priced_at.isoformat()
    if uses is None:
        message = "what the run has cost cannot be counted: AWS does not answer"
        found = Cost(estimated, None, prices.currency, priced_at)
        return found, [Notice("cost_unknown", message)]
    missing = unpriced(uses)
    if missing:
        message = f"the cost is not known: the price file has no {', '.join(missing)}"
        return None, [Notice("cost_unknown", message)]
    parts = [
        CostPart(use.what, round(use.quantity, 9), use.unit, use.price or 0.0, use.amount)
        for use in uses
        if use.quantity
    ]
    return Cost(estimated, total(uses), prices.currency, priced_at, parts), []


def usd(amount: float) -> str:
    """Return money with as many digits as say something.

    Example:
        >>> usd(1234.5), usd(0.0421), usd(0), usd(0.000001234)
        ('1,234.50 USD', '0.042 USD', '0 USD', '0.0000012 USD')
    """
    if amount == 0 or abs(amount) >= 1:
        return f"{amount:,.2f} USD" if amount else "0 USD"
    digits = 1 - math.floor(math.log10(abs(amount)))
    return f"{amount:.{digits}f} USD"
