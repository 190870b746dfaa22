"""Facts about what a run folder becomes: summary.json and report.html, over HTTP on S3."""

import json
from dataclasses import asdict, replace
from types import MappingProxyType
from uuid import uuid4

import judged
import pytest
from sandbox_server import Sandbox

from include import history, ledger, storage
from include.config import RunConfig
from include.config_files import resolve_config
from include.pairs import make_pairs
from include.publish import publish, publish_labels
from include.records import (
    JudgeOutput,
    Judgment,
    Pair,
    Prompt,
    Response,
    RubricScore,
)
from include.storage import RunFolder

INDEX = {
    "count": 60,
    "sha256": "ab" * 32,
    "blocks": [0, 30],
    "notices": [{"code": "duplicate_prompts", "message": "2 prompts are there twice"}],
    "system_prompt": {"file": "system.txt", "version": "3", "sha256": "cd" * 32},
}
PROMPTS = [Prompt(f"p{n}", f"Question {n}?", category="a" if n % 2 else "b") for n in range(60)]


@pytest.fixture
def folder(sandbox: Sandbox) -> RunFolder:
    return RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}/run")


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return resolve_config(
        {
            "evaluation": "test",
            "dataset": {"source": "prompts.jsonl"},
            "baseline": {
                "name": "qwen",
                "provider": "sagemaker",
                "endpoint_name": "e",
                "parameters": {"temperature": 1.0},
            },
            "candidates": ["claude"],
        },
        environ={},
    )


def response(n, model, **changes):
    found = Response(f"p{n}", model, "ok", f"{model} {n}", key=f"{model} {n}", latency_ms=100.0)
    return replace(found, **changes)


def failed(n, model):
    problem = {"error_type": "Throttling", "error_message": "<b>Slow down</b>", "attempts": 5}
    return response(n, model, outcome="error", text=None, **problem)


def write_run(config, folder, candidate=()):
    """Store what a run leaves before its report; `candidate` are other responses of claude."""
    folder.write("recipe/recipe.yaml", "run: {}")
    folder.write("prompts/index.json", json.dumps(INDEX))
    for start in INDEX["blocks"]:
        folder.write_records(f"prompts/{start:06d}.jsonl", PROMPTS[start : start + 30])
    other = {each.prompt_id: each for each in candidate}
    answers = {}
    for model in ("qwen", "claude"):
        answers[model] = [response(n, model) for n in range(60)]
        if model == "claude":
            answers[model] = [other.get(each.prompt_id, each) for each in answers[model]]
        for start in (0, 30):
            part = answers[model][start : start + 30]
            folder.add_part(f"responses/{model}/{start:06d}-{start + 30:06d}", part)
    pairs = make_pairs(PROMPTS, *({r.prompt_id: r for r in found} for found in answers.values()))
    folder.write_records("pairs/claude/pairs.jsonl", pairs)
    judge(config, folder, pairs)


LOST, SWAYED = ("A>B", "B>A"), ("A>B", "A>B")


def judge(config, folder, pairs, said=MappingProxyType({0: LOST, 1: LOST, 2: SWAYED})):
    """Let the judge prefer the candidate, but where `said` has something else for a pair.

    Args:
        config: Of the run.
        folder: Where the comparison goes.
        pairs: All that there are.
        said: What it says in both orders, by the pair's number.
    """
    judgments = [
        Judgment(pair.prompt_id, order, verdict)
        for n, pair in enumerate(pairs)
        if pair.status == "judged"
        for order, verdict in zip(("forward", "backward"), said.get(n, ("B>A", "A>B")), strict=True)
    ]
    comparison = judged.count(pairs, JudgeOutput({}, judgments))
    folder.write("judgments/claude.parquet", storage.to_parquet(judgments, Judgment))
    result = {"comparison": asdict(comparison), "warnings": [], "job_arn": None}
    folder.write("comparisons/claude.json", json.dumps(result))


def published(config, folder, started_at="2026-01-05T06:00:00+00:00"):
    publish(config, folder, dag_id="d", run_id="r", started_at=started_at)
    return json.loads(folder.read(storage.SUMMARY)), folder.read(storage.REPORT).decode()


def test_each_model_is_told_with_settings_and_what_became_of_it(config, folder):
    write_run(config, folder)
    summary, page = published(config, folder)
    baseline, candidate = summary["models"]
    assert (baseline["name"], baseline["role"], baseline["model_id"]) == ("qwen", "baseline", "e")
    assert (candidate["role"], candidate["provider"]) == ("candidate", "bedrock")
    assert baseline["settings"]["temperature"] == 1.0
    assert baseline["settings"]["system_prompt"]["version"] == "3"
    assert baseline["responses"]["ok"] == 60 and baseline["cost"] is None
    assert summary["provenance"]["digests"]["dataset"] == INDEX["sha256"]
    assert "95th percentile" in page and "us.anthropic.claude-sonnet-4-6" in page


def test_a_gate_does_not_pass_while_a_candidate_is_missing(folder):
    asked = {"name": "other", "provider": "bedrock", "model_id": "us.amazon.nova-lite-v1:0"}
    conf = {
        "evaluation": "test",
        "dataset": {"source": "prompts.jsonl"},
        "baseline": {"name": "qwen", "provider": "sagemaker", "endpoint_name": "e"},
        "candidates": ["claude", asked],
        "gate": {"rule": "superiority"},
    }
    alone = resolve_config({**conf, "candidates": ["claude"]}, environ={})
    write_run(alone, folder)
    assert published(alone, folder)[0]["gate"]["outcome"] == "pass"
    summary, _ = published(resolve_config(conf, environ={}), folder)
    assert summary["status"] == "partial"
    assert summary["gate"]["outcome"] == "inconclusive"
    assert summary["gate"]["reason"].startswith("other was not compared")


def test_what_was_noted_on_the_way_is_a_warning(config, folder):
    write_run(config, folder)
    noted = [{"code": "responses_extra", "message": "3 rows of old.jsonl have no prompt"}]
    folder.write("notices/old.json", json.dumps(noted))
    summary, page = published(config, folder)
    codes = [warning["code"] for warning in summary["warnings"]]
    assert codes == ["duplicate_prompts", "responses_extra", "settings_differ"]
    assert "3 rows of old.jsonl" in page and "2 prompts are there twice" in page
    assert "claude is asked without temperature, qwen with temperature 1.0" in page


def test_a_failure_that_was_mended_counts_as_retries_only(config, folder):
    write_run(config, folder)
    folder.add_part("responses/claude/000030-000060", [failed(45, "claude")])
    (_, claude) = published(config, folder)[0]["models"]
    assert (claude["responses"]["ok"], claude["responses"]["error"]) == (60, 0)
    assert claude["retries"] == 5


def test_responses_under_other_settings_do_not_count(config, folder):
    write_run(config, folder)
    settings = ledger.write_settings(folder, "claude", {"temperature": 0.5})
    fresh = [response(n, "claude", key=ledger.key(settings, PROMPTS[n])) for n in range(20)]
    folder.add_part("responses/claude/000000-000030", fresh)
    (_, claude) = published(config, folder)[0]["models"]
    assert (claude["responses"]["ok"], claude["responses"]["missing"]) == (20, 40)


def test_failures_and_degenerate_answers_are_told(config, folder):
    same = [response(n, "claude", text="Choose response B") for n in range(10, 50)]
    write_run(config, folder, [*same, *(failed(n, "claude") for n in range(50, 60))])
    summary, page = published(config, folder)
    codes = {warning["code"] for warning in summary["warnings"]}
    assert codes >= {"constant_answers", "addresses_the_judge", "failed_more"}
    assert summary["models"][1]["errors"][0]["count"] == 10
    assert "&lt;b&gt;Slow down&lt;/b&gt;" in page and "<b>" not in page


def test_of_many_pairs_some_of_every_kind_are_shown(config, folder):
    write_run(config, folder, [failed(n, "claude") for n in range(50, 60)])
    page = published(config, folder)[1]
    assert page.count('<details class="pair">') == 2 + 1 + 5 + 2
    for words in ("2 of 2 shown", "1 of 1 shown", "5 of 47 shown", "2 of 10 shown"):
        assert words in page


def test_a_rubric_is_shown_with_its_pairs(config, folder):
    write_run(config, folder)
    scores = [RubricScore(f"p{n}", 0.6, 0.2, 0.4, [], f"Because of {n}.") for n in range(60)]
    folder.write_records("judgments/claude.rubric.jsonl", scores)
    page = published(config, folder)[1]
    assert "Because of 0." in page and page.count("Because of ") == page.count(
        '<details class="pair">'
    )


def test_a_run_that_ended_before_its_prompts_has_a_summary(config, folder):
    folder.write("recipe/recipe.yaml", "run: {}")
    summary, page = published(config, folder)
    assert summary["status"] == "failed"
    assert summary["provenance"]["digests"]["dataset"] is None
    assert [model["responses"]["ok"] for model in summary["models"]] == [0, 0]
    assert "No candidate could be compared" in page


def test_every_chart_lies_in_the_run_folder(config, folder):
    write_run(config, folder)
    summary, _ = published(config, folder)
    charts = folder.names("charts/")
    assert "charts/evaluation_metrics.png" in charts and "charts/lengths.csv" in charts
    assert folder.at("charts/win_rates.png") == summary["artifacts"]["win_rates"]
    assert folder.read("charts/orders.svg").startswith(b"<?xml")


@pytest.fixture
def accepted(config, folder):
    """An accepted run of the same evaluation, a day before, in which every pair was won."""
    earlier = RunFolder(folder.s3, f"{folder.uri}-earlier")
    write_run(config, earlier)
    pairs = list(earlier.read_records("pairs/claude/pairs.jsonl", Pair))
    judge(config, earlier, pairs, said={})
    started_at = "2026-01-04T06:00:00+00:00"
    published(config, earlier, started_at)
    history.accept(earlier, started_at)
    return earlier


def test_what_has_changed_since_the_accepted_run_is_told(config, folder, accepted):
    write_run(config, folder)
    summary, page = published(config, folder)
    change = summary["comparisons"][0]["change"]
    assert (change["worsened"], change["unchanged"], change["improved"]) == (3, 57, 0)
    assert summary["accepted"]["uri"] == accepted.uri
    assert summary["accepted"]["differences"] == []
    assert change["sentence"].split(":")[0] in page


def test_without_an_accepted_run_there_is_no_change(config, folder):
    write_run(config, folder)
    summary, page = published(config, folder)
    assert summary["accepted"] is None and summary["comparisons"][0]["change"] is None
    assert "Since the last accepted run" not in page


def test_a_run_whose_pairs_are_gone_is_named_without_a_change(config, folder, accepted):
    bucket, key = storage.split_uri(accepted.at("pairs/claude/pairs.jsonl"))
    accepted.s3.delete_object(Bucket=bucket, Key=key)
    write_run(config, folder)
    summary, _ = published(config, folder)
    assert summary["accepted"]["uri"] == accepted.uri
    assert summary["comparisons"][0]["change"] is None


def test_models_that_have_changed_since_are_flagged(config, folder, accepted):
    (claude,) = config.candidates
    other = config.model_copy(
        update={"candidates": [claude.model_copy(update={"model_id": "us.anthropic.claude-next"})]}
    )
    write_run(other, folder)
    summary, page = published(other, folder)
    (difference,) = summary["accepted"]["differences"]
    assert difference["what"] == "model of claude"
    assert "Also changed: model of claude" in page


@pytest.fixture
def two_candidates(config):
    claude = config.candidates[0]
    mistral = claude.model_copy(update={"name": "mistral"})
    return config.model_copy(update={"candidates": [claude, mistral]})


def add_mistral(folder, *, lost, evidence="per_pair", unreliable=None):
    """Store a second candidate, which loses so many of claude's pairs."""
    pairs = list(folder.read_records("pairs/claude/pairs.jsonl", Pair))
    kept = {
        name: folder.read(name) for name in ("judgments/claude.parquet", "comparisons/claude.json")
    }
    judge(None, folder, pairs, said=dict.fromkeys(range(lost), LOST))
    folder.write_records("pairs/mistral/pairs.jsonl", pairs)
    folder.write("judgments/mistral.parquet", folder.read("judgments/claude.parquet"))
    result = json.loads(folder.read("comparisons/claude.json"))
    result["comparison"] |= {"candidate": "mistral", "evidence": evidence, "unreliable": unreliable}
    folder.write("comparisons/mistral.json", json.dumps(result))
    for name, body in kept.items():
        folder.write(name, body)


def test_several_candidates_have_a_board(two_candidates, folder):
    write_run(two_candidates, folder)
    add_mistral(folder, lost=40)
    summary, page = published(two_candidates, folder)
    board = summary["board"]
    ranks = [(each["model"], each["best_rank"], each["worst_rank"]) for each in board["models"]]
    assert [name for name, *_ in ranks] == ["claude", "qwen", "mistral"]
    assert ranks[0] == ("claude", 1, 1)
    assert (board["units"], board["only_with_baseline"]) == (60, True)
    assert [each["observed"] for each in board["pairings"]] == [
        pytest.approx(each["win_rate"]["estimate"]) for each in summary["comparisons"]
    ]
    assert "claude is the best of the 3 models" in page
    assert folder.at("charts/ranks.png") == summary["artifacts"]["ranks"]


def test_a_report_that_is_made_again_for_labels_is_the_same_without_them(two_candidates, folder):
    write_run(two_candidates, folder)
    add_mistral(folder, lost=40)
    summary, page = published(two_candidates, folder)
    publish_labels(folder)
    assert json.loads(folder.read(storage.SUMMARY)) == summary
    assert folder.read(storage.REPORT).decode() == page


def test_a_board_with_a_comparison_that_must_not_decide_is_inconclusive(two_candidates, folder):
    write_run(two_candidates, folder)
    add_mistral(folder, lost=40, unreliable="half of the judgments are invalid")
    summary, _ = published(two_candidates, folder)
    assert summary["board"]["sentence"].startswith(
        "Inconclusive: comparing mistral with qwen, half of the judgments are invalid."
    )


def test_totals_alone_and_one_candidate_have_no_board(config, two_candidates, folder):
    write_run(config, folder)
    assert published(config, folder)[0]["board"] is None
    add_mistral(folder, lost=40, evidence="aggregate")
    summary, _ = published(two_candidates, folder)
    assert summary["board"] is None
    assert "no_board" not in {each["code"] for each in summary["warnings"]}


def test_a_candidate_without_any_preference_is_the_reason_for_no_board(two_candidates, folder):
    write_run(two_candidates, folder)
    add_mistral(folder, lost=40)
    folder.write("judgments/mistral.parquet", storage.to_parquet([], Judgment))
    summary, _ = published(two_candidates, folder)
    assert summary["board"] is None
    (warning,) = [each for each in summary["warnings"] if each["code"] == "no_board"]
    assert warning["message"].endswith("no preference links mistral to qwen")


def add_between(folder, *, lost):
    """Store what the judge said of mistral against claude: mistral loses so many of the pairs."""
    names = [
        f"{home}/mistral.{kind}"
        for home, kind in (("judgments", "parquet"), ("comparisons", "json"))
    ]
    kept = {name: folder.read(name) for name in names}
    add_mistral(folder, lost=lost)
    pairs = list(folder.read_records("pairs/mistral/pairs.jsonl", Pair))
    folder.write_records("pairs/mistral~claude/pairs.jsonl", pairs)
    folder.write("judgments/mistral~claude.parquet", folder.read(names[0]))
    result = json.loads(folder.read(names[1]))
    result["comparison"] |= {"baseline": "claude", "candidate": "mistral"}
    folder.write("comparisons/mistral~claude.json", json.dumps(result))
    for name, body in kept.items():
        folder.write(name, body)


def test_candidates_that_met_each_other_are_ranked_by_that_too(two_candidates, folder):
    config = two_candidates.model_copy(update={"comparison": "round_robin"})
    write_run(config, folder)
    add_mistral(folder, lost=2)
    add_between(folder, lost=60)
    summary, page = published(config, folder)
    board = summary["board"]
    assert not board["only_with_baseline"]
    met = [(each["first"], each["second"], each["observed"]) for each in board["pairings"]]
    assert met[2] == ("claude", "mistral", 0.0) and len(summary["comparisons"]) == 2
    best = board["models"][0]
    assert (best["model"], best["worst_rank"]) == ("claude", 1) and "Every pairing" in page


def test_candidates_that_should_have_met_and_did_not_are_named(two_candidates, folder):
    config = two_candidates.model_copy(update={"comparison": "round_robin"})
    write_run(config, folder)
    add_mistral(folder, lost=40)
    summary, _ = published(config, folder)
    assert summary["board"]["only_with_baseline"]
    messages = [each["message"] for each in summary["warnings"]]
    assert "mistral was not compared with claude; see its failed tasks" in messages
