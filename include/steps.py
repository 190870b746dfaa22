"""The steps of a run, one function per task of the DAG: where stages, storage and AWS meet.

Each takes the opened run and small records, reads and writes the run folder, and returns what
the next task has to know: names and URIs, never data. Nothing here imports Airflow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import islice
from logging import getLogger
from typing import Any

from include import (
    account,
    asking,
    costs,
    judge,
    judging,
    names,
    recipes,
    spending,
    storage,
    texts,
)
from include.config import (
    ANCHORS,
    MOST_TASKS,
    AskedModel,
    Model,
    ResponsesModel,
    RunConfig,
    SageMakerModel,
)
from include.config_files import resolve_config
from include.errors import (
    ConfigError,
    DeploymentError,
    ResultsError,
)
from include.runs import (
    Approval,
    Client,
    Deployment,
    Generated,
    Outcome,
    Run,
    RunRecord,
    Shard,
    block_name,
)
from include.storage import RunFolder
from include.wording import as_markdown

log = getLogger(__name__)


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

    Raises:
        ConfigError: A key, a file that it names, the recipe, or the bucket.
        AccountError: The connection leads to another account, or nowhere.
        UnreachableError: AWS does not answer this time.
    """
    from include import preflight

    config = resolve_config(conf)
    environment = config.environment
    client = connect(environment.aws_conn_id)
    account.check(client("sts", **account.QUICK), environment)
    s3 = client("s3")
    refused = preflight.refusals(preflight.bucket(environment, s3))
    if refused:
        raise ConfigError(f"this run has nowhere to write to:\n{refused}")
    _check_channels(config)
    read = partial(storage.read_uri, s3)
    asked = [recipes.load(each.recipe, each.overrides, read=read) for each in config.judges]
    judge.image_uri(environment)
    run_slug = names.run_slug(dag_id, run_id)
    uri = f"{environment.output_s3_uri}/{config.evaluation}/{run_slug}"
    folder = RunFolder(s3, uri)
    stored = {"config": config.model_dump(mode="json", by_alias=True), "digest": config.digest()}
    folder.write(storage.CONFIG, json.dumps(stored, indent=2))
    judging.forget_comparisons(folder)
    for name, recipe in zip(storage.RECIPES, asked, strict=False):
        folder.write(name, recipes.to_yaml(recipe), "application/yaml")
    if not config.store_text:
        output = RunFolder(s3, environment.output_s3_uri)
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


def _check_channels(config: RunConfig) -> None:
    """Refuse alerts that nobody would get, before there is something to tell."""
    wanted = any(alert.channel == "slack" for alert in config.alerts)
    if wanted and find_spec("airflow.providers.slack") is None:
        raise ConfigError(
            "alerts: channel slack needs the package apache-airflow-providers-slack, which is not "
            "installed in this Airflow"
        )


def load_prompts(run: Run) -> list[Shard]:
    """Read the data set into `prompts/` and cut the work of every model into shards.

    Raises:
        DatasetError: A file, a row or a field of it.
    """
    from include.prompts import open_prompts

    judging.forget_comparisons(run.folder)
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
        if isinstance(model, AskedModel) and model.is_there:
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
    run.folder.write_records(judging.pairs_name(ANCHORS), pairs)
    rounds = drift.Rounds(run.output, pairs, run.folder.read(storage.RECIPE)).all()
    why = drift.why_due(
        rounds,
        judge.image(run.config.environment, run.client("ecr", **account.PATIENT)),
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

    environment = run.config.environment
    # Of what it is made, too: an endpoint that another config of this run made is not this one.
    made_of = json.dumps(deploy.requests(environment, model, name="", tags=[]), sort_keys=True)
    name = names.resource_name(run.config.evaluation, model.name, run.folder.uri, made_of)
    requests = deploy.requests(environment, model, name=name, tags=run.tags)
    found: Deployment = {"model": model.name, "endpoint_name": name, "requests": requests}
    if run.config.prices:
        found["priced"] = True
    return found


def try_endpoint(run: Run, deployment: Deployment) -> None:
    """Ask a new endpoint the first prompt: only one that answers counts as deployed.

    Raises:
        DeploymentError: It answers with an error.
    """
    model = run.model(deployment["model"])
    assert isinstance(model, AskedModel)
    answer = asking.ask_first(run, model, deployment)
    if answer.outcome == "error":
        raise DeploymentError(
            f"endpoint {deployment['endpoint_name']} is in service but does not answer: "
            f"{answer.error_type}: {answer.error_message}"
        )


def generate(run: Run, deployments: Sequence[Deployment], shard: Shard) -> Generated | None:
    """Ask one model for its responses to one shard of the prompts; return what is there now.

    None for a model that is asked by a batch job: `batch` does that.

    Raises:
        DeploymentError: The model has no endpoint.
        GenerationError: Too many of its responses cannot be used, or asking was given up.
    """
    model = run.model(shard["model"])
    deployment = next((d for d in deployments if d["model"] == model.name), None)
    if deployment is None:
        raise DeploymentError(f"{model.name} has no endpoint: its deploy task was ended by hand")
    if "error" in deployment:
        raise DeploymentError(f"{model.name} has no endpoint: {deployment['error']}")
    if isinstance(model, ResponsesModel):
        return asking.take_existing(run, model, shard)
    if asking.is_batch(model):
        log.info("%s is asked by a batch job", model.name)
        return None
    return asking.ask_shard(run, model, deployment, shard)


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
    report = f"Report: {run.folder.at(storage.REPORT)}"
    return Approval(
        subject=f"{run.config.evaluation}: the gate says {decision['outcome']}",
        body="\n\n".join(map(as_markdown, [decision["reason"], *sentences, report])),
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
    history.withdraw(run.folder)  # what an earlier pass of a cleared run came to

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
