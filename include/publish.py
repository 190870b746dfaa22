"""A run folder with comparisons in, summary.json, charts and report.html in it out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from include import (
    board,
    charts,
    costs,
    drift,
    evidence,
    examples,
    gate,
    history,
    human,
    judge,
    labels,
    ledger,
    model_summary,
    overview,
    paired,
    parity,
    recipes,
    reconcile,
    report,
    screens,
    second_judge,
    spending,
    storage,
    trend,
)
from include.config import CANARIES, Model, ResponsesModel, RunConfig
from include.records import (
    Board,
    Comparison,
    Cost,
    EarlierRun,
    Gate,
    JudgeChange,
    JudgeImage,
    ModelSummary,
    Notice,
    Prompt,
    Response,
    RunStatus,
    Screen,
    Summary,
    SummaryEnvironment,
    SystemPrompt,
)
from include.storage import RunFolder
from include.wording import listed

SCHEMA_VERSION = "1.0"
PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "boto3", "nova-judge-airflow")

STALE = "labels_stale"

COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)
SUMMARY: TypeAdapter[Summary] = TypeAdapter(Summary)

CONTENT_TYPES = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv; charset=utf-8"}


def publish(
    config: RunConfig,
    folder: RunFolder,
    *,
    dag_id: str,
    run_id: str,
    started_at: str,
    uses: Sequence[costs.Use] | None = None,
) -> str:
    """Write what a person and a program want to know of a run.

    A candidate without a comparison is a warning and makes the run partial, or failed if there is
    no comparison at all; a budget that stopped it makes it capped. What there is, is published,
    people's labels included; those that have become stale are a warning.

    Args:
        config: Of the run.
        folder: Of the run.
        dag_id: Of the run.
        run_id: Of the run.
        started_at: ISO 8601.
        uses: What the run has used; None: nobody knows.

    Returns:
        The URI of summary.json.
    """
    output = RunFolder(folder.s3, config.environment.output_s3_uri)
    index = folder.read_json(storage.PROMPTS) or {}
    results = _results(config, folder)
    models = _models(config, folder, index)
    screened = [*_canaries(folder), *screens.of_responses(models)]
    if not config.store_text:
        models = [model_summary.without_texts(model) for model in models]
    accepted = history.last_accepted(folder, started_at)
    earlier = SUMMARY.validate_json(accepted.read(storage.SUMMARY)) if accepted else None
    comparisons = _comparisons(config, folder, results, screened, accepted, earlier)
    recipe, image = folder.read(storage.RECIPE), _judge_image(config, results)
    judge_change = drift.since_accepted(
        folder,
        output,
        started_at=started_at,
        recipe=recipe,
        image=image,
        accepted=earlier,
        margin=config.gate.margin,
        confidence_level=config.confidence_level,
    )
    digest = hashlib.sha256(recipe).hexdigest()
    cost, about_cost = _cost(config, folder, uses)
    capped = _capped(config, folder, cost)
    decision = _gate(
        config,
        comparisons,
        first=accepted is None,
        judge_in_doubt=drift.doubt(earlier, image, digest, judge_change),
        capped=capped,
    )
    ranked, about_board = _board(config, folder, comparisons)
    drawn = charts.draw(comparisons, decision.threshold, ranked)
    jobs = _judge_jobs(config, folder, results)
    provenance = _provenance(config, folder, index, image, digest, jobs)
    comparisons, stale = _with_labels(folder, comparisons, config.evaluation, provenance)
    summary = Summary(
        schema_version=SCHEMA_VERSION,
        status="capped" if capped else _status(config, comparisons),
        evaluation=config.evaluation,
        dag_id=dag_id,
        run_id=run_id,
        started_at=started_at,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=_environment(config),
        provenance=provenance,
        gate=decision,
        warnings=[
            *([Notice("capped", capped)] if capped else []),
            *about_cost,
            *_missing(config, comparisons),
            *_without_canaries(config, screened),
            *_without_second(config, comparisons),
            *_notices(folder, index),
            *parity.differences(models),
            *parity.asymmetries(models),
            *(notice for model in models for notice in model_summary.flags(model)),
            *_from_judge(comparisons, results),
            *_judge_moved(results, judge_change),
            *about_board,
            *stale,
        ],
        cost=cost,
        artifacts={
            "config": folder.at(storage.CONFIG),
            "report": folder.at(storage.REPORT),
            **{Path(n).stem: folder.at(n) for n in drawn.files if n.endswith(".png")},
        },
        comparisons=comparisons,
        models=models,
        judge_change=judge_change,
        screens=screened,
        store_text=config.store_text,
        board=ranked,
    )
    if accepted and earlier:
        summary = dataclasses.replace(summary, accepted=_accepted(accepted, earlier, summary))
    for name, file in drawn.files.items():
        folder.write(name, file, CONTENT_TYPES[name.rpartition(".")[2]])
    _write_report(summary, folder, drawn.drawings)
    trend.write(output, summary, folder)
    overview.add(output, trend.rows(summary, folder))
    return _write_summary(summary, folder)


def _comparisons(
    config: RunConfig,
    folder: RunFolder,
    results: Sequence[dict[str, Any]],
    screened: Sequence[Screen],
    accepted: RunFolder | None,
    earlier: Summary | None,
) -> list[Comparison]:
    """Return the comparisons with what screens, the second judge and the accepted run say."""
    found = [COMPARISON.validate_python(result["comparison"]) for result in results]
    found = screens.applied(found, screened)
    found = [_with_second(config, folder, each) for each in found]
    if accepted and earlier:
        found = [_with_change(config, folder, each, accepted, earlier) for each in found]
    return found


def _environment(config: RunConfig) -> SummaryEnvironment:
    where = config.environment
    return SummaryEnvironment(where.name, where.kind, where.account_id, where.region)


def publish_labels(folder: RunFolder) -> Summary:
    """Put people's labels into summary and report of a run; all else stays what the run has said.

    Args:
        folder: Of a run that has a summary.

    Returns:
        The summary as it is now.
    """
    summary = SUMMARY.validate_json(folder.read(storage.SUMMARY))
    comparisons, stale = _with_labels(
        folder, summary.comparisons, summary.evaluation, summary.provenance
    )
    kept = [warning for warning in summary.warnings if warning.code != STALE]
    summary = dataclasses.replace(summary, comparisons=comparisons, warnings=[*kept, *stale])
    drawn = charts.draw(comparisons, summary.gate.threshold, summary.board)
    _write_report(summary, folder, drawn.drawings)
    _write_summary(summary, folder)
    return summary


def _write_report(summary: Summary, folder: RunFolder, drawings: Sequence[charts.Drawing]) -> None:
    page = report.render(summary, drawings=drawings, examples=_examples(summary, folder))
    body = page.encode("utf-8", "replace")  # texts may hold half a character
    folder.write(storage.REPORT, body, "text/html; charset=utf-8")


def _write_summary(summary: Summary, folder: RunFolder) -> str:
    body = json.dumps(dataclasses.asdict(summary), indent=2, allow_nan=False)
    return folder.write(storage.SUMMARY, body)


def _with_labels(
    folder: RunFolder,
    comparisons: Sequence[Comparison],
    evaluation: str,
    provenance: dict[str, Any],
) -> tuple[list[Comparison], list[Notice]]:
    """Add what people's labels say, where there are any that are not stale."""
    found, notices = [], []
    for comparison in comparisons:
        name = comparison.candidate
        stored = labels.stored(folder, name)
        result = stale = None
        if stored and comparison.evidence == "aggregate":
            stale = "the judge has left no details per pair"
        elif stored:
            about = labels.judged(evaluation, provenance, comparison.baseline, name)
            stale = labels.why_stale(stored, about, evidence.resolved_pairs(folder, name))
        if stored and not stale:
            result = human.summarize(stored, evidence.resolved_pairs(folder, name), comparison)
        if stale:
            notices.append(Notice(STALE, f"{name}: people's labels are stale: {stale}"))
        found.append(dataclasses.replace(comparison, human=result))
    return found, notices


def _results(config: RunConfig, folder: RunFolder) -> list[dict[str, Any]]:
    found = [folder.read_json(f"comparisons/{each.name}.json") for each in config.candidates]
    return [result for result in found if result is not None]  # null: taken back, to be made anew


def _canaries(folder: RunFolder) -> list[Screen]:
    """Return what the canary pairs say of the judge; nothing where none were judged."""
    return [Screen(**each) for each in folder.read_json(f"comparisons/{CANARIES}.json") or []]


def _with_second(config: RunConfig, folder: RunFolder, comparison: Comparison) -> Comparison:
    """Add what the second judge says, if both left preferences of single pairs."""
    key = f"~{comparison.candidate}"
    found = folder.read_json(f"comparisons/{key}.json")
    if config.judge.second is None or found is None:
        return comparison
    second = COMPARISON.validate_python(found["comparison"])
    if "aggregate" in (comparison.evidence, second.evidence):
        return comparison
    run = recipes.from_yaml(folder.read(storage.SECOND_RECIPE))
    said = second_judge.compare_judges(
        evidence.resolved_pairs(folder, comparison.candidate),
        evidence.resolved_pairs(folder, key),
        recipe=f"{run['run']['model_type']}, {run['evaluation']['task']}",
        found=second,
        confidence_level=config.confidence_level,
    )
    return dataclasses.replace(comparison, second=said)


def _without_second(config: RunConfig, comparisons: Sequence[Comparison]) -> Iterator[Notice]:
    for each in comparisons:
        if config.judge.second and each.second is None:
            message = f"{each.candidate}: what the second judge says is not known; see its tasks"
            yield Notice("second_judge_missing", message)


def _without_canaries(config: RunConfig, screened: Sequence[Screen]) -> Iterator[Notice]:
    known = [each for each in screened if each.model is None and each.passed is not None]
    if config.judge.canaries and not known:
        message = "canaries were asked for, and none has a preference; see their judge's tasks"
        yield Notice("canaries_missing", message)


def _models(config: RunConfig, folder: RunFolder, index: dict[str, Any]) -> list[ModelSummary]:
    loaded = index.get("system_prompt")
    system = parity.system_prompt(config.dataset, SystemPrompt(**loaded) if loaded else None)
    return [
        model_summary.summarize(
            _responses(folder, index, model.name),
            name=model.name,
            role="baseline" if model is config.baseline else "candidate",
            provider=model.provider,
            model_id=model.target,
            settings=parity.settings(model, config.dataset, system),
            prompts=index.get("count"),
        )
        for model in config.models
    ]


def _responses(folder: RunFolder, index: dict[str, Any], model: str) -> Iterator[Response]:
    """Yield one response per prompt, with the attempts of all its tries; one block at a time."""
    asked, parts = ledger.read_settings(folder, model), ledger.Parts(folder, model)
    settings = None if asked is None else ledger.digest(asked)
    for start in index.get("blocks", []):
        prompts = folder.read_records(f"prompts/{start:06d}.jsonl", Prompt)
        keys = {each.prompt_id: settings and ledger.key(settings, each) for each in prompts}
        tries = [
            each
            for each in parts.read(start, start + len(keys))
            if each.prompt_id in keys and keys[each.prompt_id] in (None, each.key)
        ]
        attempts: Counter[str] = Counter()
        for each in tries:
            attempts[each.prompt_id] += each.attempts
        for response in ledger.latest(tries).values():
            if response.left_out:
                continue  # nobody asked: no failure of the model
            yield dataclasses.replace(response, attempts=attempts[response.prompt_id])


def _cost(
    config: RunConfig, folder: RunFolder, uses: Sequence[costs.Use] | None
) -> tuple[Cost | None, list[Notice]]:
    """Return what the run has cost, and what keeps that from being known."""
    if config.prices is None:
        return None, []
    estimated = (folder.read_json(storage.ESTIMATE) or {}).get("estimated")
    return costs.cost(config.prices, estimated, uses)


def _capped(config: RunConfig, folder: RunFolder, cost: Cost | None) -> str | None:
    """Say where the run stopped because of its budget, and what it has spent; None: nowhere."""
    caps = spending.caps(folder) if config.budget_usd else []
    if not caps or config.budget_usd is None:
        return None
    spent = cost.actual if cost and cost.actual is not None else max(cap.spent for cap in caps)
    where = ", ".join(dict.fromkeys(cap.where for cap in caps))
    return (
        f"The budget stopped the run at {where}: {costs.usd(spent)} of "
        f"{costs.usd(config.budget_usd)} are spent."
    )


def _status(config: RunConfig, comparisons: Sequence[Comparison]) -> RunStatus:
    if len(comparisons) == len(config.candidates):
        return "complete"
    return "partial" if comparisons else "failed"


def _gate(
    config: RunConfig,
    comparisons: Sequence[Comparison],
    *,
    first: bool,
    judge_in_doubt: str | None,
    capped: str | None,
) -> Gate:
    wanted = config.gate
    if capped:
        return Gate("none" if wanted.rule == "none" else "inconclusive", capped)
    if not comparisons:
        undecided = wanted.rule != "none"
        return Gate("inconclusive" if undecided else "none", "There is no comparison to decide on.")
    decided = gate.decide_gate(
        comparisons,
        wanted.rule,
        wanted.margin,
        by_category=wanted.by_category,
        first=first,
        judge_in_doubt=judge_in_doubt,
    )
    missing = [each.message for each in _missing(config, comparisons)]
    if decided.outcome == "pass" and missing:
        return dataclasses.replace(decided, outcome="inconclusive", reason="; ".join(missing) + ".")
    return decided


def _board(
    config: RunConfig, folder: RunFolder, comparisons: Sequence[Comparison]
) -> tuple[Board | None, list[Notice]]:
    """Put all models on one scale where several comparisons know the preference of each pair."""
    between, notices = _between_candidates(config, folder)
    found = {**{each.candidate: each for each in comparisons}, **between}
    if len(found) < 2 or any(each.evidence == "aggregate" for each in found.values()):
        return None, notices
    scores = [
        board.scores_of(each.baseline, each.candidate, evidence.resolved_pairs(folder, key))
        for key, each in found.items()
    ]
    baseline = config.baseline.name
    alone = board.unconnected(scores, baseline)
    if alone:
        message = f"there is no board of all models: no preference links {listed(alone)} to"
        return None, [*notices, Notice("no_board", f"{message} {baseline}")]
    doubts = (
        f"comparing {each.candidate} with {each.baseline}, {each.unreliable}"
        for each in found.values()
        if each.unreliable
    )
    ranked = board.rank(
        scores,
        baseline=baseline,
        confidence_level=config.confidence_level,
        doubt=next(doubts, None),
    )
    return ranked, notices


def _between_candidates(
    config: RunConfig, folder: RunFolder
) -> tuple[dict[str, Comparison], list[Notice]]:
    """Return the comparisons of candidates with each other by their keys, and which are missing."""
    found, notices = dict[str, Comparison](), list[Notice]()
    for each in config.pairings:
        if each.baseline == config.baseline.name:
            continue
        result = folder.read_json(f"comparisons/{each.key}.json")
        if result is None:
            message = (
                f"{each.candidate} was not compared with {each.baseline}; see its failed tasks"
            )
            notices.append(Notice("comparison_missing", message))
        else:
            found[each.key] = COMPARISON.validate_python(result["comparison"])
    return found, notices


def _missing(config: RunConfig, comparisons: Sequence[Comparison]) -> list[Notice]:
    compared = {comparison.candidate for comparison in comparisons}
    return [
        Notice("comparison_missing", f"{model.name} was not compared; see its failed tasks")
        for model in config.candidates
        if model.name not in compared
    ]


def _notices(folder: RunFolder, index: dict[str, Any]) -> list[Notice]:
    """Return what was noted while prompts and responses were read."""
    noted = [index.get("notices", []), *(folder.read_json(n) for n in folder.names("notices/"))]
    return [Notice(**notice) for notices in noted for notice in notices]


def _from_judge(
    comparisons: Sequence[Comparison], results: Sequence[dict[str, Any]]
) -> list[Notice]:
    noted = [Notice(**warning) for result in results for warning in result["warnings"]]
    differing = [
        Notice("nova_differs", f"{comparison.candidate}: {row.metric}: {row.note}")
        for comparison in comparisons
        for row in reconcile.mismatches(comparison)
    ]
    return [*noted, *differing]


def _digests(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return the digests that the judge's image had for the candidates, each once."""
    found = ((result.get("image") or {}).get("digest") for result in results)
    return list(dict.fromkeys(filter(None, found)))


def _judge_image(config: RunConfig, results: Sequence[dict[str, Any]]) -> JudgeImage:
    digests = _digests(results)
    return JudgeImage(judge.image_uri(config.environment), digests[-1] if digests else None)


def _judge_moved(results: Sequence[dict[str, Any]], change: JudgeChange | None) -> Iterator[Notice]:
    digests = _digests(results)
    if len(digests) > 1:
        message = "the judge's image changed while the run went on: candidates had different ones"
        yield Notice("judge_image_moved", message)
    if change and change.verdict == "changed":
        yield Notice("judge_drift", change.sentence)


def _provenance(
    config: RunConfig,
    folder: RunFolder,
    index: dict[str, Any],
    image: JudgeImage,
    recipe: str,
    jobs: dict[str, str | None],
) -> dict[str, Any]:
    return {
        "digests": {
            "config": config.digest(),
            "dataset": index.get("sha256"),
            "recipe": recipe,
            "models": {model.name: _behind(folder, model) for model in config.models},
        },
        "judge_image": image.uri,
        "judge_image_digest": image.digest,
        "models": {model.name: model.target for model in config.models},
        "judge_jobs": jobs,
        "versions": {name: _version(name) for name in PACKAGES},
        "git_sha": _git_sha(),
    }


def _judge_jobs(
    config: RunConfig, folder: RunFolder, results: Sequence[dict[str, Any]]
) -> dict[str, str | None]:
    """Return the ARNs of the judge jobs behind all verdicts, by their keys; None: no job."""
    jobs = {each["comparison"]["candidate"]: each["job_arn"] for each in results}
    for pairing in config.pairings[len(config.candidates) :]:  # those beside the candidates' own
        stored = folder.read_json(f"comparisons/{pairing.key}.json")
        if stored:
            jobs[pairing.key] = stored["job_arn"]
    return jobs


def _behind(folder: RunFolder, model: Model) -> str | None:
    """Return a digest of all that shapes a model's responses; None: it was not asked."""
    asked = ledger.read_settings(folder, model.name)
    return None if asked is None or isinstance(model, ResponsesModel) else ledger.digest(asked)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_sha() -> str | None:
    """Return the commit of this code, None where it does not run from a git checkout."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _with_change(
    config: RunConfig,
    folder: RunFolder,
    comparison: Comparison,
    accepted: RunFolder,
    earlier: Summary,
) -> Comparison:
    """Add what has changed since the accepted run, if both know the preference of each pair."""
    name = comparison.candidate
    known = [each for each in earlier.comparisons if each.candidate == name]
    if (
        comparison.evidence == "aggregate"
        or not known
        or known[0].evidence == "aggregate"
        or evidence.stored_pairs(accepted, name) is None
    ):
        return comparison
    question: dict[str, Any] = {
        "candidate": name,
        "confidence_level": config.confidence_level,
        "candidates": len(config.candidates),
    }
    both = [evidence.resolved_pairs(each, name) for each in (accepted, folder)]
    rule = gate.RULES.get(config.gate.rule)
    if not (rule and rule.since_accepted and config.gate.by_category):
        return dataclasses.replace(comparison, change=paired.compare_runs(*both, **question))
    pairs = [list(each) for each in both]  # looked at twice
    change = dataclasses.replace(
        paired.compare_runs(*pairs, **question),
        by_category=paired.compare_by_category(*pairs, **question),
    )
    return dataclasses.replace(comparison, change=change)


def _accepted(accepted: RunFolder, earlier: Summary, summary: Summary) -> EarlierRun:
    found = history.differences(earlier, summary)
    return EarlierRun(earlier.run_id, earlier.started_at, accepted.uri, found)


def _examples(summary: Summary, folder: RunFolder) -> list[report.ReportPairs]:
    """Pick the pairs that the report shows; of all others, no text stays in memory.

    Where the run keeps no texts, pairs are named and none of their texts is shown.
    """
    shown: defaultdict[examples.Kind, list[report.ReportPair]] = defaultdict(list)
    totals: Counter[examples.Kind] = Counter()
    for comparison in summary.comparisons:
        name, several = comparison.candidate, len(summary.comparisons)
        samples = examples.pick(evidence.resolved_pairs(folder, name), candidates=several)
        ids = {resolved.pair.prompt_id for sample in samples for resolved in sample.pairs}
        scores = evidence.rubric_scores(folder, name, ids)
        for sample in samples:
            totals[sample.kind] += sample.total
            shown[sample.kind] += [
                report.report_pair(
                    resolved,
                    name,
                    scores.get(resolved.pair.prompt_id),
                    with_texts=summary.store_text,
                )
                for resolved in sample.pairs
            ]
    return [
        report.ReportPairs(kind, shown[kind], totals[kind])
        for kind in examples.SHOWN
        if totals[kind]
    ]
