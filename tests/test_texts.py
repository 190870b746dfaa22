"""Facts about runs that keep no texts: none is left in any version, what rests on them still is."""

import io
import json
import logging
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from run_work import (
    asked,
    config,
    deployment,
    forget,
    generate,
    new_record,
    new_run,
    order,
    whole,
    write_rows,
)
from sandbox_server import ROOT, Sandbox
from summaries import Page

from include import asking, erasure, evidence, judging, ledger, runs, steps, storage, texts
from include.config_files import resolve_config
from include.errors import ConfigError, ErasureError, GenerationError, ResponsesError
from include.records import Criterion, Notice, Prompt, Response, RubricScore
from include.runs import Run
from include.storage import RunFolder

WORD = "xylophone"
"""In every prompt; the sandbox's models take it up in their responses."""


@pytest.fixture
def output(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunFolder]:
    """Where runs go: a bucket that keeps every version."""
    bucket = f"versions-{uuid4()}"
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}*"}
    sandbox.client("iam").put_role_policy(
        RoleName="nova-judge-execution",
        PolicyName=bucket,
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    uri = f"s3://{bucket}/nova"
    where = yaml.safe_load((ROOT / "dags/environments/sandbox.yaml").read_text())
    (tmp_path / "environments").mkdir()
    file = tmp_path / "environments/sandbox.yaml"
    file.write_text(yaml.safe_dump({**where, "output_s3_uri": uri}))
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(tmp_path))
    yield RunFolder(s3, uri)


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    rows = [
        {
            "id": f"p{n}",
            "prompt": f"What does {WORD} {n} sound like?",
            "kind": "odd" if n % 2 else "",
        }
        for n in range(40)
    ]
    source = write_rows(tmp_path / "prompts.jsonl", rows)

    def make(**changes: Any) -> dict[str, Any]:
        return config(source, **{"store_text": False, **changes})

    return make


def said(run: Run) -> set[str]:
    """Return every response that lies in a run folder, and every prompt."""
    responses = [
        each.text or ""
        for model in run.config.models
        for each in ledger.Parts(run.folder, model.name).read()
    ]
    return {*responses, *(prompt.text for prompt in run.prompts())}


def everything(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Yield all that S3 has of a folder, every version, archives opened."""
    for each in erasure.find(folder.s3, folder.at("")):
        found = folder.s3.get_object(Bucket=each.bucket, Key=each.key, VersionId=each.version_id)
        body = found["Body"].read()
        yield each.key, body
        if each.key.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                for member in tar:
                    if member.isfile():
                        yield f"{each.key}/{member.name}", tar.extractfile(member).read()


def holding(folder: RunFolder, words: set[str]) -> set[str]:
    """Return the names of what holds one of some texts."""
    coded = [json.dumps(word)[1:-1].encode() for word in words if word]
    home = len(storage.split_uri(folder.at(""))[1])
    return {key[home:] for key, body in everything(folder) if any(word in body for word in coded)}


def ended(sandbox: Sandbox, run: Run) -> dict[str, Any]:
    """Do all that a run does; return its summary."""
    whole(sandbox, run)
    steps.gate(run, run.folder.at(storage.SUMMARY))
    return json.loads(run.folder.read(storage.SUMMARY))


def test_when_a_run_has_ended_none_of_its_texts_is_left_in_any_version(
    sandbox: Sandbox, output: RunFolder, conf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="include")
    run = new_run(sandbox, conf())
    assert run.folder.uri.startswith(output.uri)
    whole(sandbox, run)
    words = {*said(run), WORD}
    before = holding(run.folder, words)
    assert {"prompts/000000.jsonl", "pairs/claude/pairs.jsonl", "pairs/claude/llm_judge.jsonl"} <= (
        before
    )
    assert any(name.endswith(".tar.gz") or ".tar.gz/" in name for name in before)
    steps.gate(run, run.folder.at(storage.SUMMARY))
    assert holding(run.folder, words) == set()
    assert not [name for name in run.folder.names("") if name.endswith(".tar.gz")]
    assert {"judgments/claude.parquet", "summary.json", "report.html", "prompts/index.json"} <= set(
        run.folder.names("")
    )
    assert not [line for line in caplog.messages if any(word in line for word in words if word)]


def test_a_damaged_line_does_not_keep_the_texts_from_going(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    whole(sandbox, run)
    (name, *_) = run.folder.names("responses/nova/00")
    run.folder.write(name, run.folder.read(name) + b'{"text": "Half of')
    texts.remove(run.folder)
    assert not run.folder.names("responses/nova/00")
    assert len(list(run.folder.lines("responses/nova/digests.jsonl"))) == 40


def test_charts_history_and_accepted_note_stay(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    ended(sandbox, run)
    slug = run.folder.uri.rpartition("/")[2]
    assert run.folder.names("charts/")
    assert output.names(f"history/asking/{slug}.parquet")
    assert [name for name in output.names("asking/accepted/") if slug in name]


def test_the_report_shows_no_text_says_why_and_names_lost_pairs(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    whole(sandbox, run)
    html = run.folder.read(storage.REPORT).decode()
    page = Page(html)
    assert WORD not in html and not any(text in html for text in said(run) if text)
    assert page.says("keeps no texts")
    lost = [
        row.pair.prompt_id
        for row in evidence.resolved_pairs(run.folder, "claude")
        if row.preference == "baseline" and row.consistent
    ]
    assert lost and all(page.says(prompt_id) for prompt_id in lost)
    assert json.loads(run.folder.read(storage.SUMMARY))["store_text"] is False


def test_a_later_run_is_compared_with_digests_as_with_texts(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    changes = []
    for evaluation, store_text in (("private", False), ("open", True)):
        given = conf(evaluation=evaluation, store_text=store_text)
        ended(sandbox, new_run(sandbox, given))
        weaker = {"name": "claude", "provider": "bedrock", "model_id": "us.amazon.nova-lite-v1:0"}
        later = steps.resolve(
            {**given, "candidates": [weaker]},
            dag_id="d",
            run_id="later",
            started_at="2026-11-25T06:00:00+00:00",
            connect=lambda _: sandbox.client,
        )
        summary = ended(sandbox, runs.open_run(later, sandbox.client))
        changes.append(summary["comparisons"][0]["change"])
    assert changes[0] == changes[1]
    assert changes[0]["prompts"] > 30 and changes[0]["left_out"]["different_prompt"] == 0
    assert changes[0]["worsened"] > 5


def test_another_prompt_of_the_same_id_is_seen_by_its_digest(
    sandbox: Sandbox, output: RunFolder, conf: Any, tmp_path: Path
) -> None:
    ended(sandbox, new_run(sandbox, conf()))
    rows = [{"id": f"p{n}", "prompt": f"Another {n}?"} for n in range(40)]
    other = write_rows(tmp_path / "others.jsonl", rows)
    given = conf(dataset={"source": other, "id_field": "id"})
    later = steps.resolve(
        given,
        dag_id="d",
        run_id="later",
        started_at="2026-11-25T06:00:00+00:00",
        connect=lambda _: sandbox.client,
    )
    summary = ended(sandbox, runs.open_run(later, sandbox.client))
    assert summary["comparisons"][0]["change"]["left_out"]["different_prompt"] == 40


def test_counts_come_out_the_same_from_digests(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    summary = ended(sandbox, run)
    rows = list(evidence.resolved_pairs(run.folder, "claude"))
    counts = summary["comparisons"][0]["counts"]
    assert len(rows) == counts["prompts"]
    assert sum(row.preference == "candidate" for row in rows) == counts["candidate_wins"]
    assert all(row.pair.prompt == "" and row.pair.baseline is None for row in rows)
    kept = [json.loads(line) for line in run.folder.lines("responses/nova/digests.jsonl")]
    assert len(kept) == 40 and all(len(row["sha256"]) == 64 for row in kept)
    assert not {"text", "error_message"} & set(kept[0])


def test_a_failed_run_keeps_no_texts_either(sandbox: Sandbox, output: RunFolder, conf: Any) -> None:
    run = new_run(sandbox, conf())
    generate(run, steps.load_prompts(run))
    words = {*said(run), WORD}
    with pytest.raises(Exception, match="before its report"):
        steps.gate(run, None)
    assert holding(run.folder, words) == set()
    assert run.folder.names("prompts/digests.jsonl")


def test_what_nobody_has_thought_of_goes_too(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    for name in ("judge/claude/job/debug/rows.json", "pairs/claude/more.jsonl", "dump.txt"):
        run.folder.write(name, WORD)
    key = storage.split_uri(run.folder.at("pairs/claude/pairs.jsonl"))[1]
    bucket = storage.split_uri(output.uri)[0]
    upload = output.s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    output.s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    texts.remove(run.folder)
    assert holding(run.folder, {WORD}) == set()
    assert not output.s3.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_removing_again_changes_nothing_and_adds_what_came_late(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    run.folder.write_records("prompts/000000.jsonl", [Prompt("p0", WORD)])
    run.folder.add_part("responses/nova/000000-000001", [Response("p0", "nova", "ok", WORD)])
    texts.remove(run.folder)
    kept = run.folder.read("responses/nova/digests.jsonl")
    texts.remove(run.folder)
    assert run.folder.read("responses/nova/digests.jsonl") == kept
    run.folder.add_part("responses/nova/000000-000001", [Response("p1", "nova", "ok", WORD)])
    texts.remove(run.folder)
    found = [
        json.loads(line)["prompt_id"] for line in run.folder.lines("responses/nova/digests.jsonl")
    ]
    assert found == ["p0", "p1"] and holding(run.folder, {WORD}) == set()


def sweep(output: RunFolder, state: str | None, **options: Any) -> list[str]:
    return texts.sweep(output, lambda dag_id, run_id: state, **options)


LATER = datetime.now(UTC) + timedelta(hours=27)


def test_the_janitor_removes_the_texts_of_a_run_that_crashed(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    steps.load_prompts(run)
    assert sweep(output, "active", now=LATER) == []
    assert sweep(output, "generated", now=LATER) == []
    assert sweep(output, None) == []
    (would,) = sweep(output, "ended", dry_run=True)
    assert "would be deleted" in would and holding(run.folder, {WORD})
    assert len(sweep(output, "ended")) == 1
    assert holding(run.folder, {WORD}) == set()


def test_texts_that_s3_will_not_delete_keep_no_others(
    sandbox: Sandbox, output: RunFolder, conf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, other = (new_run(sandbox, conf(), name) for name in ("held", "other"))
    for run in (held, other):
        steps.load_prompts(run)
    remove = texts.remove

    def refuse(folder: RunFolder) -> texts.Removed:
        if folder.uri == held.folder.uri:
            raise ErasureError("a legal hold")
        return remove(folder)

    monkeypatch.setattr(texts, "remove", refuse)
    with pytest.raises(ErasureError, match="a legal hold"):
        sweep(output, "ended")
    assert holding(held.folder, {WORD}) and not holding(other.folder, {WORD})


def test_the_texts_of_a_run_that_airflow_does_not_know_go_by_age(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    steps.load_prompts(run)
    assert len(sweep(output, None, now=LATER)) == 1
    assert holding(run.folder, {WORD}) == set()


def test_what_a_stopped_job_writes_after_its_run_is_found_for_a_day(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    with pytest.raises(Exception, match="before its report"):
        steps.gate(run, None)
    assert sweep(output, "ended") == []
    run.folder.write("judge/claude/job/output/output.tar.gz", WORD)
    assert len(sweep(output, "ended")) == 1
    assert holding(run.folder, {WORD}) == set()
    assert output.names(texts.NOTES)
    assert sweep(output, "ended", now=LATER) == []
    assert not output.names(texts.NOTES)


def test_a_run_that_begins_anew_with_texts_keeps_them(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    new_run(sandbox, conf(), "same")
    again = new_run(sandbox, conf(store_text=True), "same")
    steps.load_prompts(again)
    assert sweep(output, "ended", now=LATER) == []
    assert holding(again.folder, {WORD}) == {"prompts/000000.jsonl"}
    assert not output.names(texts.NOTES)


def test_a_single_task_of_a_run_without_texts_says_that_there_is_nothing_to_work_on(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    record = new_record(sandbox, conf(), "same")
    run = runs.open_run(record, sandbox.client)
    ended(sandbox, run)
    with pytest.raises(ResponsesError, match="clear the whole run"):
        runs.open_run(record, sandbox.client)
    assert runs.open_run(record, sandbox.client, without_texts=True)
    again = new_run(sandbox, conf(), "same")  # its first task is cleared
    shards = steps.load_prompts(again)
    assert [each and each["responses"] for each in generate(again, shards)] == [40, 40]


def test_a_judge_job_whose_output_is_gone_serves_nobody_any_more(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    job = {"key": "claude", "token": "t", "pairs": 1, "request": None}
    run.folder.write("judge/claude/job/output/output.tar.gz", b"x")
    assert not judging.is_summarized(run, job, "job")
    texts.remove(run.folder)
    assert judging.is_summarized(run, job, "job")


def test_no_text_is_lent_to_a_run_that_keeps_them(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    private = new_run(sandbox, conf())
    generate(private, steps.load_prompts(private))  # it goes on, and its texts are there
    lending = conf(store_text=True, generation={"reuse": "baseline"})
    run = new_run(sandbox, lending)
    generate(run, steps.load_prompts(run))
    stored = list(ledger.Parts(run.folder, "nova").read())
    assert len(stored) == 40 and not any(each.reused_from for each in stored)


def test_reuse_is_refused(conf: Any) -> None:
    with pytest.raises(ConfigError, match="write reuse: none"):
        resolve_config(conf(generation={"reuse": "baseline"}), environ={})


def test_what_is_said_of_a_failure_is_not_stored(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf())
    steps.load_prompts(run)
    prompts = list(run.prompts())
    book = ledger.Ledger(run.folder, "nova", 0, prompts, "s", messages=False)
    failure = Response(
        "p0", "nova", "error", None, error_type="Validation", error_message=prompts[0].text
    )
    book.add(failure)
    book.flush()
    (stored,) = ledger.Parts(run.folder, "nova").read()
    assert (stored.error_type, stored.error_message) == ("Validation", None)


def test_errors_name_the_kind_of_failure_and_quote_nothing(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:
    run = new_run(sandbox, conf(generation={"max_error_rate": 0.0}))
    shards = steps.load_prompts(run)
    order(sandbox, operation="Converse", code="ValidationException", message=WORD, times=100)
    with pytest.raises(GenerationError) as caught:
        generate(run, shards)
    assert "ValidationException" in str(caught.value) and WORD not in str(caught.value)


def test_a_prompt_without_an_id_is_named_by_its_digest(
    sandbox: Sandbox, output: RunFolder, conf: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": f"What does {WORD} {n} sound like?", "response": "Hm."} for n in range(40)]
    source = write_rows(tmp_path / "there.jsonl", [*rows, rows[0], {**rows[0], "prompt": WORD}])
    there = {
        "name": "there",
        "provider": "responses",
        "source": source,
        "prompt_field": "prompt",
    }
    given = conf(candidates=[there])
    given["dataset"].pop("id_field")
    run = new_run(sandbox, given)
    shards = [each for each in steps.load_prompts(run) if each["model"] == "there"]
    generate(run, shards)
    notes = [Notice(**each) for each in json.loads(run.folder.read("notices/there.json"))]
    assert {each.code for each in notes} == {"responses_extra", "responses_twice"}
    assert not any(WORD in each.message for each in notes)
    assert all("sha256" in each.message for each in notes)


def test_of_a_rubric_judge_only_scores_stay() -> None:
    criterion = Criterion(WORD, "scale", 1.0, WORD, 4.0, 2.0, WORD, WORD)
    (kept,) = texts.scores_only([RubricScore("p0", 0.75, 0.25, 0.5, [criterion], WORD)])
    assert (kept.baseline, kept.candidate, kept.margin) == (0.75, 0.25, 0.5)
    assert WORD not in repr(kept)


def test_what_s3_refuses_to_delete_is_said(
    output: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write("a/x.jsonl", WORD)
    refusal = {"Key": "nova/a/x.jsonl", "Code": "AccessDenied", "Message": "no"}
    monkeypatch.setattr(output.s3, "delete_objects", lambda **_: {"Errors": [refusal]})
    with pytest.raises(ErasureError, match=r"a/x\.jsonl: AccessDenied"):
        erasure.erase(output.s3, list(erasure.find(output.s3, output.at("a/"))))


def test_a_bucket_without_versions_is_emptied_just_the_same(sandbox: Sandbox) -> None:
    folder = RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")
    for n in range(3):
        folder.write(f"prompts/{n:06d}.jsonl", storage.to_lines([vars(Prompt(f"p{n}", WORD))]))
    assert texts.remove(folder).objects == 3
    assert folder.names("") == [storage.NO_TEXTS, "prompts/digests.jsonl"]


def test_models_are_tried_with_a_prompt_of_ours(
    sandbox: Sandbox, output: RunFolder, conf: Any
) -> None:

    run = new_run(sandbox, conf())
    steps.load_prompts(run)
    forget(sandbox)
    asking.ask_first(run, run.model("nova"), deployment(run, "nova"))
    (body,) = asked(sandbox, "Converse")
    assert WORD not in json.dumps(body)


def test_what_a_run_was_estimated_to_cost_and_has_spent_is_no_text(sandbox: Sandbox) -> None:
    folder = RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")
    names = [
        storage.ESTIMATE,
        "capped/judge.json",
        "spent/endpoints/qwen.json",
        "spent/judge/c/job",
    ]
    for name in names:
        folder.write(name, "{}")
    texts.remove(folder)
    assert set(names) <= set(folder.names(""))
