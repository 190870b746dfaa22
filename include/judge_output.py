"""The archive of a judge job in, JudgeOutput out: for `llm_judge` and `rubric_llm_judge` alike.

Whether `llm_judge` leaves per-pair details, and in which spelling, AWS's pages do not settle. So
details are read leniently, matched to pairs by their texts, checked against the counts beside
them, and left aside with a notice where they make no sense; the counts alone then speak.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from include import rubric
from include.cells import number, parse_mapping
from include.errors import ResultsError
from include.records import JudgeOutput, Judgment, Notice, Order, Pair, RubricScore, Verdict
from include.wording import printable, short

MAX_ARCHIVE_BYTES = 2 * 1024**3
"""Unpacked; a judge job of 10,000 pairs stays far below."""
MAX_RESULTS_BYTES = 64 * 1024**2
"""Of results_*.json, which is a few kilobytes."""
MOST_NAMES = 1000
"""Members that nobody wants and that an error may name."""
MAX_ROWS = 2_000_000
"""Of one table of details: a row takes a few bits where all are the same."""
BATCH = 200
"""Rows that are opened at once."""
MOST = 1e12
"""No count is as large; sums of such numbers could leave those that JSON has."""

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
        ResultsError: No results in it, or it is damaged or larger than any honest one. Details
            that cannot be read are no error: the counts speak.
    """
    members = _members(archive)
    results = [body for name, body in members.items() if RESULTS.search(name)]
    if not results:
        raise ResultsError(
            "the judge's archive holds no results_*.json; it holds: "
            + (", ".join(printable(name)[:200] for name in sorted(members)[:20]) or "nothing")
        )
    metrics = read_metrics(results[-1])
    tables = [body for name, body in members.items() if DETAILS.search(name)]
    if not tables:
        return JudgeOutput(metrics=metrics, judgments=None)
    unread: Counter[str] = Counter()
    try:
        rows = [row for body in tables for row in _read_table(body, unread)]
    except ResultsError as error:
        return _counts_alone(metrics, str(error))
    output = _judgments(rows, pairs, metrics, unread)
    cells = ", ".join(f"{name} {count}" for name, count in sorted(unread.items()) if count)
    if not cells:
        return output
    notice = Notice(
        "details_malformed",
        f"cells of the judge's details that make no sense were left out: {cells}",
    )
    return replace(output, warnings=[*output.warnings, notice])


class _Unpacked(gzip.GzipFile):
    """What a gzipped file unpacks to, headers and members that nobody wants included."""

    def __init__(self, archive: IO[bytes]) -> None:
        super().__init__(fileobj=archive, mode="rb")
        self._left = MAX_ARCHIVE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes.

        Raises:
            ResultsError: They are more than any honest archive has.
        """
        found = super().read(size)
        self._left -= len(found)
        if self._left < 0:
            raise ResultsError(
                f"the judge's archive unpacks to more than {MAX_ARCHIVE_BYTES} bytes; "
                "it was left alone"
            )
        return found


def _members(archive: IO[bytes]) -> dict[str, bytes]:
    """Return the content of the files that are wanted, and of all others the name.

    As a stream: what the headers say about places in the archive leads nowhere. Of several files
    with one name the last counts, as when unpacked; a link of that name is no file.
    """
    members: dict[str, bytes] = {}
    try:
        with _Unpacked(archive) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                wanted = RESULTS.search(member.name) or DETAILS.search(member.name)
                if wanted and member.isfile():
                    members[member.name] = _content(tar, member)
                elif not wanted and len(members) < MOST_NAMES:
                    members[member.name] = b""
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        raise ResultsError(f"the judge's archive cannot be read: {error}") from error
    return dict(sorted(members.items()))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    most = MAX_RESULTS_BYTES if RESULTS.search(member.name) else MAX_ARCHIVE_BYTES
    if member.size > most:
        raise ResultsError(
            f"the judge's archive: {printable(member.name)[:200]} has {member.size:,} bytes, and "
            f"at most {most:,} are read"
        )
    file = tar.extractfile(member)
    return file.read() if file else b""


def read_metrics(body: bytes) -> dict[str, float | None]:
    """Read the numbers of `results_*.json`: those of `all`, else of the only task.

    Raises:
        ResultsError: Not JSON, or without results.
    """
    try:
        results = json.loads(body)["results"]
        metrics = results["all"] if "all" in results else next(iter(results.values()))
        return {key: _sane(number(value)) for key, value in metrics.items()}
    except RecursionError:
        raise ResultsError("the judge's results_*.json is nested too deeply to be read") from None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ResultsError(
            f"the judge's results_*.json has no results to read: {short(error, 300)}"
        ) from error


def _sane(value: float | None) -> float | None:
    return None if value is None or abs(value) > MOST else value


def _read_table(body: bytes, unread: Counter[str]) -> Iterator[Row]:
    """Yield rows with their nested columns opened: `metrics` and `specifics` beside the rest.

    Raises:
        ResultsError: It is no Parquet, or larger than any honest table.
    """
    import pyarrow

    try:
        rows = list(_rows(body))
    # The latter two: a text is not UTF-8, a day is in no calendar.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ResultsError(
            f"the judge's details_*.parquet cannot be read: {short(error, 300)}"
        ) from error
    for row in rows:
        opened = dict(row)
        for column in ("example", "specifics", "metrics"):
            fields = parse_mapping(row.get(column))
            opened.update(fields)
            # An `example` may also be a plain text; it is the other two that we need.
            unread[column] += not fields and bool(row.get(column)) and column != "example"
        yield opened


def _rows(body: bytes) -> Iterator[Row]:
    from pyarrow import parquet

    with parquet.ParquetFile(io.BytesIO(body)) as table:
        count, size = table.metadata.num_rows, 0
        if count > MAX_ROWS:
            raise ResultsError(
                f"the judge's details_*.parquet has {count:,} rows, and at most {MAX_ROWS:,} are "
                "read"
            )
        for batch in table.iter_batches(BATCH, use_threads=False):
            size += batch.nbytes
            if size > MAX_ARCHIVE_BYTES:
                raise ResultsError(
                    f"the judge's details_*.parquet unpacks to more than {MAX_ARCHIVE_BYTES} bytes"
                )
            yield from batch.to_pylist()


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
        why = f"none of the {len(rows)} rows of the judge's details names a pair of this run"
        return _counts_alone(metrics, why)
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


def _counts_alone(metrics: dict[str, float | None], why: str) -> JudgeOutput:
    """Leave the details aside: a job that was paid for still has its counts."""
    message = f"{why}; the verdict rests on the judge's own counts"
    notice = Notice("details_unreadable", message)
    return JudgeOutput(metrics=metrics, judgments=None, warnings=[notice])


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
        replace(_judgment(row.pair, "forward", verdicts[0]), order_known=False),
        replace(_judgment(row.pair, "backward", verdicts[1]), order_known=False),
    ]


def _judgment(pair: Pair, order: Order, verdict: Verdict | None) -> Judgment:
    error = None if verdict else "the judge's output holds no verdict"
    return Judgment(prompt_id=pair.prompt_id, order=order, verdict=verdict, error=error)
