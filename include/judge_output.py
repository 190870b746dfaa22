"""The archive of a judge job in, JudgeOutput out: for `llm_judge` and `rubric_llm_judge` alike.

Whether `llm_judge` leaves per-pair details, and in which spelling, AWS's pages do not settle. So
details are read leniently, matched to pairs by their texts, checked against the counts beside
them, and left aside with a notice where they make no sense; the counts alone then speak.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from include import rubric
from include.cells import number, parse_mapping
from include.errors import ResultsError
from include.records import JudgeOutput, Judgment, Notice, Order, Pair, RubricScore, Verdict

MAX_ARCHIVE_BYTES = 2 * 1024**3
"""Unpacked; a judge job of 10,000 pairs stays far below."""

RESULTS = re.compile(r"(^|/)results_[^/]*\.json$")
DETAILS = re.compile(r"(^|/)details_[^/]*\.parquet$")
VERDICT = re.compile(r"\[\[\s*(A\s*>\s*B|B\s*>\s*A|A\s*=\s*B)\s*\]\]")
SPELLED: dict[str, Verdict] = {"A>B": "A>B", "B>A": "B>A", "A=B": "A=B"}
SWAPPED: dict[Verdict, Verdict] = {"A>B": "B>A", "B>A": "A>B", "A=B": "A=B"}

Row = dict[str, Any]


def read(archive: IO[bytes], pairs: Sequence[Pair]) -> JudgeOutput:
    """Read `output.tar.gz`.

    Nothing is unpacked onto the disk: two kinds of members are read, the rest is passed over.

    Args:
        archive: The gzipped tar file.
        pairs: All pairs of the comparison; details are matched to the `judged` ones.

    Raises:
        ResultsError: No results in it, or it is damaged or larger than any honest one.
    """
    members = _members(archive)
    results = [body for name, body in members.items() if RESULTS.search(name)]
    if not results:
        raise ResultsError(
            "the judge's archive holds no results_*.json; it holds: "
            + (", ".join(sorted(members)[:20]) or "nothing")
        )
    metrics = read_metrics(results[-1])
    tables = [body for name, body in members.items() if DETAILS.search(name)]
    if not tables:
        return JudgeOutput(metrics=metrics, judgments=None)
    unread: Counter[str] = Counter()
    rows = [row for body in tables for row in _read_table(body, unread)]
    output = _judgments(rows, pairs, metrics, unread)
    cells = ", ".join(f"{name} {count}" for name, count in sorted(unread.items()) if count)
    if not cells:
        return output
    notice = Notice(
        "details_malformed",
        f"cells of the judge's details that make no sense were left out: {cells}",
    )
    return replace(output, warnings=[*output.warnings, notice])


def _members(archive: IO[bytes]) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                total += member.size
                if total > MAX_ARCHIVE_BYTES:
                    raise ResultsError(
                        f"the judge's archive unpacks to more than {MAX_ARCHIVE_BYTES} bytes; "
                        "it was left alone"
                    )
                wanted = RESULTS.search(member.name) or DETAILS.search(member.name)
                content = tar.extractfile(member) if wanted and member.isfile() else None
                members[member.name] = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ResultsError(f"the judge's archive cannot be read: {error}") from error
    return dict(sorted(members.items()))


def read_metrics(body: bytes) -> dict[str, float | None]:
    """Read the numbers of `results_*.json`: those of `all`, else of the only task.

    Raises:
        ResultsError: Not JSON, or without results.
    """
    try:
        results = json.loads(body)["results"]
        metrics = results["all"] if "all" in results else next(iter(results.values()))
        return {key: number(value) for key, value in metrics.items()}
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ResultsError(
            f"the judge's results_*.json has no results to read: {error!r}"
        ) from error


def _read_table(body: bytes, unread: Counter[str]) -> Iterator[Row]:
    """Yield rows with their nested columns opened: `metrics` and `specifics` beside the rest."""
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.ParquetFile(io.BytesIO(body)).read().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ResultsError(f"the judge's details_*.parquet cannot be read: {error}") from error
    for row in rows:
        opened = dict(row)
        for column in ("example", "specifics", "metrics"):
            fields = parse_mapping(row.get(column))
            opened.update(fields)
            # An `example` may also be a plain text; it is the other two that we need.
            unread[column] += not fields and bool(row.get(column)) and column != "example"
        yield opened


@dataclass(frozen=True)
class _Judged:
    """One row of the details, matched to its pair, each verdict as its own pass saw positions."""

    pair: Pair
    forward: Verdict | None
    backward: Verdict | None
    a_scores: float | None
    b_scores: float | None
    ties: float | None
    score: RubricScore | None


def _judgments(
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    metrics: dict[str, float | None],
    unread: Counter[str],
) -> JudgeOutput:
    judged, strangers = _match(rows, pairs, unread)
    if not judged:
        notice = Notice(
            "details_unreadable",
            f"none of the {len(rows)} rows of the judge's details names a pair of this run; "
            "the verdict rests on the judge's own counts",
        )
        return JudgeOutput(metrics=metrics, judgments=None, warnings=[notice])
    warnings = []
    if strangers:
        warnings.append(
            Notice("details_unmatched", f"{strangers} rows of the judge's details match no pair")
        )
    scores = [row.score for row in judged if row.score]
    if not any(row.forward or row.backward for row in judged):
        judged = _with_ties(judged, metrics)
        judgments = [judgment for row in judged for judgment in _from_counts(row)]
        notice = Notice(
            "orders_unknown",
            "the judge's details hold counts but no verdicts: which order said what is not known",
        )
        return JudgeOutput(metrics, judgments, [*warnings, notice], False, scores)
    swap, notices = _orientation(judged)
    judgments = [judgment for row in judged for judgment in _from_verdicts(row, swap)]
    return JudgeOutput(metrics, judgments, [*warnings, *notices], True, scores)


def _match(
    rows: Sequence[Row], pairs: Sequence[Pair], unread: Counter[str]
) -> tuple[list[_Judged], int]:
    """Match rows to pairs by their three texts; equal pairs are taken one after the other."""
    waiting: dict[tuple[Any, ...], list[Pair]] = defaultdict(list)
    for pair in reversed(pairs):
        if pair.status == "judged":
            waiting[pair.prompt, pair.baseline, pair.candidate].append(pair)
    judged, strangers = [], 0
    for row in rows:
        texts = tuple(row.get(key) for key in ("prompt", "response_A", "response_B"))
        same = waiting.get(texts) if all(isinstance(text, str) for text in texts) else None
        if not same:
            strangers += 1
            continue
        pair = same.pop()
        judged.append(
            _Judged(
                pair=pair,
                forward=_verdict(row.get("forward_output")),
                backward=_verdict(row.get("backward_output")),
                a_scores=number(row.get("a_scores")),
                b_scores=number(row.get("b_scores")),
                ties=number(row.get("ties")),
                score=rubric.read_score(row, pair.prompt_id, unread),
            )
        )
    return judged, strangers


def _verdict(output: Any) -> Verdict | None:
    """Find the verdict in what the judge wrote; the last one, after any reasoning."""
    if not isinstance(output, str):
        return None
    found: list[str] = VERDICT.findall(output)
    return SPELLED["".join(found[-1].split())] if found else _bare_verdict(output)


def _bare_verdict(output: str) -> Verdict | None:
    """Find a verdict without brackets: all there is, or after `preference:` or `verdict:`."""
    lines = ["".join(line.split()).strip("'\",.*") for line in output.splitlines() if line.strip()]
    for line in reversed(lines):
        key, _, said = line.rpartition(":")
        named = key.lower().strip("'\"*").endswith(("preference", "verdict"))
        if named or (len(lines) == 1 and not key):
            return SPELLED.get(said.strip("'\"*"))
    return None


def _orientation(judged: Sequence[_Judged]) -> tuple[bool, list[Notice]]:
    """Decide whether backward outputs are already turned back, by the counts beside them.

    Documented are both outputs and, per pair, how often A and B won; not documented is whether A
    in a backward output is the slot of that pass (what we assume) or response A.
    """
    counted = [row for row in judged if row.a_scores is not None and row.b_scores is not None]
    if not counted:
        return False, []
    agree: Counter[bool] = Counter()
    for row in counted:
        for turned in (False, True):
            said = [j.preference for j in _from_verdicts(row, turned)]
            same = (said.count("baseline"), said.count("candidate")) == (row.a_scores, row.b_scores)
            agree[turned] += same
    turned = agree[True] > agree[False]
    wrong = len(counted) - agree[turned]
    if not wrong:
        return turned, []
    message = f"in {wrong} of {len(counted)} pairs the judge's verdicts differ from its own counts"
    return turned, [Notice("verdicts_differ_from_counts", message)]


def _from_verdicts(row: _Judged, backward_is_turned: bool) -> list[Judgment]:
    backward = row.backward
    if backward is not None and backward_is_turned:
        backward = SWAPPED[backward]
    return [
        _judgment(row.pair, "forward", row.forward),
        _judgment(row.pair, "backward", backward),
    ]


def _with_ties(judged: Sequence[_Judged], metrics: dict[str, float | None]) -> list[_Judged]:
    """Fill in ties per pair, which a rubric judge leaves out, where the totals leave no choice.

    What a pair lacks to two judgments are ties if the judge counted that many and no error;
    otherwise nobody knows which of them are errors.
    """
    lacking = [2 - (row.a_scores or 0) - (row.b_scores or 0) for row in judged]
    told = any(row.ties is not None for row in judged)
    if told or metrics.get("inference_error") or sum(lacking) != metrics.get("ties"):
        return list(judged)
    return [replace(row, ties=ties) for row, ties in zip(judged, lacking, strict=True)]


def _from_counts(row: _Judged) -> list[Judgment]:
    """Two judgments that give the row's counts; which order gave which is not known."""
    said: list[str] = []
    for count, preference in ((row.a_scores, "A"), (row.b_scores, "B"), (row.ties, "=")):
        said += [preference] * int(min(max(count or 0, 0), 2))
    verdicts: list[Verdict | None] = [None, None]
    for index, preference in enumerate(said[:2]):
        forward: Verdict = "A=B" if preference == "=" else "A>B" if preference == "A" else "B>A"
        verdicts[index] = forward if index == 0 else SWAPPED[forward]
    return [
        _judgment(row.pair, "forward", verdicts[0]),
        _judgment(row.pair, "backward", verdicts[1]),
    ]


def _judgment(pair: Pair, order: Order, verdict: Verdict | None) -> Judgment:
    error = None if verdict else "the judge's output holds no verdict"
    return Judgment(prompt_id=pair.prompt_id, order=order, verdict=verdict, error=error)
