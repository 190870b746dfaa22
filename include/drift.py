"""Anchor pairs in, whether the judge still judges as it did out: judge drift is not model drift.

Anchor pairs are frozen: the same prompts with the same two responses, forever. What the judge says
about them in a round changes only if the judge does. Rounds of one set, under one recipe, lie
beside the run folders, for all evaluations of the environment, and outlive them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from include import rows
from include.config import ANCHORS
from include.history import moment
from include.paired import compare_runs
from include.pairs import make_pairs
from include.preferences import ResolvedPair
from include.records import (
    Change,
    JudgeChange,
    JudgeImage,
    JudgeRound,
    JudgeVerdict,
    Pair,
    Prompt,
    Response,
    Summary,
)
from include.storage import RunFolder
from include.wording import level, percent, plural, points

if TYPE_CHECKING:
    from botocore.client import BaseClient

STILL_NONE = 0.05
"""A change of the anchors' win rate that is still called none, where the gate names no margin."""


def read_pairs(source: str, s3: BaseClient | None = None) -> list[Pair]:
    """Read anchor pairs: rows with Nova's fields `prompt`, `response_A` and `response_B`.

    Args:
        source: Path or `s3://` URI, of any format that data sets have.
        s3: For `s3://` sources.

    Returns:
        Pairs with response A as the baseline's. Their ids are digests of their texts.

    Raises:
        DatasetError: Naming file and rows that the judge could not be asked about.
    """
    fields = ("prompt", "response_A", "response_B")
    found: dict[str, Pair] = {}
    with rows.open_rows(source, s3, key="judge.anchor_pairs") as table:
        table.check_columns(("judge.anchor_pairs", name) for name in fields)
        problems = rows.Problems(source)
        for number, row in enumerate(table, 1):
            try:
                pair = _pair(*(rows.text(row, name) for name in fields))
                if pair.prompt_id in found:
                    raise ValueError("the same pair is there twice")
            except ValueError as error:
                problems.add(number, error)
            else:
                found[pair.prompt_id] = pair
        problems.refuse()
    return list(found.values())


def _pair(prompt: str, response_a: str, response_b: str) -> Pair:
    texts = json.dumps([prompt, response_a, response_b]).encode()
    prompt_id = hashlib.sha256(texts).hexdigest()[:16]
    a, b = (Response(prompt_id, "", "ok", text) for text in (response_a, response_b))
    (pair,) = make_pairs([Prompt(prompt_id, prompt)], {prompt_id: a}, {prompt_id: b})
    if pair.status != "judged":
        raise ValueError(f"the judge is not asked about it: {pair.status.replace('_', ' ')}")
    return pair


class Rounds:
    """All rounds of one set of anchor pairs under one recipe.

    Args:
        output: The environment's `output_s3_uri`.
        pairs: The set.
        recipe: As it is sent: another recipe is another judge.
    """

    def __init__(self, output: RunFolder, pairs: Iterable[Pair], recipe: bytes) -> None:
        ids = sorted(pair.prompt_id for pair in pairs)
        digest = hashlib.sha256(json.dumps([ids, recipe.decode()]).encode()).hexdigest()
        self._output, self._home = output, f"anchors/{digest[:24]}/"

    def all(self) -> list[JudgeRound]:
        """Return every round, the oldest first."""
        return [_round(self._output.read(name)) for name in self._output.names(self._home)]

    def add(self, found: JudgeRound) -> str:
        """Store a round and return where; one of the same run is replaced."""
        slug = found.run_folder.rpartition("/")[2]
        name = f"{self._home}{moment(found.started_at)}_{slug}.json"
        return self._output.write(name, json.dumps(dataclasses.asdict(found)))


def _round(body: bytes) -> JudgeRound:
    stored = json.loads(body)
    return JudgeRound(**{**stored, "image": JudgeImage(**stored["image"])})


def why_due(
    rounds: Sequence[JudgeRound], image: JudgeImage, runs_since: int, every: int
) -> str | None:
    """Say why the anchors are to be judged again; None if they are not.

    Args:
        rounds: All that there were, the oldest first.
        image: The judge's now.
        runs_since: Runs of the evaluation since the last round.
        every: After how many runs a round is due, whatever the image.
    """
    if not rounds:
        return "they were never judged"
    if image.is_another(rounds[-1].image):
        return "the judge's image is another"
    if runs_since >= every:
        return f"{plural(runs_since, 'run')} since the last time"
    return None


def compare_rounds(
    earlier: JudgeRound, later: JudgeRound, *, margin: float, confidence_level: float
) -> JudgeChange:
    """Compare what the judge said about the same anchors at two times.

    Args:
        earlier: A round.
        later: Another one of the same set.
        margin: A change of the anchors' win rate that is still called none.
        confidence_level: Of the interval.

    Notes:
        An anchor's score is response B's, ties half; the change is `paired.compare_runs`'s. The
        verdict is `unchanged` if the whole interval is within the margin (equivalence), `changed`
        if it is not and excludes 0, else `inconclusive`.
    """
    change = compare_runs(
        _resolved(earlier), _resolved(later), candidate="B", confidence_level=confidence_level
    )
    verdict = _verdict(change, margin)
    return JudgeChange(
        verdict=verdict,
        sentence=_sentence(verdict, change, earlier),
        anchors=change.prompts,
        same=change.unchanged,
        difference=change.difference,
        low=change.low,
        high=change.high,
        confidence_level=change.confidence_level,
        earlier_at=earlier.started_at,
        earlier_image=earlier.image,
        later_at=later.started_at,
        later_image=later.image,
    )


def _resolved(judged: JudgeRound) -> Iterator[ResolvedPair]:
    for prompt_id, preference in judged.preferences.items():
        yield ResolvedPair(Pair(prompt_id, "", "", "", "judged"), (), preference, None)


def _verdict(change: Change, margin: float) -> JudgeVerdict:
    if change.low is None or change.high is None:
        return "inconclusive"
    if -margin <= change.low and change.high <= margin:
        return "unchanged"
    return "inconclusive" if change.low <= 0 <= change.high else "changed"


SAID: dict[JudgeVerdict, str] = {
    "changed": "The judge has changed",
    "unchanged": "The judge judges as before",
    "inconclusive": "Whether the judge has changed is not known",
}


def _sentence(verdict: JudgeVerdict, change: Change, earlier: JudgeRound) -> str:
    if change.difference is None or change.low is None or change.high is None:
        return f"{SAID[verdict]}: too few anchor pairs have a verdict in both rounds."
    return (
        f"{SAID[verdict]}: of {plural(change.prompts, 'anchor pair')} it judges "
        f"{percent(change.unchanged / change.prompts)} as on {earlier.started_at[:10]}, and "
        f"response B's win rate changes by {points(change.difference)} percentage points "
        f"({level(change.confidence_level)} interval {points(change.low)} to "
        f"{points(change.high)})."
    )


def between(
    rounds: Sequence[JudgeRound], image: JudgeImage, earlier: tuple[str, JudgeImage] | None
) -> tuple[JudgeRound, JudgeRound] | None:
    """Choose the two rounds that tell how the judge of a run differs from that of an earlier one.

    Args:
        rounds: All of them, the oldest first; none later than the run.
        image: The judge's of the run.
        earlier: When the earlier run started, ISO 8601, and its judge's image; None: there is no
            such run, and the last two rounds are chosen.

    Returns:
        None if there are no two rounds that stand for the two runs' judges.
    """
    of_run = [each for each in rounds if each.image == image]
    if not of_run:
        return None
    later = of_run[-1]
    before = rounds[: rounds.index(later)]
    if earlier is not None:
        since, its_image = earlier
        before = [
            each
            for each in rounds
            if moment(each.started_at) <= moment(since) and each.image == its_image
        ]
    # One round that stands for both says that they had the same judge, and nothing more.
    return (before[-1], later) if before and before[-1] is not later else None


def since_accepted(
    folder: RunFolder,
    output: RunFolder,
    *,
    started_at: str,
    recipe: bytes,
    image: JudgeImage,
    accepted: Summary | None,
    margin: float,
    confidence_level: float,
) -> JudgeChange | None:
    """Compare the judge of a run with that of the accepted run, or with its own last round.

    Args:
        folder: Of the run.
        output: The environment's `output_s3_uri`.
        started_at: When the run started, ISO 8601.
        recipe: The run's, as it was sent.
        image: The judge's.
        accepted: The accepted run; None: there is none.
        margin: A change that is still called none; 0: `STILL_NONE`.
        confidence_level: Of the interval.

    Returns:
        None if the run has no anchor pairs, or no two rounds tell.
    """
    stored = f"pairs/{ANCHORS}/pairs.jsonl"
    if stored not in folder.names(stored):
        return None
    rounds = Rounds(output, folder.read_records(stored, Pair), recipe).all()
    known = [each for each in rounds if moment(each.started_at) <= moment(started_at)]
    then = (accepted.started_at, image_of(accepted)) if accepted else None
    both = between(known, image, then)
    if both is None:
        return None
    return compare_rounds(*both, margin=margin or STILL_NONE, confidence_level=confidence_level)


def image_of(summary: Summary) -> JudgeImage:
    """Return the container that judged a run."""
    found = summary.provenance
    return JudgeImage(str(found.get("judge_image")), found.get("judge_image_digest"))


def doubt(
    accepted: Summary | None, image: JudgeImage, recipe: str, change: JudgeChange | None
) -> str | None:
    """Say why a change since the accepted run may be the judge's; None if it cannot be.

    Args:
        accepted: The accepted run.
        image: The judge's of the later run.
        recipe: Digest of the later run's recipe.
        change: What the anchor pairs say; None: nothing. They were judged by the later run's
            recipe at both times, so they clear another image and never another recipe.
    """
    if accepted is None:
        return None
    if change and change.verdict == "changed":
        return change.sentence
    cleared = change is not None and change.verdict == "unchanged"
    another_image = image.is_another(image_of(accepted)) and not cleared
    another_recipe = accepted.provenance.get("digests", {}).get("recipe") != recipe
    differing = [*(["image"] if another_image else []), *(["recipe"] if another_recipe else [])]
    if not differing:
        return None
    said = f"the judge's {' and '.join(differing)} changed too"
    if change and not another_recipe:
        return f"{said}. {change.sentence}"
    return f"{said}, and no anchor pairs tell it apart."
