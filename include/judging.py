"""The steps of a run that are about its judge jobs: pairs in, the judge's input and verdicts out.

A job is told by its key (`config.Pairing`): candidates, anchors, canaries and a second judge live
the same life. As in `steps`, whose other half this is, nothing here imports Airflow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from logging import INFO, WARNING, getLogger
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from uuid import uuid4

from include import account, asking, costs, judge, ledger, names, recipes, spending, storage, texts
from include.config import ANCHORS, CANARIES, RunConfig, is_second
from include.errors import BudgetError, ResponsesError, ResultsError
from include.records import JudgeOutput, Judgment, Pair, Prompt, Response
from include.runs import Generated, JudgeJob, Run
from include.storage import RunFolder

log = getLogger(__name__)


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
            anchors = list(run.folder.read_records(pairs_name(ANCHORS), Pair))
            sha256, count = _write_input(anchors, input_file)
        else:
            if key == CANARIES:
                sha256, count = _write_canaries(run, both, pairs_file, input_file)
            else:
                sha256, count = _write_pairs(run, both, pairs_file, input_file)
            run.folder.upload(pairs_name(key), pairs_file, "application/x-ndjson")
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
        recipe_uri=run.folder.at(storage.RECIPES[is_second(key)]),
        output_uri=run.folder.at(f"judge/{key}"),
        max_runtime=judge.max_runtime_seconds(count, run.config.judge.max_runtime_minutes),
        tags=run.tags,
    )
    return {
        "key": key,
        "token": uuid4().hex,
        "pairs": count,
        "request": request,
        "image": dataclasses.asdict(judge.image(environment, run.client("ecr", **account.PATIENT))),
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
    from include.pairs import LONG, is_long, judge_input, make_pairs

    tallies = [Tally(), Tally()]
    sha256, count, left_out, pairs_there, long = hashlib.sha256(), 0, 0, 0, 0
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
        long += sum(map(is_long, pairs))
    if long:
        log.warning("%d pairs have more than %d tokens; the judge may refuse some", long, LONG)
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
    """Read what the judge wrote, and count it into a comparison.

    Args:
        run: The run.
        job: What `write_judge_input` returned, with the job that has judged it, if one had to.

    Returns:
        The URI of what is known now.

    Raises:
        ResultsError: There is no archive, or nothing in it that can be counted.
    """
    from include import browse, judge_output, preferences, winrate
    from include.records import GenerationErrors

    key = job["key"]
    pairs = list(run.folder.read_records(pairs_name(key), Pair))
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
        raise _no_details(output, "anchor")
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


def _no_details(output: JudgeOutput | None, kind: str) -> ResultsError:
    """Say why nothing is known of single pairs."""
    told = "; ".join(notice.message for notice in output.warnings) if output else ""
    why = told or "the judge left no details"
    return ResultsError(f"nothing is known of single {kind} pairs: {why}")


def _summarize_canaries(run: Run, pairs: Sequence[Pair], output: JudgeOutput | None) -> str:
    """Keep which canaries the judge was right on."""
    from include import canaries, preferences

    if output and output.judgments is None:
        raise _no_details(output, "canary")
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


def forget_comparisons(folder: RunFolder) -> None:
    """Take back all comparisons of a run that begins anew: none of them answers its question."""
    for name in folder.names("comparisons/"):
        folder.write(name, b"null")


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


def pairs_name(key: str) -> str:
    """Return where the pairs of a judge job are kept in the run folder."""
    return f"pairs/{key}/pairs.jsonl"
