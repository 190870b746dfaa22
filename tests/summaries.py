"""Summaries for tests, and what a browser would make of their page."""

from dataclasses import replace
from html.parser import HTMLParser

from include.records import (
    ErrorExample,
    Gate,
    Latency,
    ModelSettings,
    ModelSummary,
    Occurrence,
    ResponseCounts,
    Summary,
    SummaryEnvironment,
)

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
        artifacts={"summary": "s3://bucket/summary.json"},
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
