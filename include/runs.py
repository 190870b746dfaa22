"""One run, opened: what its tasks know of it, its config, its folder and the way to AWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

from include import ownership, recipes, storage
from include.config import Model, RunConfig
from include.errors import ResponsesError
from include.records import Prompt
from include.storage import RunFolder

Client = Callable[..., Any]
"""Makes a boto3 client: service name, then botocore config options."""


class RunRecord(TypedDict):
    """What every task knows of its run."""

    uri: str
    """The run folder."""
    aws_conn_id: str
    poll_seconds: int
    dag_id: str
    run_id: str
    started_at: str


class Shard(TypedDict):
    """Some prompts for one model: the work of one generate task."""

    model: str
    start: int
    stop: int


class Deployment(TypedDict, total=False):
    """One model's endpoint: to be created if there are requests, else given or not needed."""

    model: str
    endpoint_name: str | None
    requests: dict[str, Any] | None
    error: str
    priced: bool
    """Whether its time is noted, because it has a price."""


class Generated(TypedDict):
    """What a generate task did: the responses of one model to some prompts are there."""

    model: str
    start: int
    stop: int
    responses: int
    """Usable ones."""


class BatchJob(TypedDict):
    """One batch inference job, as the run folder remembers it."""

    model: str
    number: int
    """Of the run's jobs for this model, from 1."""
    name: str
    asked: str
    """Digest of the prompts and of how the model is asked."""
    records: int
    arn: str | None
    """None until Bedrock has said it."""
    ended: str | None
    """What became of it, once its answers are taken."""


class JudgeJob(TypedDict, total=False):
    """One judge job: to be run if there is a request."""

    key: str
    """Of a `config.Pairing`; or `config.ANCHORS` or `config.CANARIES`."""
    token: str
    """Differs each time that the judge's input is written."""
    pairs: int
    request: dict[str, Any] | None
    image: dict[str, Any]
    """A `records.JudgeImage`."""
    job_name: str
    job_arn: str


class Approval(TypedDict):
    """What a person is asked about a gate."""

    subject: str
    body: str
    """Markdown."""
    hours: float
    """How long there is to answer."""


class Outcome(TypedDict):
    """What a run has come to: the `extra` of its asset event."""

    evaluation: str
    run_id: str
    gate: str
    approved: bool
    """Whether a person approved what the gate did not pass."""
    reason: str
    verdicts: dict[str, str]
    """By candidate."""
    win_rates: dict[str, list[float | None]]
    """By candidate: estimate, low, high."""
    summary: str
    """URIs."""
    report: str


@dataclass(frozen=True)
class Run:
    """One run, opened: its config, its folder and the way to AWS."""

    record: RunRecord
    config: RunConfig
    folder: RunFolder
    client: Client
    _index: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `index` has read; empty before."""

    @property
    def output(self) -> RunFolder:
        """Where the environment's runs and their history lie, this one among them."""
        return RunFolder(self.folder.s3, self.config.environment.output_s3_uri)

    @property
    def tags(self) -> list[dict[str, str]]:
        """AWS tags for everything that the run creates."""
        environment = self.config.environment
        return ownership.tags(
            environment.name,
            self.config.evaluation,
            self.folder.uri,
            self.record["dag_id"],
            self.record["run_id"],
            environment.tags,
        )

    def model(self, name: str) -> Model:
        """Return one of the run's models."""
        return next(model for model in self.config.models if model.name == name)

    def sent_recipes(self) -> list[recipes.Recipe]:
        """Return the recipe of each judge, as it is sent."""
        names = storage.RECIPES[: len(self.config.judges)]
        return [recipes.from_yaml(self.folder.read(name)) for name in names]

    def prompts(self, start: int = 0, stop: int | None = None) -> Iterator[Prompt]:
        """Yield the run's prompts from one place in the data set to another."""
        for first, block in self.blocks(start, stop):
            yield from block[max(start - first, 0) : None if stop is None else stop - first]

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, list[Prompt]]]:
        """Yield the prompts as they are stored: a block's first place, and its prompts."""
        index = self.index()
        ends = [*index["blocks"][1:], index["count"]]
        for first, end in zip(index["blocks"], ends, strict=True):
            if end > start and (stop is None or first < stop):
                yield first, list(self.folder.read_records(block_name(first), Prompt))

    def index(self) -> dict[str, Any]:
        """Return what `load_prompts` found: count, digest, blocks and notices; read once."""
        if not self._index:
            self._index.update(json.loads(self.folder.read(storage.PROMPTS)))
        return self._index

    def write_index(self, index: dict[str, Any]) -> None:
        """Store what `index` returns from now on."""
        self._index.clear()
        self.folder.write(storage.PROMPTS, json.dumps(index, indent=2))


def block_name(start: int) -> str:
    """Return where the prompts from one place on are kept."""
    return f"prompts/{start:06d}.jsonl"


def open_run(record: RunRecord, client: Client, *, without_texts: bool = False) -> Run:
    """Open a run that `resolve` has set up.

    Args:
        record: Of the run.
        client: Makes boto3 clients.
        without_texts: Whether what is to be done can be done when its texts are gone.

    Raises:
        ResponsesError: They are gone, and it cannot.
    """
    folder = RunFolder(client("s3", max_pool_connections=32), record["uri"])
    config = RunConfig.model_validate(json.loads(folder.read(storage.CONFIG))["config"])
    if not (config.store_text or without_texts) and folder.names(storage.NO_TEXTS):
        raise ResponsesError(
            "this run has ended and keeps no texts (store_text: false), so a single task of it "
            "has nothing to work on; clear the whole run, or start another"
        )
    return Run(record, config, folder, client)
