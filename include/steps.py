"""The steps of a run, one function per task of the DAG: where stages, storage and AWS meet.

Each takes the opened run and small records, reads and writes the run folder, and returns what
the next task has to know: names and URIs, never data. Nothing here imports Airflow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from logging import INFO, WARNING, getLogger
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from uuid import uuid4

from include import (
    account,
    asking,
    costs,
    judge,
    ledger,
    names,
    recipes,
    spending,
    storage,
    texts,
)
from include.config import (
    ANCHORS,
    CANARIES,
    BedrockModel,
    Model,
    ResponsesModel,
    RunConfig,
    SageMakerModel,
    is_second,
)
from include.config_files import resolve_config
from include.errors import (
    BudgetError,
    ConfigError,
    DeploymentError,
    ResponsesError,
    ResultsError,
)
from include.records import JudgeOutput, Judgment, Pair, Prompt, Response
from include.runs import (
    Approval,
    Client,
    Deployment,
    Generated,
    JudgeJob,
    Outcome,
    Run,
    RunRecord,
    Shard,
    block_name,
    recipe_name,
)
from include.storage import RunFolder

log = getLogger(__name__)

MOST_TASKS = 1000
"""Generate tasks of a run at the most: Airflow maps no task over more than 1,024 by default."""


def resolve(
    conf: Mapping[str, Any],
    *,
    dag_id: str,
    run_id: str,
    started_at: str,
    connect: Callable[[str], Client],
) -> RunRecord:
    """Check the config and the account, and write `config.json` into the run's folder.

    Nothing else happens before this: a wrong key or a connection to another account ends here.
    """
    config = resolve_config(conf)
    environment = config.environment
    client = connect(environment.aws_conn_id)
    account.check(client("sts", **account.QUICK), environment)
    read = partial(storage.read_uri, client("s3"))
    asked = [recipes.load(each.recipe, each.overrides, read=read) for each in config.judges]
    judge.image_uri(environment)
    run_slug = names.run_slug(dag_id, run_id)
    uri = f"{environment.output_s3_uri}/{config.evaluation}/{run_slug}"
    folder = RunFolder(client("s3"), uri)
    stored = {"config": config.model_dump(mode="json", by_alias=True), "digest": config.digest()}
    folder.write(storage.CONFIG, json.dumps(stored, indent=2))
    for number, recipe in enumerate(asked):
        name = recipe_name(second=bool(number))
        folder.write(name, recipes.to_yaml(recipe), "application/yaml")
    if not config.store_text:
        output = RunFolder(folder.s3, environment.output_s3_uri)
        texts.promise(output, folder, dag_id=dag_id, run_id=run_id)
    log.info("Run folder: %s", uri)
    return {
        "uri": uri,
        "aws_conn_id": environment.aws_conn_id,
        "poll_seconds": environment.poll_seconds,
        "dag_id": dag_id,
        "run_id": run_id,
        "started_at": started_at,
    }


def load_prompts(run: Run) -> list[Shard]:
    """Read the data set into `prompts/` and cut the work of every model into shards."""
    from include.prompts import open_prompts

    size, sha256 = run.config.generation.shard_size, hashlib.sha256()
    blocks: list[int] = []
    count = conversations = 0
    with open_prompts(run.config.dataset, s3=run.folder.s3) as source:
        prompts = iter(source)
        while block := list(islice(prompts, size)):
            body = storage.to_lines(map(dataclasses.asdict, block))
            run.folder.write(block_name(count), body, "application/x-ndjson")
            sha256.update(body)
            blocks.append(count)
            count += len(block)
            conversations += sum(bool(prompt.turns) for prompt in block)
            log.info("%d prompts read", count)
        system = source.system_prompt
        index: dict[str, Any] = {
            "count": count,
            "conversations": conversations,
            "sha256": sha256.hexdigest(),
            "blocks": blocks,
            "notices": [dataclasses.asdict(notice) for notice in source.notices],
            "system_prompt": dataclasses.asdict(system) if system else None,
        }
    run.write_index(index)
    for notice in index["notices"]:
        log.warning("%s", notice["message"])
    log.info("%d prompts for %d models", count, len(run.config.models))
    return [shard for model in run.config.models for shard in _shards(run.config, model, index)]


def _shards(config: RunConfig, model: Model, index: Mapping[str, Any]) -> list[Shard]:
    """Cut one model's work: by the blocks that the prompts are stored in, several if need be."""
    blocks, count = index["blocks"], index["count"]
    step = math.ceil(len(blocks) / max(1, MOST_TASKS // len(config.models)))
    if isinstance(model, ResponsesModel) or asking.is_batch(model):
        step = len(blocks)  # read, or asked, in one go
    starts = blocks[::step]
    return [
        Shard(model=model.name, start=start, stop=stop)
        for start, stop in zip(starts, [*starts[1:], count], strict=True)
    ]


def plan(run: Run, shards: Sequence[Shard]) -> list[str]:
    """Look at the account and the money, ask every model that is there already one tiny question.

    What costs nothing is looked at first.

    Returns:
        The keys of the judge jobs: those of `RunConfig.pairings`, `config.CANARIES` if they are
        asked for, and `config.ANCHORS` where they are due.

    Raises:
        ConfigError: Something that would stop the run later, when it has cost money; or it would
            cost more than its budget.
        DatasetError: Responses that exist already cannot be used.
        GenerationError: A model does not answer now.
    """
    from include import preflight

    index = run.index()
    batched = filter(asking.is_batch, run.config.models)
    findings = preflight.check(
        run.config,
        run.client,
        run.sent_recipes(),
        prompts=index["count"],
        batch_bytes={model.name: asking.batch_bytes(run, model) for model in batched},
    )
    for finding in findings:
        log.info("%s: %s: %s", finding.level, finding.what, finding.message)
    refused = preflight.refusals(findings)
    if refused:
        raise ConfigError(f"this run would fail:\n{refused}")
    judged = {**run.config.judge_jobs(index["count"]), **_anchors(run)}
    _estimate(run, judged)
    for model in run.config.models:
        if isinstance(model, SageMakerModel) and model.schema_ == "inputs":
            _check_no_conversation(model, index)
        if isinstance(model, ResponsesModel):
            asking.look_through(run, model)
    for model in run.config.models:
        if isinstance(model, BedrockModel) or (
            isinstance(model, SageMakerModel) and model.endpoint_name
        ):
            asking.try_model(run, model, _deployment(run, model))
    _say_what_can_be_found(run, index["count"])
    asked = [model for model in run.config.models if not isinstance(model, ResponsesModel)]
    log.info(
        "%d prompts x %d models = %d responses in %d tasks; %d judge jobs on %s, two judgments "
        "per pair",
        index["count"],
        len(asked),
        index["count"] * len(asked),
        len(shards),
        len(judged),
        run.config.judge.instance_type,
    )
    return list(judged)


def _anchors(run: Run) -> dict[str, int]:
    """Take a copy of the anchor pairs, and decide whether the judge is asked about them again.

    Returns:
        How many there are, by `config.ANCHORS`; empty if it is not.
    """
    source = run.config.judge.anchor_pairs
    if source is None:
        return {}
    from include import drift, trend

    pairs = drift.read_pairs(source, run.folder.s3)
    run.folder.write_records(_pairs(ANCHORS), pairs)
    rounds = drift.Rounds(run.output, pairs, run.folder.read(storage.RECIPE)).all()
    why = drift.why_due(
        rounds,
        judge.image(run.config.environment, run.client("ecr", **account.QUICK)),
        trend.runs_since(run.output, run.config.evaluation, rounds[-1].started_at) if rounds else 0,
        run.config.judge.anchor_every,
    )
    if why is None:
        return {}
    log.info("%d anchor pairs are judged in a job of their own: %s", len(pairs), why)
    return {ANCHORS: len(pairs)}


def _estimate(run: Run, judged: Mapping[str, int]) -> None:
    """Log and store what the run will cost, if prices are known.

    Args:
        run: The run.
        judged: Pairs of each judge job, by its key.

    Raises:
        ConfigError: That is more than its budget.
    """
    if run.config.prices is None and run.config.budget_usd is None:
        return
    characters = sum(prompt.characters for prompt in run.prompts())
    replicas = [int(recipe["run"]["replicas"]) for recipe in run.sent_recipes()]
    work = costs.Work(run.index()["count"], characters, judged, replicas)
    found = costs.plan(run.config, work)
    if found and run.config.prices:
        for line in costs.lines(found, run.config.prices):
            log.info("%s", line)
        spending.note_estimate(run.folder, found)


def _say_what_can_be_found(run: Run, prompts: int) -> None:
    """Log which win rates these prompts can show: too few are better known before than after."""
    from include import planning

    assumed = planning.assume(
        confidence_level=run.config.confidence_level,
        candidates=len(run.config.candidates),
        groups=planning.measure(prompt.group for prompt in run.prompts()),
    )
    log.info("%s", planning.line(prompts, assumed))


def _check_no_conversation(model: SageMakerModel, index: Mapping[str, Any]) -> None:
    if index["conversations"]:
        raise ConfigError(
            f"model {model.name}: schema inputs sends raw text, and {index['conversations']} "
            "prompts are conversations; write schema: messages"
        )


def reserve(run: Run, judged: Sequence[str]) -> list[Deployment]:
    """Name every endpoint before it exists, so that whatever happens it can be found again."""
    return [_deployment(run, model) for model in run.config.models]


def _deployment(run: Run, model: Model) -> Deployment:
    if not isinstance(model, SageMakerModel):
        return {"model": model.name, "endpoint_name": None, "requests": None}
    if model.endpoint_name:
        return {"model": model.name, "endpoint_name": model.endpoint_name, "requests": None}
    from include import deploy

    name = names.resource_name(run.config.evaluation, model.name, run.folder.uri)
    requests = deploy.requests(run.config.environment, model, name=name, tags=run.tags)
    found: Deployment = {"model": model.name, "endpoint_name": name, "requests": requests}
    if run.config.prices:
        found["priced"] = True
    return found


def try_endpoint(run: Run, deployment: Deployment) -> None:
    """Ask a new endpoint the first prompt: only one that answers counts as deployed.

    Raises:
        DeploymentError: It answers with an error.
    """
    answer = asking.ask_first(run, run.model(deployment["model"]), deployment)
    if answer.outcome == "error":
        raise DeploymentError(
            f"endpoint {deployment['endpoint_name']} is in service but does not answer: "
            f"{answer.error_type}: {answer.error_message}"
        )


def generate(run: Run, deployments: Sequence[Deployment], shard: Shard) -> Generated | None:
    """Ask one model for its responses to one shard of the prompts; return what is there now.

    None for a model that is asked by a batch job: `batch` does that.
    """
    model = run.model(shard["model"])
    deployment = next(d for d in deployments if d["model"] == model.name)
    if "error" in deployment:
        raise DeploymentError(f"{model.name} has no endpoint: {deployment['error']}")
    if isinstance(model, ResponsesModel):
        return asking.take_existing(run, model, shard)
    if asking.is_batch(model):
        log.info("%s is asked by a batch job", model.name)
        return None
    return asking.ask_shard(run, model, deployment, shard)


def write_judge_input(
    run: Run,
    key: str,
    generated: Iterable[Generated | None],
    batched: Iterable[Generated | None] = (),
) -> JudgeJob:
    """Put two models' responses side by side and describe the judge job.

    Args:
        run: The run.
        key: Of the judge job, as `plan` returned it.
        generated: What the `generate` tasks that succeeded returned.
        batched: The same of the `batch` tasks.

    Raises:
        BudgetError: No prompt was asked of both before the budget was reached.
        ResponsesError: A generate task of one of the two has not succeeded, or was asked under
            another config, or too many of its responses cannot be used.
    """
    forget_comparison(run, key)
    both = _compared(run.config, key)
    there = [each for each in (*generated, *batched) if each]
    for model in both:
        _check_coverage(model, [each for each in there if each["model"] == model], run.index())
    with (
        SpooledTemporaryFile(storage.IN_MEMORY) as pairs_file,
        SpooledTemporaryFile(storage.IN_MEMORY) as input_file,
    ):
        if key == ANCHORS:  # `plan` has written the pairs
            anchors = list(run.folder.read_records(_pairs(ANCHORS), Pair))
            sha256, count = _write_input(anchors, input_file)
        else:
            if key == CANARIES:
                sha256, count = _write_canaries(run, both, pairs_file, input_file)
            else:
                sha256, count = _write_pairs(run, both, pairs_file, input_file)
            run.folder.upload(_pairs(key), pairs_file, "application/x-ndjson")
        name = f"pairs/{key}/llm_judge.jsonl"
        input_uri = run.folder.upload(name, input_file, "application/x-ndjson")
    if not count:
        return {"key": key, "token": uuid4().hex, "pairs": 0, "request": None}
    recipe = run.sent_recipes()[is_second(key)]
    environment = run.config.environment
    request = judge.training_job(
        environment,
        run.config.judge_of(key),
        recipe,
        name=names.resource_name(
            run.config.evaluation,
            key,
            environment.account_id,
            run.folder.uri,
            recipes.to_yaml(recipe),
            sha256,
        ),
        input_uri=input_uri,
        recipe_uri=run.folder.at(recipe_name(second=is_second(key))),
        output_uri=run.folder.at(f"judge/{key}"),
        max_runtime=judge.max_runtime_seconds(count, run.config.judge.max_runtime_minutes),
        tags=run.tags,
    )
    return {
        "key": key,
        "token": uuid4().hex,
        "pairs": count,
        "request": request,
        "image": dataclasses.asdict(judge.image(environment, run.client("ecr", **account.QUICK))),
    }


def _check_coverage(model: str, there: Sequence[Generated], index: Mapping[str, Any]) -> None:
    """Raise unless the tasks that succeeded have answered every prompt of the run."""
    reached = 0
    for each in sorted(there, key=lambda each: each["start"]):
        if each["start"] > reached:
            break
        reached = max(reached, each["stop"])
    if reached < index["count"]:
        raise ResponsesError(
            f"a generate task of {model} has not succeeded: the responses from prompt {reached} "
            "on are not complete; clear it"
        )


def _compared(config: RunConfig, key: str) -> tuple[str, ...]:
    """Return the names of the models whose responses a judge job is about."""
    if key == ANCHORS:
        return ()
    pairing = config.pairings[0] if key == CANARIES else config.pairing(key)
    return pairing.baseline, pairing.candidate


def _write_canaries(
    run: Run, models: Sequence[str], pairs_file: IO[bytes], input_file: IO[bytes]
) -> tuple[str, int]:
    """Write canary pairs made of two models' responses, and what the judge gets of them."""
    from include import canaries
    from include.pairs import make_pairs

    pairs = (pair for prompts, a, b in _answered(run, models) for pair in make_pairs(prompts, a, b))
    made = canaries.make(canaries.choose(pairs, run.config.judge.canaries))
    pairs_file.write(storage.to_lines(map(dataclasses.asdict, made)))
    return _write_input(made, input_file)


def _write_input(pairs: Sequence[Pair], input_file: IO[bytes]) -> tuple[str, int]:
    """Write what the judge gets of some pairs; return its digest and how many they are."""
    from include.pairs import judge_input

    body = judge_input(pairs)
    input_file.write(body)
    return hashlib.sha256(body).hexdigest(), len(pairs)


def _write_pairs(
    run: Run, models: Sequence[str], pairs_file: IO[bytes], input_file: IO[bytes]
) -> tuple[str, int]:
    """Write the pairs and what the judge gets of them; return the latter's digest and number.

    Prompts that were left out for want of money are no pairs: they say nothing about a model.

    Raises:
        BudgetError: There are no pairs for want of money.
        ResponsesError: Too many responses of a model cannot be used.
    """
    from include.generate import Tally
    from include.pairs import judge_input, make_pairs

    tallies = [Tally(), Tally()]
    sha256, count, left_out, pairs_there = hashlib.sha256(), 0, 0, 0
    for prompts, *answers in _answered(run, models):
        for found, counted in zip(answers, tallies, strict=True):
            for prompt in prompts:
                counted.add(found[prompt.prompt_id])
        asked = [p for p in prompts if not any(each[p.prompt_id].left_out for each in answers)]
        left_out, pairs_there = left_out + len(prompts) - len(asked), pairs_there + len(asked)
        pairs = make_pairs(asked, *answers)
        pairs_file.write(storage.to_lines(map(dataclasses.asdict, pairs)))
        body = judge_input(pairs)
        input_file.write(body)
        sha256.update(body)
        count += sum(pair.status == "judged" for pair in pairs)
    for model, counted in zip(models, tallies, strict=True):
        problem = counted.problem(model, run.config.generation.max_error_rate)
        if problem:
            raise ResponsesError(f"{problem}\nClear its generate or batch tasks to ask again.")
    if left_out and not pairs_there:
        raise BudgetError(
            f"the budget was reached before any prompt was asked of both {' and '.join(models)}"
        )
    return sha256.hexdigest(), count


Answers = dict[str, Response]
"""By prompt id."""


def _answered(run: Run, models: Sequence[str]) -> Iterator[tuple[list[Prompt], Answers, Answers]]:
    """Yield the prompts block by block, with what two models answer.

    Raises:
        ResponsesError: A model was not asked one of them under the run's present config.
    """
    settings = [asking.settings_of(run, run.model(model)) for model in models]
    parts = [ledger.Parts(run.folder, model) for model in models]
    for start, prompts in run.blocks():
        both = [
            ledger.current(stored, digest, prompts, start)
            for stored, digest in zip(parts, settings, strict=True)
        ]
        for model, found in zip(models, both, strict=True):
            for prompt in prompts:
                if prompt.prompt_id not in found:
                    raise _not_asked(model, prompt)
        yield prompts, both[0], both[1]


def _not_asked(model: str, prompt: Prompt) -> ResponsesError:
    """Say that a task that succeeded did so under another config, or for other prompts."""
    return ResponsesError(
        f"{model} was not asked prompt {prompt.prompt_id} under the run's present config; clear "
        "its generate or batch tasks"
    )


def within_budget(run: Run, job: JudgeJob, request: dict[str, Any]) -> dict[str, Any]:
    """Note a judge job that is about to start, and limit its time to what the budget allows.

    Args:
        run: The run.
        job: Its record.
        request: What starts it; returned as it is where there is enough money.

    Raises:
        BudgetError: There is not even enough for the job to begin judging.
    """
    prices = run.config.prices
    if prices is None:
        return request
    key, resources = job["key"], request["ResourceConfig"]
    if run.config.budget_usd is not None:
        spent = asking.spending_of(run)
        left = spent.left_for_judge(key)
        seconds = costs.affordable_seconds(
            prices, resources["InstanceType"], resources["InstanceCount"], left
        )
        stopping = request["StoppingCondition"]
        limit = stopping["MaxRuntimeInSeconds"]
        if seconds < min(costs.LEAST_JUDGE_SECONDS, limit):
            named = costs.judged(key)
            cap_judge(run, job)
            raise BudgetError(
                f"{costs.usd(max(0.0, left))} of the budget are left to judge {named}: "
                f"{seconds:.0f} s, and a job needs {costs.LEAST_JUDGE_SECONDS} s to begin"
            )
        spending.cap(run.folder, _judge_cap(key), None)
        if seconds < limit:
            log.info("The budget allows the judge job %d s instead of %d", seconds, limit)
            stopping = {**stopping, "MaxRuntimeInSeconds": int(seconds)}
            request = {**request, "StoppingCondition": stopping}
    spending.note_job(run.folder, key, request["TrainingJobName"])
    return request


def cap_judge(run: Run, job: JudgeJob) -> None:
    """Note that there was not enough money for a judge job."""
    spent = asking.spending_of(run).spent()
    where = spending.Cap(f"the judge of {costs.judged(job['key'])}", spent)
    spending.cap(run.folder, _judge_cap(job["key"]), where)


def _judge_cap(key: str) -> str:
    return f"judge-{key}"


def summarize(run: Run, job: JudgeJob) -> str:
    """Read what the judge wrote, and count it into a comparison."""
    from include import browse, judge_output, preferences, winrate
    from include.records import GenerationErrors

    key = job["key"]
    pairs = list(run.folder.read_records(_pairs(key), Pair))
    output = None
    if job.get("job_name"):
        mark_summarized(run, job, job["job_name"])
        with _archive(run.folder, key, job["job_name"]) as archive:
            output = judge_output.read(archive, pairs)
    if key == ANCHORS:
        return _summarize_anchors(run, job, pairs, output)
    if key == CANARIES:
        return _summarize_canaries(run, pairs, output)
    pairing = run.config.pairing(key)
    if output and not run.config.store_text:
        output = dataclasses.replace(output, rubric=texts.scores_only(output.rubric))
    comparison = winrate.compare(
        baseline=pairing.baseline,
        candidate=pairing.candidate,
        prompts=len(pairs),
        generation_errors=GenerationErrors(
            baseline=sum(pair.baseline is None for pair in pairs),
            candidate=sum(pair.candidate is None for pair in pairs),
        ),
        pairs=pairs,
        output=output,
        confidence_level=run.config.confidence_level,
        candidates=len(run.config.candidates),
        min_consistency=run.config.judge.min_consistency,
        max_error_rate=run.config.judge.max_error_rate,
    )
    comparison = dataclasses.replace(comparison, partial=_partial(run, len(pairs)))
    judgments = output.judgments if output and output.judgments else []
    run.folder.write(
        f"judgments/{key}.parquet",
        storage.to_parquet(judgments, Judgment),
        "application/vnd.apache.parquet",
    )
    scores = output.rubric if output else []
    if scores:
        run.folder.write_records(f"judgments/{key}.rubric.jsonl", scores)
    if key == pairing.candidate:  # pages show the pairs of candidate and baseline
        resolved = preferences.resolve_pairs(pairs, judgments)
        browse.write(run.folder, key, resolved, scores, with_texts=run.config.store_text)
    log.info(comparison.sentence)
    return run.folder.write(
        _comparison(key),
        json.dumps(
            {
                "comparison": dataclasses.asdict(comparison),
                "warnings": [dataclasses.asdict(w) for w in output.warnings] if output else [],
                "job_arn": job.get("job_arn"),
                "image": job.get("image"),
            }
        ),
    )


def _summarize_anchors(
    run: Run, job: JudgeJob, pairs: Sequence[Pair], output: JudgeOutput | None
) -> str:
    """Keep what the judge said about the anchors beside that of other runs."""
    from include import drift, preferences
    from include.records import JudgeImage, JudgeRound

    if output is None or output.judgments is None:
        raise ResultsError("the judge left no details, so nothing is known of single anchor pairs")
    resolved = preferences.resolve_pairs(pairs, output.judgments)
    rounds = drift.Rounds(run.output, pairs, run.folder.read(storage.RECIPE))
    return rounds.add(
        JudgeRound(
            started_at=run.record["started_at"],
            run_folder=run.folder.uri,
            image=JudgeImage(**job["image"]),
            preferences={each.pair.prompt_id: each.preference for each in resolved},
        )
    )


def _summarize_canaries(run: Run, pairs: Sequence[Pair], output: JudgeOutput | None) -> str:
    """Keep which canaries the judge was right on."""
    from include import canaries, preferences

    if output and output.judgments is None:
        raise ResultsError("the judge left no details, so nothing is known of single canary pairs")
    judgments = output.judgments if output and output.judgments else []
    found = canaries.screens(preferences.resolve_pairs(pairs, judgments))
    for screen in found:
        log.log(INFO if screen.passed else WARNING, "%s", screen.text)
    body = json.dumps([dataclasses.asdict(screen) for screen in found])
    return run.folder.write(_comparison(CANARIES), body)


def _partial(run: Run, pairs: int) -> str | None:
    """Say how many prompts were left out for want of money, if any were."""
    left_out = run.index()["count"] - pairs if run.config.budget_usd else 0
    if not left_out:
        return None
    return f"{left_out} of {run.index()['count']} prompts were left out when the budget was reached"


def mark_summarized(run: Run, job: JudgeJob, job_name: str) -> None:
    """Note that a judge job has been handed on, before anything of it is read."""
    run.folder.write(_used(job, job_name), b"", "text/plain")


def is_summarized(run: Run, job: JudgeJob, job_name: str) -> bool:
    """Whether `summarize` has begun to read a job: its judge task had succeeded by then.

    So a judge task that runs again on the same input was cleared on purpose, and wants another job.
    Where the input was written anew, because an earlier task was cleared, the job still serves.
    One whose output is gone (the run keeps no texts, or it has expired) serves nobody any more.
    """
    used = run.folder.names(_used(job, job_name))
    return bool(used) or not _archives(run.folder, job["key"], job_name)


def _used(job: JudgeJob, job_name: str) -> str:
    return f"judge/{job['key']}/{job_name}/summarized-{job['token']}"


def forget_comparison(run: Run, key: str) -> None:
    """Take back a comparison that is about to be made anew: if that fails, there is none."""
    if run.folder.names(_comparison(key)):
        run.folder.write(_comparison(key), b"null")


def _comparison(key: str) -> str:
    return f"comparisons/{key}.json"


def _archive(folder: RunFolder, key: str, job_name: str) -> Any:
    """Open the archive that a judge job left, streamed to a temporary file."""
    found = _archives(folder, key, job_name)
    if not found:
        home = folder.at(f"judge/{key}/{job_name}/")
        raise ResultsError(f"judge job {job_name} left no archive below {home}")
    preferred = [name for name in found if name.endswith("/output.tar.gz")]
    return folder.open(preferred[0] if preferred else found[0])


def _archives(folder: RunFolder, key: str, job_name: str) -> list[str]:
    there = folder.names(f"judge/{key}/{job_name}/")
    return [name for name in there if name.endswith(".tar.gz")]


def _pairs(key: str) -> str:
    return f"pairs/{key}/pairs.jsonl"


def report(run: Run) -> str:
    """Put the comparisons together: summary.json, charts and report.html.

    Runs whatever happened before it: what there is of a run is never lost.
    """
    from include import publish

    return publish.publish(
        run.config,
        run.folder,
        dag_id=run.record["dag_id"],
        run_id=run.record["run_id"],
        started_at=run.record["started_at"],
        uses=_uses(run),
    )


def _uses(run: Run) -> list[costs.Use] | None:
    """Return what the run has used; None without prices, or where AWS does not tell."""
    from botocore.exceptions import BotoCoreError, ClientError

    if run.config.prices is None:
        return None
    try:
        return asking.spending_of(run).uses()
    except (BotoCoreError, ClientError):
        log.exception("What the run has cost cannot be counted")
        return None


def approval(run: Run, summary_uri: str | None) -> Approval | None:
    """Return what a person is asked about the gate; None if nobody is asked."""
    if summary_uri is None:
        return None
    summary = json.loads(run.folder.read(storage.SUMMARY))
    decision = summary["gate"]
    if summary["status"] != "complete" or _action(run, decision["outcome"]) != "approve":
        return None
    sentences = [comparison["sentence"] for comparison in summary["comparisons"]]
    return Approval(
        subject=f"{run.config.evaluation}: the gate says {decision['outcome']}",
        body="\n\n".join(
            [decision["reason"], *sentences, f"Report: {run.folder.at(storage.REPORT)}"]
        ),
        hours=run.config.gate.approval_hours,
    )


def gate(run: Run, summary_uri: str | None, approved: bool | None = None) -> Outcome:
    """End the run: act on the verdict, fail if it is not complete or the gate says so.

    A run that passes, that a person approved or that no gate was asked about is what later runs
    are compared with.

    The texts of a run that keeps none are removed first, whatever the verdict is.

    Args:
        run: The run.
        summary_uri: What `report` returned; None if it did not run.
        approved: Whether a person who was asked said yes; None if nobody has answered.

    Returns:
        What an asset event tells of the run.

    Raises:
        ErasureError: Texts that are not to be kept are still there.
        ResultsError: There is no verdict, or one that fails the run.
    """
    from include import history

    if not run.config.store_text:
        removed = texts.remove(run.folder)
        log.info("Texts removed: %d objects, %d bytes", removed.objects, removed.bytes)
    run.folder.write(storage.ENDED, json.dumps({"run_id": run.record["run_id"]}))

    if summary_uri is None:
        raise ResultsError("the run was ended before its report, so there is no verdict")
    summary = json.loads(run.folder.read(storage.SUMMARY))
    decision = summary["gate"]
    for comparison in summary["comparisons"]:
        log.info(comparison["sentence"])
    if summary["status"] != "complete":
        raise ResultsError(f"the run is {summary['status']}: {'; '.join(_missing(summary))}")
    action = _action(run, decision["outcome"])
    if action == "fail":
        raise ResultsError(f"the gate says {decision['outcome']}: {decision['reason']}")
    if action == "approve" and not approved:
        raise ResultsError(
            f"the gate says {decision['outcome']}, and nobody approved: {decision['reason']}"
        )
    log.info("Gate: %s. %s", decision["outcome"], decision["reason"])
    if decision["outcome"] in ("pass", "none") or approved:
        history.accept(run.folder, run.record["started_at"])
    return Outcome(
        evaluation=run.config.evaluation,
        run_id=run.record["run_id"],
        gate=decision["outcome"],
        approved=bool(approved),
        reason=decision["reason"],
        verdicts={each["candidate"]: each["verdict"] for each in summary["comparisons"]},
        win_rates={
            each["candidate"]: [each["win_rate"][key] for key in ("estimate", "low", "high")]
            for each in summary["comparisons"]
        },
        summary=run.folder.at(storage.SUMMARY),
        report=run.folder.at(storage.REPORT),
    )


def _action(run: Run, outcome: str) -> str | None:
    wanted = {"fail": run.config.gate.on_fail, "inconclusive": run.config.gate.on_inconclusive}
    return wanted.get(outcome)


def _missing(summary: dict[str, Any]) -> list[str]:
    codes = ("capped", "comparison_missing")
    return [w["message"] for w in summary["warnings"] if w["code"] in codes]
