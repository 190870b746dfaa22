"""Our interval of the scores on standard input, and our whole comparison of that many pairs."""

import io
import json
import sys
import tarfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

DATA: dict[str, Any] = json.load(sys.stdin)
STARTED = time.process_time()

import scipy.special  # noqa: E402, F401 - the product imports it where it is used

from include import charts, examples, gate, judge_output, report, winrate  # noqa: E402
from include.intervals import cluster_t_interval  # noqa: E402
from include.preferences import resolve_pairs  # noqa: E402
from include.records import (  # noqa: E402
    Comparison,
    GenerationErrors,
    JudgeOutput,
    Pair,
    Summary,
    SummaryEnvironment,
)

IMPORTED = time.process_time() - STARTED

SAID = {1.0: ("[[B>A]]", "[[A>B]]"), 0.0: ("[[A>B]]", "[[B>A]]"), 0.5: ("[[A>B]]", "[[A>B]]")}


def main() -> None:
    """Print what each took and the standard error that it found."""
    scores, clusters = DATA["scores"], DATA["clusters"]
    pairs = [
        Pair(
            f"p{i}",
            f"Question {i}? " + "x" * 200,
            f"Answer {i} of one. " + "y" * 1000,
            f"Answer {i} of the other. " + "z" * 1000,
            "judged",
            category=f"category {i % 10}",
            group=cluster,
        )
        for i, cluster in enumerate(clusters)
    ]
    left = archive(pairs, scores)

    def read() -> JudgeOutput:
        left.seek(0)
        return judge_output.read(left, pairs)

    output = read()
    comparison = compare(pairs, output)
    before = time.process_time()
    write_report(comparison, pairs, output)
    cpu_report = time.process_time() - before
    answer = {
        "cpu_report": cpu_report,
        "cpu_import": IMPORTED,
        "cpu_t": timed(lambda: cluster_t_interval(scores, clusters, 0.95)),
        "cpu_compare": timed(lambda: compare(pairs, output)),
        "cpu_read": timed(read),
        "standard_error": comparison.win_rate.standard_error,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


def archive(pairs: list[Pair], scores: list[float]) -> io.BytesIO:
    """Return what the judge's job would have left."""
    import pyarrow
    from pyarrow import parquet

    rows = []
    for pair, score in zip(pairs, scores, strict=True):
        forward, backward = SAID[score]
        texts = {"response_A": pair.baseline, "response_B": pair.candidate}
        row = {
            "metrics": repr({"forward_output": forward, "backward_output": backward}),
            "specifics": repr({"prompt": pair.prompt, **texts}),
        }
        rows.append(row)
    table = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    wins = 2.0 * scores.count(1.0) + scores.count(0.5)
    metrics = {"b_scores": wins, "a_scores": 2.0 * len(scores) - wins, "ties": 0.0}
    results = json.dumps({"results": {"all": {**metrics, "inference_error": 0.0}}}).encode()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for name, body in (("results_x.json", results), ("details_x.parquet", table.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return target


def compare(pairs: list[Pair], output: JudgeOutput) -> Comparison:
    """Compute all numbers of a comparison."""
    return winrate.compare(
        baseline="one",
        candidate="other",
        prompts=len(pairs),
        generation_errors=GenerationErrors(0, 0),
        pairs=pairs,
        output=output,
        confidence_level=0.95,
        min_consistency=0.5,
        max_error_rate=0.05,
    )


def write_report(comparison: Comparison, pairs: list[Pair], output: JudgeOutput) -> str:
    """Draw and write what a run ends in, but for storing it."""
    decision = gate.decide_gate([comparison], "non_inferiority", 0.05)
    drawn = charts.draw([comparison], decision.threshold)
    shown = [
        report.ReportPairs(
            sample.kind, [report.report_pair(each) for each in sample.pairs], sample.total
        )
        for sample in examples.pick(resolve_pairs(pairs, output.judgments or []))
    ]
    summary = Summary(
        schema_version="1.0",
        status="complete",
        evaluation="bench",
        dag_id="nova_llm_judge",
        run_id="bench",
        started_at="2026-01-05T06:00:00+00:00",
        ended_at="2026-01-05T06:20:00+00:00",
        environment=SummaryEnvironment("sandbox", "sandbox", "000000000000", "us-east-1"),
        provenance={},
        gate=decision,
        warnings=[],
        cost=None,
        artifacts={},
        comparisons=[comparison],
    )
    return report.render(summary, drawings=drawn.drawings, examples=shown)


def timed(work: Callable[[], object]) -> float:
    """Return the median of the processor seconds that some work takes."""
    spent = []
    for _ in range(DATA["rounds"]):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return median(spent)


main()
