"""The steps of a run, one function per task of the DAG: where stages, storage and AWS meet.

Each takes the opened run and small records, reads and writes the run folder, and returns what
the next task has to know: names and URIs, never data. Nothing here imports Airflow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import uuid4

from include import account, judge, names, ownership, recipes, storage
from include.config import BedrockModel, Model, ResponsesModel, RunConfig, SageMakerModel
from include.config_files import resolve_config
from include.errors import ConfigError, DeploymentError, GenerationError, ResultsError
from include.records import Judgment, Pair, Prompt
from include.storage import RunFolder

if TYPE_CHECKING:
    from include.providers import Ask

log = getLogger(__name__)

Client = Callable[..., Any]
"""Makes a boto3 client: service name, then botocore config options."""

PROMPTS = "prompts/prompts.jsonl"
RECIPE = "recipe/recipe.yaml"

PATIENT = {"retries": {"mode": "standard", "total_max_attempts": 8}, "read_timeout": 120}
"""botocore config for asking models: throttling and cut connections are tried again."""


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


class JudgeJob(TypedDict, total=False):
    """One candidate's judge job: to be run if there is a request."""

    candidate: str
    token: str
    """Differs each time that the judge's input is written."""
    pairs: int
    request: dict[str, Any] | None
    job_name: str
    job_arn: str


@dataclass(frozen=True)
class Run:
    """One run, opened: its config, its folder and the way to AWS."""

    record: RunRecord
    config: RunConfig
    folder: RunFolder
    client: Client

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

    def recipe(self) -> recipes.Recipe:
        """Return the judge's recipe, as it is sent."""
        return recipes.from_yaml(self.folder.read(RECIPE))

    def prompts(self) -> list[Prompt]:
        """Return the run's prompts."""
        return list(self.folder.read_records(PROMPTS, Prompt))


def open_run(record: RunRecord, client: Client) -> Run:
    """Open a run that `resolve` has set up."""
    folder = RunFolder(client("s3", max_pool_connections=32), record["uri"])
    config = RunConfig.model_validate(json.loads(folder.read(storage.CONFIG))["config"])
    return Run(record, config, folder, client)


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
    recipe = recipes.load(config.judge.recipe, config.judge.overrides, read=read)
    judge.image_uri(environment)
    run_slug = names.run_slug(dag_id, run_id)
    uri = f"{environment.output_s3_uri}/{config.evaluation}/{run_slug}"
    folder = RunFolder(client("s3"), uri)
    stored = {"config": config.model_dump(mode="json", by_alias=True), "digest": config.digest()}
    folder.write(storage.CONFIG, json.dumps(stored, indent=2))
    folder.write(RECIPE, recipes.to_yaml(recipe), "application/yaml")
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
    from include.prompts import load_prompts as load

    prompts = load(run.config.dataset, s3=run.folder.s3)
    run.folder.write_records(PROMPTS, prompts)
    size = run.config.generation.shard_size
    log.info("%d prompts for %d models", len(prompts), len(run.config.models))
    return [
        Shard(model=model.name, start=start, stop=min(start + size, len(prompts)))
        for model in run.config.models
        for start in range(0, len(prompts), size)
    ]


def plan(run: Run, shards: Sequence[Shard]) -> list[str]:
    """Look at the account, ask every Bedrock model one tiny question, name the candidates.

    Raises:
        ConfigError: Something that would stop the run later, when it has cost money.
    """
    from include import preflight, providers

    findings = preflight.check(run.config, run.client, run.recipe())
    for finding in findings:
        log.info("%s: %s: %s", finding.level, finding.what, finding.message)
    refused = preflight.refusals(findings)
    if refused:
        raise ConfigError(f"this run would fail:\n{refused}")
    prompt = run.prompts()[0]
    for model in run.config.models:
        if not isinstance(model, BedrockModel):
            continue
        tiny = model.parameters.model_copy(update={"max_tokens": 16})
        answer = providers.bedrock(run.client("bedrock-runtime", **PATIENT), model, tiny)(prompt)
        if answer.outcome == "error":
            raise ConfigError(
                f"model {model.name}: Bedrock refuses {model.model_id}: "
                f"{answer.error_type}: {answer.error_message}"
            )
    total = max(shard["stop"] for shard in shards)
    candidates = [model.name for model in run.config.candidates]
    log.info(
        "%d prompts x %d models = %d responses; %d judge jobs on %s, two judgments per pair",
        total,
        len(run.config.models),
        total * len(run.config.models),
        len(candidates),
        run.config.judge.instance_type,
    )
    return candidates


def reserve(run: Run, candidates: Sequence[str]) -> list[Deployment]:
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
    return {"model": model.name, "endpoint_name": name, "requests": requests}


def try_endpoint(run: Run, deployment: Deployment) -> None:
    """Ask a new endpoint the first prompt: only one that answers counts as deployed.

    Raises:
        DeploymentError: It answers with an error.
    """
    answer = _ask(run, run.model(deployment["model"]), deployment["endpoint_name"], 1)(
        run.prompts()[0]
    )
    if answer.outcome == "error":
        raise DeploymentError(
            f"endpoint {deployment['endpoint_name']} is in service but does not answer: "
            f"{answer.error_type}: {answer.error_message}"
        )


def generate(run: Run, deployments: Sequence[Deployment], shard: Shard) -> dict[str, Any]:
    """Ask one model for its responses to one shard of the prompts."""
    from include import generate as stage

    model = run.model(shard["model"])
    deployment = next(d for d in deployments if d["model"] == model.name)
    if isinstance(model, ResponsesModel):
        raise ConfigError(f"model {model.name}: provider {model.provider} cannot be asked")
    if "error" in deployment:
        raise DeploymentError(f"{model.name} has no endpoint: {deployment['error']}")
    at_once = model.limits.max_concurrency
    responses = stage.generate(
        run.folder,
        model.name,
        run.prompts()[shard["start"] : shard["stop"]],
        _ask(run, model, deployment["endpoint_name"], at_once),
        max_concurrency=at_once,
    )
    stage.check_error_rate(model.name, responses, run.config.generation.max_error_rate)
    return {"model": model.name, "responses": sum(r.usable for r in responses)}


def _ask(run: Run, model: Model, endpoint_name: str | None, connections: int) -> Ask:
    from include import providers

    if isinstance(model, BedrockModel):
        client = run.client("bedrock-runtime", max_pool_connections=connections, **PATIENT)
        return providers.bedrock(client, model, model.parameters)
    if isinstance(model, SageMakerModel) and endpoint_name:
        client = run.client("sagemaker-runtime", max_pool_connections=connections, **PATIENT)
        return providers.sagemaker(client, model, endpoint_name, model.parameters)
    raise ConfigError(f"model {model.name}: provider {model.provider} cannot be asked")


def write_judge_input(run: Run, candidate: str, generated: Iterable[Mapping[str, Any]]) -> JudgeJob:
    """Put the responses of baseline and candidate side by side and describe the judge job.

    Args:
        run: The run.
        candidate: Its name.
        generated: What the `generate` tasks that succeeded returned.

    Raises:
        GenerationError: A generate task of one of the two has not succeeded, or too many of its
            responses cannot be used.
    """
    from include.generate import check_error_rate, latest, read_responses
    from include.pairs import judge_input, make_pairs

    forget_comparison(run, candidate)
    prompts = run.prompts()
    shards = math.ceil(len(prompts) / run.config.generation.shard_size)
    succeeded = Counter(each["model"] for each in generated)
    answers = []
    for model in (run.config.baseline.name, candidate):
        if succeeded[model] < shards:
            raise GenerationError(
                f"{shards - succeeded[model]} of {shards} generate tasks of {model} have not "
                "succeeded; clear them"
            )
        responses = latest(read_responses(run.folder, model))
        if not responses:
            raise GenerationError(f"{model} answered no prompt at all; see its generate tasks")
        check_error_rate(model, list(responses.values()), run.config.generation.max_error_rate)
        answers.append(responses)
    pairs = make_pairs(prompts, *answers)
    run.folder.write_records(_pairs(candidate), pairs)
    body = judge_input(pairs)
    input_uri = run.folder.write(f"pairs/{candidate}/llm_judge.jsonl", body, "application/x-ndjson")
    count = sum(pair.status == "judged" for pair in pairs)
    if not count:
        return {"candidate": candidate, "token": uuid4().hex, "pairs": 0, "request": None}
    recipe = run.recipe()
    environment = run.config.environment
    request = judge.training_job(
        environment,
        run.config.judge,
        recipe,
        name=names.resource_name(
            run.config.evaluation,
            candidate,
            environment.account_id,
            run.folder.uri,
            recipes.to_yaml(recipe),
            hashlib.sha256(body).hexdigest(),
        ),
        input_uri=input_uri,
        recipe_uri=run.folder.at(RECIPE),
        output_uri=run.folder.at(f"judge/{candidate}"),
        max_runtime=judge.max_runtime_seconds(count, run.config.judge.max_runtime_minutes),
        tags=run.tags,
    )
    return {"candidate": candidate, "token": uuid4().hex, "pairs": count, "request": request}


def summarize(run: Run, job: JudgeJob) -> str:
    """Read what the judge wrote, and count it into a comparison."""
    from include import judge_output, winrate
    from include.records import GenerationErrors

    candidate = job["candidate"]
    pairs = list(run.folder.read_records(_pairs(candidate), Pair))
    output = None
    if job.get("job_name"):
        mark_summarized(run, job, job["job_name"])
        with _archive(run.folder, candidate, job["job_name"]) as archive:
            output = judge_output.read(archive, pairs)
    comparison = winrate.compare(
        baseline=run.config.baseline.name,
        candidate=candidate,
        prompts=len(pairs),
        generation_errors=GenerationErrors(
            baseline=sum(pair.baseline is None for pair in pairs),
            candidate=sum(pair.candidate is None for pair in pairs),
        ),
        pairs=pairs,
        output=output,
        confidence_level=run.config.confidence_level,
        min_consistency=run.config.judge.min_consistency,
        max_error_rate=run.config.judge.max_error_rate,
    )
    judgments = output.judgments if output and output.judgments else []
    run.folder.write(
        f"judgments/{candidate}.parquet",
        storage.to_parquet(judgments, Judgment),
        "application/vnd.apache.parquet",
    )
    if output and output.rubric:
        run.folder.write_records(f"judgments/{candidate}.rubric.jsonl", output.rubric)
    log.info(comparison.sentence)
    return run.folder.write(
        _comparison(candidate),
        json.dumps(
            {
                "comparison": dataclasses.asdict(comparison),
                "warnings": [dataclasses.asdict(w) for w in output.warnings] if output else [],
                "job_arn": job.get("job_arn"),
            }
        ),
    )


def mark_summarized(run: Run, job: JudgeJob, job_name: str) -> None:
    """Note that a judge job has been handed on, before anything of it is read."""
    run.folder.write(_used(job, job_name), b"", "text/plain")


def is_summarized(run: Run, job: JudgeJob, job_name: str) -> bool:
    """Whether `summarize` has begun to read a job: its judge task had succeeded by then.

    So a judge task that runs again on the same input was cleared on purpose, and wants another job.
    Where the input was written anew, because an earlier task was cleared, the job still serves.
    """
    return bool(run.folder.names(_used(job, job_name)))


def _used(job: JudgeJob, job_name: str) -> str:
    return f"judge/{job['candidate']}/{job_name}/summarized-{job['token']}"


def forget_comparison(run: Run, candidate: str) -> None:
    """Take back a comparison that is about to be made anew: if that fails, there is none."""
    if run.folder.names(_comparison(candidate)):
        run.folder.write(_comparison(candidate), b"null")


def _comparison(candidate: str) -> str:
    return f"comparisons/{candidate}.json"


def _archive(folder: RunFolder, candidate: str, job_name: str) -> Any:
    """Open the archive that a judge job left, streamed to a temporary file."""
    prefix = f"judge/{candidate}/{job_name}/"
    found = [name for name in folder.names(prefix) if name.endswith(".tar.gz")]
    if not found:
        raise ResultsError(f"judge job {job_name} left no archive below {folder.at(prefix)}")
    preferred = [name for name in found if name.endswith("/output.tar.gz")]
    return folder.open(preferred[0] if preferred else found[0])


def _pairs(candidate: str) -> str:
    return f"pairs/{candidate}/pairs.jsonl"


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
    )


def gate(run: Run, summary_uri: str | None) -> str:
    """Act on the verdict: fail the run if it is not complete or the gate says so.

    Args:
        run: The run.
        summary_uri: What `report` returned; None if it did not run.

    Raises:
        ResultsError: There is no verdict, or one that fails the run.
    """
    if summary_uri is None:
        raise ResultsError("the run was ended before its report, so there is no verdict")
    summary = json.loads(run.folder.read(storage.SUMMARY))
    decision = summary["gate"]
    for comparison in summary["comparisons"]:
        log.info(comparison["sentence"])
    if summary["status"] != "complete":
        raise ResultsError(f"the run is {summary['status']}: {'; '.join(_missing(summary))}")
    wanted = {"fail": run.config.gate.on_fail, "inconclusive": run.config.gate.on_inconclusive}
    if wanted.get(decision["outcome"]) == "fail":
        raise ResultsError(f"the gate says {decision['outcome']}: {decision['reason']}")
    log.info("Gate: %s. %s", decision["outcome"], decision["reason"])
    return str(decision["outcome"])


def _missing(summary: dict[str, Any]) -> list[str]:
    return [w["message"] for w in summary["warnings"] if w["code"] == "comparison_missing"]
