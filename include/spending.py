"""A run folder in, what the run has used so far out: here money is looked at while it is spent.

Below `spent/` the folder knows the run's endpoints and judge jobs, below `capped/` where it stopped
because of its budget. Tokens are counted from the ledger, so that no try is forgotten.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from include import costs, ledger
from include.config import BedrockModel, RunConfig
from include.costs import Estimate, Use
from include.ownership import is_gone
from include.prices import Prices
from include.storage import DIGESTS, ESTIMATE, RunFolder

ENDED = ("Completed", "Failed", "Stopped")
"""TrainingJobStatus of a job that costs nothing any more."""


@dataclass(frozen=True)
class Cap:
    """Where a run stopped because of its budget."""

    where: str
    spent: float


class Spending:
    """What a run has spent; each look reads only what is new since the last one.

    Args:
        config: Of the run, with prices.
        folder: Of the run.
        sagemaker: Makes boto3's client, if there are judge jobs to ask for.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, sagemaker: Callable[[], Any]) -> None:
        assert config.prices is not None
        self._config, self._prices, self.folder = config, config.prices, folder
        self._sagemaker = sagemaker
        self._read: set[str] = set()
        self._tokens: Counter[tuple[str, bool, str]] = Counter()
        self._ended: dict[str, tuple[str, Use]] = {}

    def uses(self) -> list[Use]:
        """Return all that the run has used."""
        return [*self._before_judging(), *(use for _, use in self._jobs())]

    def spent(self) -> float:
        """Return it in money."""
        return costs.total(self.uses())

    @property
    def budget(self) -> float:
        """The run's."""
        budget = self._config.budget_usd
        assert budget is not None
        return budget

    @property
    def kept(self) -> dict[str, float]:
        """Return what is kept of the budget for each judge job."""
        kept: dict[str, float] = json.loads(self.folder.read(ESTIMATE))["judges"]
        return kept

    def left_for_judge(self, key: str) -> float:
        """Return what is left for one judge job: its part of what the models left."""
        kept, left = self.kept, self.budget - costs.total(self._before_judging())
        whole = sum(kept.values())
        part = left * kept[key] / whole if whole else left
        return part - costs.total(use for whose, use in self._jobs() if whose == key)

    def _before_judging(self) -> list[Use]:
        self._count_tokens()
        tokens = [
            use
            for model in self._config.models
            if isinstance(model, BedrockModel)
            for batch in (False, True)
            for use in costs.token_uses(
                self._prices,
                model,
                self._tokens[model.name, batch, "input"],
                self._tokens[model.name, batch, "output"],
                batch=batch,
            )
            if use.quantity
        ]
        return [*tokens, *_endpoints(self._prices, self.folder)]

    def _count_tokens(self) -> None:
        """Count the tokens of every stored row of Bedrock's models, failed tries included.

        Of a run that keeps no texts and begins anew, rows of the time before are digests.
        """
        for model in self._config.models:
            if not isinstance(model, BedrockModel):
                continue
            for name in self.folder.names(f"responses/{model.name}/"):
                is_part = ledger.RANGE.search(name) or name.endswith(f"/{DIGESTS}")
                if name in self._read or not is_part:
                    continue
                for row in map(_row, self.folder.lines(name)):
                    if not row.get("reused_from"):
                        batch = row.get("latency_ms") is None  # who is asked one by one has one
                        for side in ("input", "output"):
                            self._tokens[model.name, batch, side] += _count(row, f"{side}_tokens")
                self._read.add(name)

    def _jobs(self) -> list[tuple[str, Use]]:
        """Return the judge jobs, each with its key (SageMaker: DescribeTrainingJob)."""
        found = dict(self._ended)
        for name in self.folder.names("spent/judge/"):
            if name in found:
                continue
            key, job_name = name.removeprefix("spent/judge/").rsplit("/", 1)
            described = describe(self._sagemaker(), job_name)
            if described is None:
                continue  # it was noted, and then not started
            resources = described["ResourceConfig"]
            use = costs.judge_use(
                self._prices,
                key,
                resources["InstanceType"],
                _billable(described),
                resources["InstanceCount"],
            )
            found[name] = key, use
            if described["TrainingJobStatus"] in ENDED:
                self._ended[name] = found[name]
        return list(found.values())


class Allowance:
    """What a run may spend before the judge: the budget, less what the judge is estimated to cost.

    Without that a run which reaches its budget would end with responses that nobody compares.

    Args:
        spending: Of the run, with a budget.
    """

    def __init__(self, spending: Spending) -> None:
        self._spending, self._kept = spending, sum(spending.kept.values())
        self._before: float | None = None

    def over(self) -> str | None:
        """Say that it is spent, or will be at the next look; None while there is some left.

        Until the next look as much is taken to be spent as since the last one.
        """
        spent, budget = self._spending.spent(), self._spending.budget
        more = 0.0 if self._before is None else spent - self._before
        self._before = spent
        if spent + more <= budget - self._kept:
            return None
        return (
            f"{costs.usd(spent)} of budget_usd {costs.usd(budget)} are spent, {costs.usd(more)} of "
            f"it since the last look, and {costs.usd(self._kept)} are kept for the judge"
        )

    def cap(self, key: str, where: str, stopped: bool) -> None:
        """Note whether a part of the run stopped for that."""
        cap(self._spending.folder, key, Cap(where, self._spending.spent()) if stopped else None)


def describe(sagemaker: Any, job_name: str) -> Any:
    """Return SageMaker's description of a job; None if there is no such job."""
    from botocore.exceptions import ClientError

    try:
        return sagemaker.describe_training_job(TrainingJobName=job_name)
    except ClientError as error:
        if is_gone(error):
            return None
        raise


def _billable(described: Any) -> float:
    """Return the seconds that a job is paid for on each of its instances."""
    if described["TrainingJobStatus"] in ENDED:
        return float(described.get("BillableTimeInSeconds", 0))
    started = described.get("TrainingStartTime")
    return (datetime.now(UTC) - started).total_seconds() if started else 0.0


def note_estimate(folder: RunFolder, found: Estimate) -> None:
    """Note what a run is estimated to cost, and what of it the judge."""
    known = not costs.unpriced(found.likely)
    estimated = costs.total(found.likely) if known else None
    folder.write(ESTIMATE, json.dumps({"estimated": estimated, "judges": found.judges}))


def note_job(folder: RunFolder, key: str, job_name: str) -> None:
    """Note a judge job, before it is started."""
    folder.write(f"spent/judge/{key}/{job_name}", b"", "text/plain")


def endpoint_created(
    folder: RunFolder, model: str, name: str, variant: dict[str, Any], created_at: datetime
) -> None:
    """Note since when an endpoint costs money; noting it again changes nothing.

    Args:
        folder: Of the run.
        model: The model's name.
        name: The endpoint's.
        variant: Its production variant.
        created_at: What SageMaker says.
    """
    lives = _lives(folder, model)
    key = created_at.astimezone(UTC).isoformat()
    if key not in lives:
        lives[key] = {
            "endpoint_name": name,
            "instance_type": variant["InstanceType"],
            "instances": variant["InitialInstanceCount"],
            "deleted_at": None,
        }
        folder.write(_endpoint(model), json.dumps(lives, indent=2))


def endpoint_deleted(folder: RunFolder, model: str, name: str) -> None:
    """Note that a model's endpoint of some name costs nothing from now on."""
    lives, now = _lives(folder, model), datetime.now(UTC).isoformat()
    still = [
        life
        for life in lives.values()
        if life["deleted_at"] is None and life.get("endpoint_name", name) == name
    ]
    for life in still:
        life["deleted_at"] = now
    if still:
        folder.write(_endpoint(model), json.dumps(lives, indent=2))


def open_endpoints(folder: RunFolder, model: str) -> set[str]:
    """Return the names of a model's endpoints that cost money as far as is known."""
    open_lives = (life for life in _lives(folder, model).values() if life["deleted_at"] is None)
    return {life["endpoint_name"] for life in open_lives if life.get("endpoint_name")}


def endpoint_removed(folder: RunFolder, name: str) -> None:
    """Note the same of an endpoint that the janitor has deleted, known by its name alone."""
    for model, lives in _noted(folder):
        if any(life.get("endpoint_name") == name for life in lives.values()):
            endpoint_deleted(folder, model, name)


def _noted(folder: RunFolder) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield every model that has had an endpoint, with its endpoints as `_lives` has them."""
    for name in folder.names("spent/endpoints/"):
        model = name.removeprefix("spent/endpoints/").removesuffix(".json")
        yield model, json.loads(folder.read(name))


def _endpoint(model: str) -> str:
    return f"spent/endpoints/{model}.json"


def _lives(folder: RunFolder, model: str) -> dict[str, dict[str, Any]]:
    """Return a model's endpoints by their time of creation: instance types are tried in order."""
    return folder.read_json(_endpoint(model)) or {}


def _row(line: bytes) -> dict[str, Any]:
    """Return what a line of a part says; nothing where it is no whole object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _count(row: Mapping[str, Any], key: str) -> int:
    tokens = row.get(key)
    return max(0, tokens) if isinstance(tokens, int) else 0


def _endpoints(prices: Prices, folder: RunFolder) -> list[Use]:
    """Return the time of a run's endpoints, up to now if they are still there."""
    found = []
    for model, lives in _noted(folder):
        for created, life in lives.items():
            end = datetime.fromisoformat(life["deleted_at"]) if life["deleted_at"] else None
            lasted = (end or datetime.now(UTC)) - datetime.fromisoformat(created)
            seconds = max(0.0, lasted.total_seconds())
            found.append(
                costs.endpoint_use(prices, model, life["instance_type"], seconds, life["instances"])
            )
    return found


def cap(folder: RunFolder, key: str, found: Cap | None) -> None:
    """Note that a part of a run stopped because of the budget; None: that this time it did not."""
    name = f"capped/{key}.json"
    if found or folder.names(name):
        folder.write(name, json.dumps(found and asdict(found)))


def caps(folder: RunFolder) -> list[Cap]:
    """Return where a run stopped because of its budget; empty if it did not."""
    noted = (json.loads(folder.read(name)) for name in folder.names("capped/"))
    return [Cap(**each) for each in noted if each]
