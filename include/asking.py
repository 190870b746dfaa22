"""A run and one of its models in, its responses in the run's ledger out: how each kind is asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from logging import getLogger
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, TypeGuard

from include import ledger, names, spending, storage
from include.config import AskedModel, BedrockModel, Model, ResponsesModel, SageMakerModel
from include.errors import ConfigError, DatasetError, GenerationError, ResponsesError
from include.records import OVER_BUDGET, Prompt, Response
from include.runs import BatchJob, Deployment, Generated, Run, Shard

if TYPE_CHECKING:
    from include.generate import Connect, Tally
    from include.pace import Pace

log = getLogger(__name__)

TINY = 16
"""Tokens of the question whether a model answers at all."""

PASSING = (
    *("Throttling", "TooManyRequests", "ServiceUnavailable", "ServiceQuota", "InternalServer"),
    *("InternalFailure", "ModelNotReady", "ModelTimeout", "ReadTimeout", "ConnectionFailed"),
    "OutOfTime",
)
"""How the types of errors begin that may be gone a little later."""

SAMPLING = {"temperature": "temperature", "top_p": "top_?[pP]", "stop": "(?i:stop.?sequence)"}
"""What services call the parameters that some models refuse."""

PROBE = Prompt("probe", "Say yes.")
"""What a model is asked, to see whether it answers, in a run that keeps no texts: what it then says
about the request goes into logs."""


def is_batch(model: Model) -> TypeGuard[BedrockModel]:
    """Whether a model is asked by a batch job."""
    return isinstance(model, BedrockModel) and model.batch


def ask_first(run: Run, model: AskedModel, deployment: Deployment) -> Response:
    """Ask a model the first prompt, or one of ours; the response is not kept."""
    from include import generate

    connect = _connect(run, model, deployment, 1)
    prompt = next(run.prompts()) if run.config.store_text else PROBE
    return generate.ask_once(prompt, model.name, connect)


def try_model(run: Run, model: AskedModel, deployment: Deployment) -> None:
    """Ask a model that is there already the first prompt for a few tokens.

    Raises:
        ConfigError: It refuses; what to write instead, where that is known.
        GenerationError: It does not answer now, but may later.
    """
    from include.generate import ONCE_SECONDS

    _settings(run, model, deployment)
    parameters = model.parameters.model_copy(update={"max_tokens": TINY})
    answer = ask_first(run, model.model_copy(update={"parameters": parameters}), deployment)
    if answer.outcome != "error":
        return
    kind, message = str(answer.error_type), str(answer.error_message)
    if kind == "OutOfTime":
        message = f"no answer within {ONCE_SECONDS:.0f} s"
    said = f"model {model.name}: {model.target} does not answer: {kind}: {message}"
    if kind.startswith(PASSING):
        raise GenerationError(said)
    raise ConfigError(said + _remedy(model, message))


def _remedy(model: AskedModel, message: str) -> str:
    """Say which sampling parameter to leave out, if the message is about one that was sent."""
    sent = model.parameters.model_dump(exclude_none=True)
    named = [key for key, word in SAMPLING.items() if key in sent and re.search(word, message)]
    if not named:
        return ""
    return f"\nwrite `parameters: {{{named[-1]}: null}}` on the model {model.name}"


def look_through(run: Run, model: ResponsesModel) -> None:
    """Join responses that exist already with the prompts, before anything costs money.

    Raises:
        DatasetError: They cannot be joined, or too many are missing.
    """
    from include.existing_responses import open_responses
    from include.generate import tally

    with open_responses(
        model, run.config.dataset, run.folder.s3, quote=run.config.store_text
    ) as there:
        counted = tally(there.answer(run.prompts()))
        for notice in there.notices():
            log.warning("%s: %s", notice.code, notice.message)
    problem = counted.problem(model.name, run.config.generation.max_error_rate)
    if problem:
        raise DatasetError(problem)


def take_existing(run: Run, model: ResponsesModel, shard: Shard) -> Generated:
    """Put responses that exist already into the ledger.

    Raises:
        DatasetError: The file, or a row of it.
        GenerationError: Too many of them cannot be used.
    """
    from include.existing_responses import open_responses
    from include.generate import Tally

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    counted = Tally()
    with open_responses(
        model, run.config.dataset, run.folder.s3, quote=run.config.store_text
    ) as there:
        for book in _books(run, model, settings, shard["start"], shard["stop"]):
            for response in there.answer(book.prompts):
                book.add(response)
                counted.add(response)
            book.flush()
        notices = [dataclasses.asdict(notice) for notice in there.notices()]
    run.folder.write(f"notices/{model.name}.json", json.dumps(notices))
    return _generated(run, shard, counted)


def ask_shard(run: Run, model: AskedModel, deployment: Deployment, shard: Shard) -> Generated:
    """Ask a model for what the ledger lacks of one shard.

    Raises:
        GenerationError: Too many of its responses cannot be used.
    """
    from include.generate import tally

    return _generated(run, shard, tally(_ask(run, model, deployment, shard)))


def _generated(run: Run, shard: Shard, counted: Tally) -> Generated:
    """Return what a generate task did.

    Raises:
        GenerationError: So many responses cannot be used that the model has too many already,
            however the other shards come out; or asking was given up.
    """
    prompts = run.index()["count"]
    counted.check(shard["model"], run.config.generation.max_error_rate, prompts)
    return Generated(**shard, responses=counted.total - counted.failed)


def _ask(run: Run, model: AskedModel, deployment: Deployment, shard: Shard) -> list[Response]:
    """Return all responses to a shard, however many cannot be used."""
    from include import generate

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, deployment))
    prompts = list(run.prompts(shard["start"], shard["stop"]))
    book = ledger.Ledger(
        run.folder,
        model.name,
        shard["start"],
        prompts,
        settings,
        messages=run.config.store_text,
    )
    _reuse(run, model, book, _earlier_runs(run, model))
    money = _money(run)
    answers = generate.generate(
        book,
        _connect(run, model, deployment, model.limits.max_concurrency),
        _pace(model),
        max_tokens=model.parameters.max_tokens or 0,
        deadline_seconds=run.config.generation.shard_timeout_minutes * 60,
        over_budget=money.over if money else None,
    )
    if money:
        left_out = any(answer.left_out for answer in answers)
        money.cap(f"asking-{model.name}-{shard['start']:06d}", f"asking {model.name}", left_out)
    return answers


def _money(run: Run) -> spending.Allowance | None:
    """Return what looks at the money while models are asked; None without a budget."""
    if run.config.budget_usd is None:
        return None
    return spending.Allowance(spending_of(run))


def spending_of(run: Run) -> spending.Spending:
    """Return what counts the money of a run with prices."""
    return spending.Spending(run.config, run.folder, partial(run.client, "sagemaker"))


def _books(
    run: Run, model: Model, settings: str, start: int = 0, stop: int | None = None
) -> Iterator[ledger.Ledger]:
    """Open the ledgers of a model's blocks one after the other; its parts are listed once."""
    parts = ledger.Parts(run.folder, model.name)
    for first, prompts in run.blocks(start, stop):
        yield ledger.Ledger(
            run.folder,
            model.name,
            first,
            prompts,
            settings,
            parts=parts,
            messages=run.config.store_text,
        )


def _oldest(run: Run) -> datetime:
    return datetime.now(UTC) - timedelta(days=run.config.generation.reuse_max_age_days)


def _earlier_runs(run: Run, model: AskedModel | ResponsesModel) -> list[ledger.Parts]:
    """Find the earlier runs of this evaluation to take from, if the config asks for it."""
    if run.config.generation.reuse != "baseline" or model != run.config.baseline:
        return []
    home = f"{run.config.environment.output_s3_uri}/{run.config.evaluation}"
    return ledger.earlier_runs(run.folder, model.name, home, _oldest(run))


def _reuse(
    run: Run,
    model: AskedModel | ResponsesModel,
    book: ledger.Ledger,
    earlier: Sequence[ledger.Parts],
) -> None:
    if earlier:
        found = book.reuse(earlier, _oldest(run))
        log.info("%s: %d responses of earlier runs are used again", model.name, found)


def open_batch(run: Run, model: BedrockModel) -> BatchJob | None:
    """Return the batch job whose answers are not taken yet, if there is one."""
    jobs = _batch_jobs(run, model)
    if not jobs:
        return None
    last: BatchJob = json.loads(run.folder.read(jobs[-1]))
    return None if last["ended"] else last


def is_current(run: Run, model: BedrockModel, job: BatchJob) -> bool:
    """Whether a batch job was asked what the run would ask today."""
    return job["asked"] == _asked(run, ledger.digest(_settings(run, model, None)))


def next_batch(run: Run, model: BedrockModel) -> BatchJob | None:
    """Write the records of a batch job that asks for what is missing.

    The job is named after the run and what it asks, so that a retry finds it again.

    Returns:
        The job, to be started; None if nothing is missing. What is too little for a job, as after
        a job that left some prompts without an answer, is asked for one by one, here and now; the
        first job of a run is not too small, for `plan` refuses that. None also where the budget
        does not allow it: then the rest is recorded as left out.
    """
    from include import batch, providers, quotas

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    money = _money(run)
    if money:
        reason = money.over()
        left_out = bool(reason) and _leave_out(run, model, settings, str(reason)) > 0
        money.cap(f"batch-{model.name}", f"the batch job of {model.name}", left_out)
        if reason:
            return None
    number = len(_batch_jobs(run, model)) + 1
    dialect, records, sha256 = providers.dialect(model), 0, hashlib.sha256()
    with SpooledTemporaryFile(storage.IN_MEMORY) as file:
        earlier = _earlier_runs(run, model)
        for book in _books(run, model, settings):
            _reuse(run, model, book, earlier)
            missing = {prompt.prompt_id for prompt in book.missing()}
            for place, prompt in enumerate(book.prompts, book.start):
                if prompt.prompt_id in missing:
                    line = batch.record(place, dialect, prompt)
                    file.write(line)
                    sha256.update(line)
                    records += 1
        if not records:
            return None
        if records < quotas.batch_limits(run.client("service-quotas"), model.model_id).least:
            _ask_one_by_one(run, model, records)
            return None
        run.folder.upload(_input(model.name, number), file, "application/x-ndjson")
    asked = _asked(run, settings)
    identity = (run.folder.uri, asked, sha256.hexdigest())
    job = BatchJob(
        model=model.name,
        number=number,
        name=f"{names.resource_name(run.config.evaluation, model.name, *identity)}-{number}",
        asked=asked,
        records=records,
        arn=None,
        ended=None,
    )
    return note_batch(run, job)


def _leave_out(run: Run, model: BedrockModel, settings: str, reason: str) -> int:
    """Record that there was no money to ask for what is missing; return how much that is."""
    left_out = 0
    for book in _books(run, model, settings):
        for prompt in book.missing():
            left_out += 1
            book.add(
                Response(
                    prompt_id=prompt.prompt_id,
                    model=model.name,
                    outcome="error",
                    text=None,
                    error_type=OVER_BUDGET,
                    error_message=f"{reason}, so it was not asked",
                    attempts=0,
                )
            )
        book.flush()
    return left_out


def batch_bytes(run: Run, model: BedrockModel) -> int:
    """Return the size of a batch job's records for all prompts of the run."""
    from include import batch, providers

    dialect = providers.dialect(model)
    numbered = enumerate(run.prompts())
    return sum(len(batch.record(place, dialect, prompt)) for place, prompt in numbered)


def _ask_one_by_one(run: Run, model: BedrockModel, records: int) -> None:
    log.info(
        "%s: %d responses are missing, too few for a batch job, so they are asked for one by one",
        model.name,
        records,
    )
    for start, prompts in run.blocks():
        shard = Shard(model=model.name, start=start, stop=start + len(prompts))
        _ask(run, model, {"model": model.name}, shard)


def batch_request(run: Run, model: BedrockModel, job: BatchJob) -> dict[str, Any]:
    """Return what starts a batch job, as the config is today: another role may be the remedy."""
    from include import batch

    return batch.job(
        run.config.environment,
        model,
        name=job["name"],
        input_uri=run.folder.at(_input(job["model"], job["number"])),
        output_uri=run.folder.at(_output(job["model"], job["number"])),
        tags=run.tags,
    )


def note_batch(
    run: Run, job: BatchJob, *, arn: str | None = None, ended: str | None = None
) -> BatchJob:
    """Remember a batch job in the run folder, with what is new of it."""
    noted = job.copy()
    noted["arn"], noted["ended"] = arn or job["arn"], ended or job["ended"]
    run.folder.write(f"{_batch(job['model'], job['number'])}job.json", json.dumps(noted))
    return noted


def take_batch(run: Run, model: BedrockModel, job: BatchJob, ended: str) -> None:
    """Put what a batch job wrote into the ledger; a record without an answer is an error.

    Taking it again changes nothing.

    Args:
        run: The run.
        model: The model.
        job: A job with its ARN.
        ended: What became of it, as a sentence.
    """
    from include import batch

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    job_id = str(job["arn"]).rsplit("/", 1)[-1]
    prefix = f"{_output(model.name, job['number'])}{job_id}/"
    files = [name for name in run.folder.names(prefix) if name.endswith(".jsonl.out")]
    count = run.index()["count"]
    with batch.Output([run.folder.open(name) for name in files], count, ended) as output:
        for book in _books(run, model, settings):
            missing = {prompt.prompt_id for prompt in book.missing()}
            for place, prompt in enumerate(book.prompts, book.start):
                if prompt.prompt_id in missing:
                    book.add(output.response(place, prompt, model.name))
            book.flush()
    note_batch(run, job, ended=ended)


def _batch(model: str, number: int) -> str:
    return f"batch/{model}/{number:03d}/"


def _input(model: str, number: int) -> str:
    return f"{_batch(model, number)}input.jsonl"


def _output(model: str, number: int) -> str:
    return f"{_batch(model, number)}output/"


def _batch_jobs(run: Run, model: BedrockModel) -> list[str]:
    """Return where the run's batch jobs for a model are remembered, in their order."""
    there = run.folder.names(f"batch/{model.name}/")
    return [name for name in there if name.endswith("/job.json")]


def _asked(run: Run, settings: str) -> str:
    """Return a digest of all that a batch job's records mean: they know prompts by their place."""
    return ledger.digest([settings, run.index()["sha256"]])


def count_batch(run: Run, model: BedrockModel) -> Generated:
    """Return what is there of a model that is asked by batch jobs.

    Raises:
        GenerationError: Too many of its responses cannot be used.
    """
    from include.generate import Tally

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    counted, stop = Tally(), 0
    for book in _books(run, model, settings):
        for response in book.responses():
            counted.add(response)
        stop = book.stop
    return _generated(run, Shard(model=model.name, start=0, stop=stop), counted)


def settings_of(run: Run, model: Model) -> str:
    """Return the digest of how a model was asked in this run.

    Raises:
        ResponsesError: It was not asked, or not as the run's config now wants it.
    """
    asked = ledger.read_settings(run.folder, model.name)
    if asked is None:
        raise ResponsesError(f"{model.name} was not asked yet")
    for key, value in model.shaping().items():
        if asked.get(key) != value:
            raise ResponsesError(
                f"{model.name} was asked with {key} {asked.get(key)}, and the run's config now "
                f"says {value}; clear its {'batch' if is_batch(model) else 'generate'} tasks"
            )
    return ledger.digest(asked)


def _settings(
    run: Run, model: AskedModel | ResponsesModel, deployment: Deployment | None
) -> dict[str, Any]:
    """Return all that shapes a model's responses beside the prompt.

    Raises:
        ConfigError: An endpoint of somebody else's is not there, or may not be looked at.
    """
    settings = model.shaping()
    if not run.config.store_text:
        settings["store_text"] = False  # so no other run takes a response of this one
    if isinstance(model, ResponsesModel):
        # Read anew each time: the file may have been corrected.
        return {**settings, "read_at": datetime.now(UTC).isoformat()}
    if not isinstance(model, SageMakerModel):
        return settings
    if model.deploy and deployment and deployment["requests"]:
        return {**settings, "container": deployment["requests"]["Model"]["PrimaryContainer"]}
    # An endpoint of somebody else's: what is behind its name may change.
    return {**settings, "endpoint_config": _endpoint_config(run, str(model.endpoint_name))}


def _endpoint_config(run: Run, endpoint: str) -> str:
    """Return the name of what is behind an endpoint (SageMaker: DescribeEndpoint)."""
    from botocore.exceptions import ClientError

    try:
        described = run.client("sagemaker").describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if error.response["Error"]["Code"].startswith(("AccessDenied", "Validation")):
            raise ConfigError(f"endpoint {endpoint}: {error}") from None
        raise
    return str(described["EndpointConfigName"])


def _connect(run: Run, model: AskedModel, deployment: Deployment, connections: int) -> Connect:
    from include import providers

    dialect = providers.dialect(model, deployment.get("endpoint_name"))
    client = run.client(dialect.service)
    timeout = run.config.generation.request_timeout_seconds
    return partial(
        providers.connected, client, dialect, max_connections=connections, timeout=timeout
    )


def _pace(model: AskedModel) -> Pace:
    from include import pace, providers

    limits = model.limits
    weight = limits.output_token_weight
    if weight is None:
        weight = 1.0
        if isinstance(model, BedrockModel):
            weight = providers.output_token_weight(model.model_id)
    return pace.Pace(
        limits.start_concurrency,
        limits.max_concurrency,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        output_token_weight=weight,
    )
