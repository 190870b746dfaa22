"""Summaries for tests, and what a browser would make of their page."""

from dataclasses import replace
from html.parser import HTMLParser

from include.board import PairingScores, rank
from include.records import (
    Board,
    Change,
    ErrorExample,
    Gate,
    GenerationErrors,
    JudgeOutput,
    Judgment,
    Latency,
    LeftOut,
    ModelSettings,
    ModelSummary,
    Occurrence,
    Pair,
    ResponseCounts,
    Summary,
    SummaryEnvironment,
)
from include.winrate import compare

VOID = {"meta", "img", "br", "line", "circle", "link", "input", "path", "use", "rect"}


class Page(HTMLParser):
    """What a browser would make of the page, as far as the tests ask."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def says(self, words):
        return words in " ".join(" ".join(self.text).split())


def make_summary(*comparisons, kind="sandbox", **changes):
    summary = Summary(
        schema_version="1.0",
        status="complete",
        evaluation="qwen-vs-claude",
        dag_id="nova_llm_judge",
        run_id="manual__2026-01-05T06:00:00+00:00",
        started_at="2026-01-05T06:00:00Z",
        ended_at="2026-01-05T06:20:00Z",
        environment=SummaryEnvironment("sandbox", kind, "000000000000", "us-east-1"),
        provenance={"config_digest": "sha256:abc", "versions": {"airflow": "3.3.2", "x": None}},
        gate=Gate("pass", "superiority needs a win rate above 50 %."),
        warnings=[],
        cost=None,
        artifacts={"report": "s3://bucket/report.html"},
        comparisons=list(comparisons),
    )
    return replace(summary, **changes)


SETTINGS = ModelSettings(512, 0.7, None, None, "messages", "{prompt}", None, None, False)


def make_model(name="qwen", **changes):
    model = ModelSummary(
        name=name,
        role="baseline",
        provider="sagemaker",
        model_id="Qwen/Qwen2.5",
        settings=SETTINGS,
        responses=ResponseCounts(1_190, 5, 1, 2, 2, missing=0),
        latency_ms=Latency(812.4, 2_040.0),
        input_tokens=120_000,
        output_tokens=None,
        median_characters=512.5,
        median_output_tokens=None,
        retries=7,
        reused=0,
        oldest=None,
        errors=[ErrorExample("Throttling", 2, "p7", "Slow down")],
        repetition=None,
        addressing_judge=Occurrence(0, None),
    )
    return replace(model, **changes)


def make_comparison(wins=51, losses=15, *, details=True, group=None):
    said = [("B>A", "A>B")] * wins + [("A>B", "B>A")] * losses
    pairs = [
        Pair(f"p{i}", "q", "x", "y", "judged", category="code", group=group)
        for i in range(len(said))
    ]
    judgments = [
        Judgment(pair.prompt_id, order, verdict)
        for pair, both in zip(pairs, said, strict=True)
        for order, verdict in zip(("forward", "backward"), both, strict=True)
    ]
    return compare(
        baseline="qwen",
        candidate="claude",
        prompts=len(pairs),
        generation_errors=GenerationErrors(1, 2),
        pairs=pairs,
        output=JudgeOutput(
            {"a_scores": 2.0 * losses, "b_scores": 2.0 * wins, "ties": 0.0, "winrate": 0.77},
            judgments if details else None,
        ),
        confidence_level=0.95,
        min_consistency=0.5,
        max_error_rate=0.05,
    )


CHANGE = Change(
    verdict="worse",
    sentence="claude wins 60 % of 66 shared prompts, 77 % before.",
    prompts=66,
    earlier=0.77,
    later=0.6,
    difference=-0.17,
    low=-0.3,
    high=-0.04,
    confidence_level=0.95,
    method="cluster t on 66 prompts",
    units=66,
    improved=2,
    worsened=13,
    unchanged=51,
    sign_test_p_value=0.007,
    left_out=LeftOut(0, 0, 0, 0),
)


def make_board(*, wins=(80, 78), met=False, **changes) -> Board:
    """A board of qwen, claude and mistral on 100 prompts.

    Args:
        wins: How many claude and mistral win against qwen.
        met: Whether mistral was compared with claude too, and lost nearly all.
        changes: Made to the board.
    """
    units = [f"prompt {n}" for n in range(100)]

    def pairing(first, second, won):
        return PairingScores(first, second, [1.0] * won + [0.0] * (100 - won), units)

    pairings = [pairing("qwen", "claude", wins[0]), pairing("qwen", "mistral", wins[1])]
    if met:
        pairings.append(pairing("claude", "mistral", 4))
    return replace(rank(pairings, baseline="qwen", confidence_level=0.95), **changes)
