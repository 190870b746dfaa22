"""Facts about runs that are to be gone: all that is theirs goes, and nothing that is another's."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sandbox_server import Sandbox

from include import erasure, forgetting, history, names, storage, texts
from include.errors import ConfigError, ErasureError
from include.forgetting import Place
from include.storage import RunFolder
from scripts import forget

NOW = datetime.now(UTC)
RUN_ID = "manual__2026-01-05T06:00:00+00:00"
GATE = {"on_fail": "fail", "on_inconclusive": "warn", "approval_hours": 72.0}


@pytest.fixture
def output(sandbox: Sandbox) -> RunFolder:
    """A place of its own, in a bucket that keeps every version."""
    s3, bucket = sandbox.client("s3"), f"forget-{uuid4()}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return RunFolder(s3, f"s3://{bucket}/nova")


def run(
    output: RunFolder,
    place: str,
    *,
    run_id: str = RUN_ID,
    ended: bool = True,
    accepted: str | None = "2026-01-05T06:00:00+00:00",
    **gate: Any,
) -> RunFolder:
    """Leave what a run leaves."""
    folder = RunFolder(output.s3, output.at(place))
    evaluation, slug = place.split("/")
    folder.write(storage.CONFIG, json.dumps({"config": {"gate": {**GATE, **gate}}}))
    folder.write("prompts/000000.jsonl", "{}")
    folder.write("prompts/000000.jsonl", "{}\n")  # a second version
    folder.write(storage.SUMMARY, json.dumps({"run_id": run_id}))
    output.write(f"history/{evaluation}/{slug}.parquet", b"PAR1")
    output.write(texts.note_name(output, folder), "{}")
    if accepted:
        history.accept(folder, accepted)
    if ended:
        folder.write(storage.ENDED, "{}")
    return folder


def keys(output: RunFolder) -> set[str]:
    """Return what is there in any version."""
    start = len(storage.split_uri(output.at(""))[1])
    return {each.key[start:] for each in erasure.find(output.s3, output.at(""))}


def test_everything_of_a_run_goes_and_nothing_of_another_whose_name_begins_the_same(
    output: RunFolder,
) -> None:
    run(output, "nightly/run-1")
    before = keys(output)
    for other in ("nightly/run-10", "nightly/a-run-1", "nightly-2/run-1", "night/run-1"):
        run(output, other)
    kept = keys(output) - before
    place = Place("nightly", "run-1")
    found = forgetting.belongings(output, place)
    start = len(storage.split_uri(output.at(""))[1])
    assert {each.key[start:] for each in found} == before
    assert len(found) == len(before) + 1  # two versions of the prompts
    forgetting.forget(output, place, found)
    assert keys(output) == kept


def test_what_was_only_hidden_goes_too(output: RunFolder) -> None:
    folder = run(output, "nightly/run-1")
    for name in folder.names(""):
        bucket, key = storage.split_uri(folder.at(name))
        output.s3.delete_object(Bucket=bucket, Key=key)
    assert folder.names("") == []
    place = forgetting.locate(output, folder.uri)
    forgetting.forget(output, place, forgetting.belongings(output, place))
    assert keys(output) == set()


def test_a_run_is_found_by_its_folder_its_name_and_airflows_run_id(output: RunFolder) -> None:
    slug = names.run_slug("nova_llm_judge", RUN_ID)
    run(output, f"nightly/{slug}")
    run(output, "nightly/other", run_id="other")
    place = Place("nightly", slug)
    for wanted in (output.at(str(place)), f"{output.at(str(place))}/", str(place), RUN_ID):
        assert forgetting.locate(output, wanted) == place


def test_a_run_without_a_summary_is_found_by_the_digest_of_its_dag(output: RunFolder) -> None:
    slug = names.run_slug("nova_llm_judge__nightly", RUN_ID)
    folder = RunFolder(output.s3, output.at(f"nightly/{slug}"))
    folder.write(storage.CONFIG, "{}")
    with pytest.raises(ConfigError, match=f"did you mean nightly/{slug}"):
        forgetting.locate(output, RUN_ID, ["nova_llm_judge"])
    found = forgetting.locate(output, RUN_ID, ["nova_llm_judge", names.dag_id("nightly")])
    assert found == Place("nightly", slug)


def test_run_ids_that_differ_in_punctuation_are_told_apart(output: RunFolder) -> None:
    run(output, f"nightly/{names.run_slug('d', RUN_ID)}")
    other = RUN_ID.replace("+", "-")
    with pytest.raises(ConfigError, match="there is no run"):
        forgetting.locate(output, other, ["nova_llm_judge"])


def test_the_same_run_id_in_two_evaluations_is_asked_about(output: RunFolder) -> None:
    slugs = [names.run_slug(names.dag_id(each), RUN_ID) for each in ("a", "b")]
    for evaluation, slug in zip(("a", "b"), slugs, strict=True):
        run(output, f"{evaluation}/{slug}")
    with pytest.raises(ConfigError) as caught:
        forgetting.locate(output, RUN_ID)
    assert f"RUN=a/{slugs[0]}" in str(caught.value) and f"RUN=b/{slugs[1]}" in str(caught.value)


def test_a_typo_is_told_the_nearest_names(output: RunFolder) -> None:
    run(output, "nightly/manual-2026-01-05-abc")
    for typo in ("nightly/manual-2026-01-05-abd", "nigthly/manual-2026-01-05-abc"):
        with pytest.raises(ConfigError, match="did you mean nightly/manual-2026-01-05-abc"):
            forgetting.locate(output, typo)
        with pytest.raises(ConfigError, match="did you mean nightly/manual-2026-01-05-abc"):
            forgetting.locate(output, output.at(typo))


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("s3://another-bucket/nova/nightly/run-1", "is not below"),
        ("{output}-of-others/nightly/run-1", "is not below"),
        ("{output}", "is not below"),
        ("{output}/nightly", "is no run folder"),
        ("{output}/nightly/", "is no run folder"),
        ("{output}/history/nightly", "is no run folder"),
        ("{output}/anchors/0123", "is no run folder"),
        ("{output}/_texts/nightly", "is no run folder"),
        ("{output}/nightly/accepted", "is no run folder"),
        ("{output}/nightly/run-1/prompts", "is no run folder"),
        ("{output}/nightly/run", "there is no run folder"),
        ("", "there is no run"),
        ("nightly", "there is no run"),
        ("history/nightly", "there is no run"),
        ("nightly/accepted", "there is no run"),
    ],
)
def test_what_is_no_run_of_this_environment_is_refused(
    output: RunFolder, wanted: str, problem: str
) -> None:
    run(output, "nightly/run-1")
    with pytest.raises(ConfigError, match=problem):
        forgetting.locate(output, wanted.format(output=output.uri))


def test_a_run_whose_folder_is_gone_is_found_by_its_rows(output: RunFolder) -> None:
    output.write("history/nightly/run-1.parquet", b"PAR1")
    place = forgetting.locate(output, "nightly/run-1")
    assert len(forgetting.belongings(output, place)) == 1


def test_a_run_is_going_on_until_its_gate_has_ended_it(output: RunFolder) -> None:
    folder = run(output, "nightly/run-1", ended=False)
    assert "has not ended" in str(forgetting.going_on(folder))
    assert forgetting.going_on(run(output, "nightly/run-2")) is None


def test_a_run_that_died_is_over_after_a_day(output: RunFolder) -> None:
    folder = run(output, "nightly/run-1", ended=False)
    assert forgetting.going_on(folder, NOW + timedelta(hours=25))
    assert forgetting.going_on(folder, NOW + timedelta(hours=27)) is None


def test_a_run_that_may_wait_for_a_person_is_given_the_time(output: RunFolder) -> None:
    folder = run(output, "nightly/run-1", ended=False, on_fail="approve")
    assert forgetting.going_on(folder, NOW + timedelta(hours=97))
    assert forgetting.going_on(folder, NOW + timedelta(hours=99)) is None


def test_a_run_that_was_cleared_since_its_end_is_going_on(
    output: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(output, "nightly/run-1")
    written = folder.written("")
    last = written[storage.ENDED]
    again = {**written, "pairs/claude/pairs.jsonl": last + timedelta(seconds=1)}
    monkeypatch.setattr(RunFolder, "written", lambda *_: again)
    assert forgetting.going_on(folder)
    names = (storage.NO_TEXTS, "judge/claude/job/output/output.tar.gz", "spent/endpoints/qwen.json")
    late = {**written, **dict.fromkeys(names, last + timedelta(hours=1))}
    monkeypatch.setattr(RunFolder, "written", lambda *_: late)
    assert forgetting.going_on(folder) is None


def test_old_folders_expire_but_not_the_history_nor_what_later_runs_are_compared_with(
    output: RunFolder,
) -> None:
    run(output, "nightly/run-1", accepted="2026-01-03T06:00:00+00:00")
    reference = run(output, "nightly/run-2", accepted="2026-01-04T06:00:00+00:00")
    run(output, "nightly/run-3", accepted=None)
    run(output, "other/run-1", accepted=None)
    foreign = {"models/qwen/model.tar.gz", "dev/nightly/run-1/config.json"}
    for name in foreign:
        output.write(name, "{}")
    month = timedelta(days=30)
    assert forgetting.expire(output, month, now=NOW + timedelta(days=29)) == []
    later = NOW + timedelta(days=31)
    would = forgetting.expire(output, month, dry_run=True, now=later)
    assert len(would) == 3 and all("would be deleted" in line for line in would)
    assert len(forgetting.expire(output, month, now=later)) == 3
    left = {str(each) for each in forgetting.places(output) if each.folder(output).names("")}
    assert left == {"nightly/run-2", "models/qwen", "dev/nightly"}
    assert foreign < keys(output), "what is no run of this place is nobody's to delete"
    assert history.reference(RunFolder(output.s3, output.at("nightly"))) == reference
    assert {key for key in keys(output) if key.startswith("history/")} == {
        f"history/{each}.parquet"
        for each in ("nightly/run-1", "nightly/run-2", "nightly/run-3", "other/run-1")
    }
    assert [key for key in keys(output) if "accepted" in key and "run-1" in key] == []


def test_what_is_no_run_folder_cannot_be_forgotten(output: RunFolder) -> None:
    run(output, "nightly/run-1")
    output.write("models/qwen/model.tar.gz", "{}")
    for wanted in ("models/qwen", output.at("models/qwen")):
        with pytest.raises(ConfigError, match="is no run folder: it has no config"):
            forgetting.locate(output, wanted)


def test_a_deletion_that_s3_refuses_half_way_is_done_again(
    output: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(output, "nightly/run-1", accepted=None)
    place = Place("nightly", "run-1")
    erase = erasure.erase

    def refuse(s3: Any, stored: Any) -> None:
        erase(s3, [each for each in stored if "prompts" not in each.key])
        raise ErasureError("a lock")

    monkeypatch.setattr(erasure, "erase", refuse)
    with pytest.raises(ErasureError):
        forgetting.forget(output, place, forgetting.belongings(output, place))
    assert set(folder.names("")) == {storage.CONFIG, "prompts/000000.jsonl"}
    monkeypatch.undo()
    month = timedelta(days=30)
    assert len(forgetting.expire(output, month, now=NOW + timedelta(days=31))) == 1
    assert folder.names("") == []


def command(
    output: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    answer: str | None = None,
) -> int:
    """Run `make forget`; without an answer there is no terminal."""
    monkeypatch.setattr(forget.doctor, "output", lambda name: output)
    monkeypatch.setattr("sys.argv", ["forget", *arguments])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", lambda _: answer)
    return forget.main()


def test_the_command_says_what_it_will_delete_and_asks(
    output: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(output, "nightly/run-1")
    before = keys(output)
    assert command(output, monkeypatch, "--run", "nightly/run-1", answer="") == 1
    said = capsys.readouterr().out
    assert "4 objects in 5 versions" in said and "history/nightly/run-1.parquet" in said
    assert "accepted/" in said and "bytes" in said
    assert keys(output) == before
    assert command(output, monkeypatch, "--run", "nightly/run-1", answer="y") == 0
    assert keys(output) == set()


def test_in_a_script_nothing_is_deleted_without_yes(
    output: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(output, "nightly/run-1")
    assert command(output, monkeypatch, "--run", "nightly/run-1") == 2
    assert "YES=1" in capsys.readouterr().err and keys(output)
    assert command(output, monkeypatch, "--run", "nightly/run-1", "--yes") == 0
    assert keys(output) == set()


def test_the_command_refuses_a_run_that_is_going_on_whatever_is_said(
    output: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(output, "nightly/run-1", ended=False)
    assert command(output, monkeypatch, "--run", "nightly/run-1", "--yes") == 2
    assert "is going on" in capsys.readouterr().err and keys(output)
