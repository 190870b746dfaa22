"""A run and one of its models in, its responses in the run's ledger out: how each kind is asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from logging import getLogger
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, TypeGuard

from include import ledger, names, storage
from include.config import BedrockModel, Model, ResponsesModel, SageMakerModel
from include.errors import ConfigError
from include.records import Response
from include.runs import BatchJob, Deployment, Generated, Run, Shard

if TYPE_CHECKING:
    from include.generate import Connect
    from include.pace import Pace
    from include.providers import Dialect

log = getLogger(__name__)

TINY = 16
"""Tokens of the question whether a model answers at all."""


def is_batch(model: Model) -> TypeGuard[BedrockModel]:
    """Whether a model is asked by a batch job."""
    return isinstance(model, BedrockModel) and model.batch


def ask_first(run: Run, model: Model, deployment: Deployment) -> Response:
    """Ask a model the first prompt; the response is not kept."""
    from include import generate

    connect = _connect(run, _dialect(model, deployment), 1)
    return generate.ask_once(next(run.prompts()), model.name, connect)


def try_model(run: Run, model: BedrockModel) -> None:
    """Ask a Bedrock model the first prompt for a few tokens, before anything costs more.

    Raises:
        ConfigError: It answers with an error.
    """
    parameters = model.parameters.model_copy(update={"max_tokens": TINY})
    tiny = model.model_copy(update={"parameters": parameters})
    answer = ask_first(run, tiny, {"model": model.name})
    if answer.outcome == "error":
        raise ConfigError(
            f"model {model.name}: Bedrock refuses {model.model_id}: "
            f"{answer.error_type}: {answer.error_message}"
        )


def look_through(run: Run, model: ResponsesModel) -> None:
    """Join responses that exist already with the prompts, before anything costs money.

    Raises:
        DatasetError: They cannot be joined.
        GenerationError: Too many are missing.
    """
    from include.existing_responses import open_responses
    from include.generate import tally

    with open_responses(model, run.config.dataset, run.folder.s3) as there:
        counted = tally(there.answer(run.prompts()))
        for notice in there.notices():
            log.warning("%s: %s", notice.code, notice.message)
    counted.check(model.name, run.config.generation.max_error_rate)


def take_existing(run: Run, model: ResponsesModel, shard: Shard) -> Generated:
    """Put responses that exist already into the ledger."""
    from include.existing_responses import open_responses
    from include.generate import Tally

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    counted = Tally()
    with open_responses(model, run.config.dataset, run.folder.s3) as there:
        for start, prompts in run.blocks(shard["start"], shard["stop"]):
            book = ledger.Ledger(run.folder, model.name, start, prompts, settings)
            for response in there.answer(prompts):
                book.add(response)
                counted.add(response)
            book.flush()
        notices = [dataclasses.asdict(notice) for notice in there.notices()]
    run.folder.write(f"notices/{model.name}.json", json.dumps(notices))
    counted.check(model.name, run.config.generation.max_error_rate)
    return Generated(**shard, responses=counted.total - counted.failed)


def ask_shard(
    run: Run, model: SageMakerModel | BedrockModel, deployment: Deployment, shard: Shard
) -> Generated:
    """Ask a model for what the ledger lacks of one shard.

    Raises:
        GenerationError: Too many of its responses cannot be used.
    """
    from include import generate

    rules = run.config.generation
    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, deployment))
    prompts = list(run.prompts(shard["start"], shard["stop"]))
    book = ledger.Ledger(run.folder, model.name, shard["start"], prompts, settings)
    _reuse(run, model, book)
    responses = generate.generate(
        book,
        _connect(run, _dialect(model, deployment), model.limits.max_concurrency),
        _pace(model),
        max_tokens=model.parameters.max_tokens or 0,
        deadline_seconds=rules.shard_timeout_minutes * 60,
    )
    counted = generate.tally(responses)
    counted.check(model.name, rules.max_error_rate)
    return Generated(**shard, responses=counted.total - counted.failed)


def _reuse(run: Run, model: Model, book: ledger.Ledger) -> None:
    """Take what earlier runs of this evaluation have, if the config asks for it."""
    rules = run.config.generation
    if rules.reuse != "baseline" or model != run.config.baseline:
        return
    home = f"{run.config.environment.output_s3_uri}/{run.config.evaluation}"
    found = book.reuse(home, timedelta(days=rules.reuse_max_age_days))
    log.info("%s: %d responses of earlier runs are used again", model.name, found)


def prepare_batch(run: Run, model: BedrockModel) -> BatchJob | None:
    """Write the records that a batch job has to answer; None if nothing is missing.

    The job's name is a digest of what it is asked, so that a retry finds it again.
    """
    from include import batch

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    dialect, records, sha256 = _dialect(model, {"model": model.name}), 0, hashlib.sha256()
    with SpooledTemporaryFile(storage.IN_MEMORY) as file:
        for start, prompts in run.blocks():
            book = ledger.Ledger(run.folder, model.name, start, prompts, settings)
            _reuse(run, model, book)
            missing = {prompt.prompt_id for prompt in book.missing()}
            for place, prompt in enumerate(prompts, start):
                if prompt.prompt_id in missing:
                    line = batch.record(place, dialect, prompt)
                    file.write(line)
                    sha256.update(line)
                    records += 1
        if not records:
            return None
        name = names.resource_name(
            run.config.evaluation, model.name, run.folder.uri, settings, sha256.hexdigest()
        )
        prefix = f"batch/{model.name}/{name}"
        input_uri = run.folder.upload(f"{prefix}/input.jsonl", file, "application/x-ndjson")
    request = batch.job(
        run.config.environment,
        model,
        input_uri=input_uri,
        output_uri=f"{run.folder.at(prefix)}/output/",
        tags=run.tags,
    )
    return BatchJob(model=model.name, name=name, records=records, request=request)


def take_batch(run: Run, model: BedrockModel, job: BatchJob, job_id: str) -> None:
    """Put what a batch job wrote into the ledger; a record without an answer is an error."""
    from include import batch

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    prefix = f"batch/{model.name}/{job['name']}/output/{job_id}/"
    files = [name for name in run.folder.names(prefix) if name.endswith(".jsonl.out")]
    with batch.Output(run.folder.open(name) for name in files) as output:
        for start, prompts in run.blocks():
            book = ledger.Ledger(run.folder, model.name, start, prompts, settings)
            missing = {prompt.prompt_id for prompt in book.missing()}
            for place, prompt in enumerate(prompts, start):
                if prompt.prompt_id in missing:
                    book.add(output.response(place, prompt, model.name))
            book.flush()
    run.folder.write(_taken(job, job_id), b"", "text/plain")


def is_taken(run: Run, job: BatchJob, job_id: str) -> bool:
    """Whether what a batch job wrote is in the ledger: what still lacks needs another job."""
    return bool(run.folder.names(_taken(job, job_id)))


def _taken(job: BatchJob, job_id: str) -> str:
    return f"batch/{job['model']}/{job['name']}/taken-{job_id}"


def ask_rest(run: Run, model: BedrockModel, job: BatchJob) -> bool:
    """Ask one by one for what is left when it is too little for a batch job.

    Returns:
        Whether it was; the first job of a run is never too small, for `plan` refuses that.
    """
    from include import quotas

    least = quotas.batch_minimum(run.client("service-quotas"), model.model_id)
    if job["records"] >= least:
        return False
    log.info(
        "%s: %d responses are missing, too few for a batch job, so they are asked for one by one",
        model.name,
        job["records"],
    )
    for start, prompts in run.blocks():
        shard = Shard(model=model.name, start=start, stop=start + len(prompts))
        ask_shard(run, model, {"model": model.name}, shard)
    return True


def count_batch(run: Run, model: BedrockModel) -> Generated:
    """Return what is there of a model that is asked by batch jobs.

    Raises:
        GenerationError: Too many of its responses cannot be used.
    """
    from include.generate import Tally

    settings = ledger.write_settings(run.folder, model.name, _settings(run, model, None))
    counted, stop = Tally(), 0
    for start, prompts in run.blocks():
        book = ledger.Ledger(run.folder, model.name, start, prompts, settings)
        for response in book.responses():
            counted.add(response)
        stop = book.stop
    counted.check(model.name, run.config.generation.max_error_rate)
    usable = counted.total - counted.failed
    return Generated(model=model.name, start=0, stop=stop, responses=usable)


def _settings(run: Run, model: Model, deployment: Deployment | None) -> dict[str, Any]:
    """Return all that shapes a model's responses beside the prompt."""
    if isinstance(model, ResponsesModel):
        # Read anew each time: the file may have been corrected.
        return {"source": model.source, "read_at": datetime.now(UTC).isoformat()}
    settings: dict[str, Any] = {"parameters": model.parameters.model_dump(exclude_none=True)}
    if isinstance(model, BedrockModel):
        return {**settings, "model_id": model.model_id}
    settings["schema"] = model.schema_
    if model.deploy and deployment and deployment["requests"]:
        return {**settings, "container": deployment["requests"]["Model"]["PrimaryContainer"]}
    # An endpoint of somebody else's: what is behind its name may change.
    endpoint = run.client("sagemaker").describe_endpoint(EndpointName=model.endpoint_name)
    return {
        **settings,
        "endpoint": model.endpoint_name,
        "endpoint_config": endpoint["EndpointConfigName"],
        "inference_component": model.inference_component_name,
    }


def _dialect(model: Model, deployment: Deployment) -> Dialect:
    from include import providers

    if isinstance(model, BedrockModel):
        return providers.bedrock(model, model.parameters)
    if isinstance(model, SageMakerModel) and deployment.get("endpoint_name"):
        return providers.sagemaker(model, str(deployment["endpoint_name"]), model.parameters)
    raise ConfigError(f"model {model.name}: provider {model.provider} cannot be asked")


def _connect(run: Run, dialect: Dialect, connections: int) -> Connect:
    from include import providers

    client = run.client(dialect.service)
    timeout = run.config.generation.request_timeout_seconds
    return partial(
        providers.connected, client, dialect, max_connections=connections, timeout=timeout
    )


def _pace(model: SageMakerModel | BedrockModel) -> Pace:
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
