"""People's preferences: the form that they fill in out, and what they made of it back in.

The form is blind: it names no model, tells no verdict, and shows the two responses of a pair in an
order that is random but always the same. Digests bind it to what was judged, so that texts may be
mangled on the way: spreadsheets do that.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from include import rows
from include.browse import IndexRow, Pairs
from include.errors import LabelsError
from include.preferences import ResolvedPair
from include.records import Drawn, Judged, Label, Labels, Pair, Preference, sha256
from include.storage import RunFolder
from include.wording import plural, printable

if TYPE_CHECKING:
    from botocore.client import BaseClient

LONGEST_TEXT = 32_000
"""Characters of a text in the form: no spreadsheet takes more than 32,767 in a cell."""

JUDGED = {
    "comparison": "comparison",
    "dataset": "dataset_sha256",
    "judge_image": "judge_image",
    "judge_image_digest": "judge_image_digest",
    "recipe": "recipe_sha256",
}
"""Columns of what was judged, by the fields of `Judged`."""
RESPONSES = ("response_1_sha256", "response_2_sha256")
TO_READ = ("pair", "prompt", "response_1", "response_2", "preference")
COLUMNS = (*TO_READ, "drawn", *JUDGED.values(), *RESPONSES)
NEEDED = ("pair", "preference", "drawn", *JUDGED.values(), *RESPONSES)

ANSWERS = ("1", "2", "tie")


def judged(evaluation: str, provenance: Mapping[str, Any], baseline: str, candidate: str) -> Judged:
    """Return what labels of a comparison are about.

    Args:
        evaluation: Its name.
        provenance: The summary's.
        baseline: Its name.
        candidate: Its name.
    """
    names = json.dumps([evaluation, baseline, candidate])
    digests = provenance.get("digests", {})
    return Judged(
        comparison=_short("c", names),
        dataset=digests.get("dataset"),
        judge_image=provenance.get("judge_image"),
        judge_image_digest=provenance.get("judge_image_digest"),
        recipe=digests.get("recipe"),
    )


def _short(kind: str, text: str) -> str:
    """Name something by digest; the letter keeps a spreadsheet from taking it for a number."""
    return f"{kind}-{sha256(text)[:16]}"


def can_be_labelled(row: IndexRow) -> bool:
    """Whether a label would say something: what has no preference, or is identical, needs none."""
    return row.preference is not None and row.kind != "identical"


def form(
    pairs: Pairs, listed: Iterable[IndexRow], about: Judged, *, number: int, seed: int, drawn: Drawn
) -> Iterator[dict[str, str]]:
    """Yield the rows of a form, `preference` to be filled in with 1, 2 or tie.

    Args:
        pairs: The run's.
        listed: Those of which some are drawn.
        about: What was judged.
        number: How many are drawn; fewer if there are not so many.
        seed: Of the draw: with the same one, more rows begin with the fewer.
        drawn: `random` if all of the run's pairs are listed.
    """
    asked = filter(can_be_labelled, listed)
    drawing = sorted(asked, key=lambda row: _draw(f"{seed} {about.comparison} {row.prompt_id}"))
    picked = drawing[:number]
    texts = pairs.texts_of(row.place for row in picked)
    bound = {column: getattr(about, name) or "" for name, column in JUDGED.items()}
    for row in picked:
        shown = texts[row.place]
        both = [shown.baseline or "", shown.candidate or ""]
        if _draw(f"order {about.comparison} {row.prompt_id}") % 2:
            both.reverse()
        cut = [text[:LONGEST_TEXT] for text in (shown.prompt, *both)]
        to_read = dict(zip(TO_READ, (_short("p", row.prompt_id), *cut, ""), strict=True))
        digests = dict(zip(RESPONSES, map(sha256, both), strict=True))
        yield {**to_read, "drawn": drawn, **bound, **digests}


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest())


def read(
    file: str,
    s3: BaseClient,
    known: Mapping[str, Judged],
    pairs_of: Callable[[str], Iterable[ResolvedPair]],
) -> tuple[str, Labels]:
    """Read a form that people have filled in.

    Several rows of one pair are several people's: what more than half of them prefer counts, and
    without that they make a tie. Texts, and columns that the form has not, are not looked at.

    Args:
        file: Path or `s3://` URI, of any format that data sets have.
        s3: For `s3://` files.
        known: What was judged in the run, by candidate.
        pairs_of: Gives all pairs of a candidate.

    Returns:
        The candidate, and the labels.

    Raises:
        DatasetError: The file cannot be read, or rows of it cannot be used.
        LabelsError: It holds no labels, or is about something else than this run.
    """
    filled: dict[int, dict[str, str]] = {}
    with rows.open_rows(file, s3, key="FILE") as table:
        table.check_columns(("FILE", column) for column in NEEDED)
        for number, row in enumerate(table, 1):
            cells = {name: _text(row.get(name)) for name in NEEDED}
            if any(cells.values()):  # spreadsheets leave empty rows at the end
                filled[number] = cells
    candidate = _candidate(file, {cells["comparison"] for cells in filled.values()}, known)
    for cells in filled.values():
        then: Any = {name: cells[column] or None for name, column in JUDGED.items()}
        _refuse(file, differences(Judged(**then), known[candidate]))
    answered = {number: cells for number, cells in filled.items() if cells["preference"]}
    if not answered:
        raise LabelsError(
            f"{file} holds no labels: preference is empty in all of its {len(filled):,} rows; "
            f"expected {_any_of(ANSWERS)}"
        )
    return candidate, Labels(
        judged=known[candidate],
        drawn="random" if all(c["drawn"] == "random" for c in answered.values()) else "chosen",
        labels=_labels(file, answered, pairs_of(candidate)),
        unlabelled=len(filled) - len(answered),
    )


def _text(value: object) -> str:
    return "" if value is None else rows.as_text(value).strip()


def _candidate(file: str, found: set[str], known: Mapping[str, Judged]) -> str:
    """Return whose labels these are.

    Raises:
        LabelsError: Nobody's of this run, or more than one's.
    """
    names = [name for name, about in known.items() if about.comparison in found]
    if len(names) == 1 and len(found) == 1:
        return names[0]
    shown = [_shown(each) for each in sorted(found)[: rows.SHOWN]]
    there = ", ".join(f"{about.comparison} ({name})" for name, about in known.items())
    raise LabelsError(
        f"{file}: comparison is {_any_of(shown) or 'nowhere told'}; expected one of this "
        f"run's, the same in all rows: {there}; label a form that is made from this run's pairs"
    )


def _shown(cell: str) -> str:
    return printable(cell)[:100]


def differences(then: Judged, now: Judged) -> list[str]:
    """Name what makes labels stale: all that was judged then and is another now."""
    return [
        f"{column}: {_shown(before or 'none')} there, {after or 'none'} in this run"
        for name, column in JUDGED.items()
        if (before := getattr(then, name)) != (after := getattr(now, name))
        and not (name == "judge_image_digest" and None in (before, after))
    ]


def _refuse(file: str, found: Sequence[str]) -> None:
    if found:
        raise LabelsError(
            "\n".join(
                [
                    f"{file} is stale, it was made of something else than this run:",
                    *(f"  {each}" for each in found),
                    "label a form that is made from this run's pairs",
                ]
            )
        )


def _labels(
    file: str, answered: Mapping[int, Mapping[str, str]], pairs: Iterable[ResolvedPair]
) -> list[Label]:
    """Turn 1 and 2 back into roles, and several people's rows into one label.

    Raises:
        DatasetError: With the first rows that cannot be used.
    """
    wanted = {cells["pair"] for cells in answered.values()}
    by_id = {
        name: row.pair
        for row in pairs
        if _is_asked_about(row) and (name := _short("p", row.pair.prompt_id)) in wanted
    }
    said: defaultdict[str, list[Preference]] = defaultdict(list)
    problems = rows.Problems(file)
    for number, cells in answered.items():
        try:
            pair = by_id.get(cells["pair"])
            if pair is None:
                raise ValueError(f"pair: {cells['pair']!r} is none of this run's with a preference")
            _one_of("drawn", cells["drawn"], get_args(Drawn))
            said[pair.prompt_id].append(_preference(cells, pair))
        except ValueError as error:
            problems.add(number, error)
    problems.refuse()
    return [
        Label(pair.prompt_id, _most(found), *_digests(pair), len(found))
        for pair in by_id.values()
        if (found := said.get(pair.prompt_id))
    ]


def _is_asked_about(row: ResolvedPair) -> bool:
    return row.preference is not None and row.pair.status == "judged"


def _preference(cells: Mapping[str, str], pair: Pair) -> Preference:
    """Return what a row prefers, by the digests of its responses.

    Raises:
        ValueError: It is none of the answers, or the responses are others.
    """
    answer = _one_of("preference", cells["preference"], ANSWERS)
    shown, there = tuple(cells[column] for column in RESPONSES), _digests(pair)
    if shown not in (there, there[::-1]):
        column, found = next(
            (column, each)
            for column, each in zip(RESPONSES, shown, strict=True)
            if each not in there or shown[0] == shown[1]
        )
        raise ValueError(
            f"{column}: {_shown(found or 'none')} there, {_any_of(there)} in this run: "
            "another response"
        )
    if answer == "tie":
        return "tie"
    return "baseline" if shown[int(answer) - 1] == there[0] else "candidate"


def _digests(pair: Pair) -> tuple[str, str]:
    """Return the digests of both responses as the form shows them, without half characters."""
    if pair.digests:
        return pair.digests.baseline or "", pair.digests.candidate or ""
    both = (text or "" for text in (pair.baseline, pair.candidate))
    first, second = (sha256(text.encode("utf-8", "replace").decode()) for text in both)
    return first, second


def _most(said: Sequence[Preference]) -> Preference:
    """Return what more than half prefer, else a tie."""
    first, times = Counter(said).most_common(1)[0]
    return first if 2 * times > len(said) else "tie"


def _one_of(column: str, found: str, allowed: Sequence[str]) -> str:
    """Return which of the allowed was found, in whatever case, or as a decimal number.

    Raises:
        ValueError: None of them; with the nearest.
    """
    plain = found.lower().removesuffix(".0")
    if plain in allowed:
        return plain
    close = get_close_matches(found, allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{column}: expected {_any_of(allowed)}, found {found!r}{hint}")


def _any_of(choices: Sequence[str]) -> str:
    *first, last = choices or [""]
    return f"{', '.join(first)} or {last}" if first else last


def write(folder: RunFolder, candidate: str, labels: Labels) -> str:
    """Store labels in the run folder, in the place of earlier ones, and return the URI."""
    return folder.write(_name(candidate), json.dumps(asdict(labels)))


def stored(folder: RunFolder, candidate: str) -> Labels | None:
    """Return the labels that a run folder holds."""
    found = folder.read_json(_name(candidate))
    if found is None:
        return None
    each = [Label(**label) for label in found["labels"]]
    return Labels(**{**found, "judged": Judged(**found["judged"]), "labels": each})


def why_stale(labels: Labels, now: Judged, pairs: Iterable[ResolvedPair]) -> str | None:
    """Say why stored labels are not about a run any more; None if they are.

    Args:
        labels: As stored.
        now: What is judged in the run.
        pairs: All of the candidate's.
    """
    found = differences(labels.judged, now)
    if found:
        return "; ".join(found)
    then = {label.prompt_id: (label.baseline, label.candidate) for label in labels.labels}
    same = sum(
        _is_asked_about(row) and then.get(row.pair.prompt_id) == _digests(row.pair)
        for row in pairs
        if row.pair.prompt_id in then
    )
    others = len(then) - same
    if others:
        return f"{plural(others, 'labelled pair')} of {len(labels.labels):,} have other responses"
    return None


def _name(candidate: str) -> str:
    return f"labels/{candidate}.json"
