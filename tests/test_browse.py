"""Facts about paging through the pairs of a run, over HTTP on S3."""

import random
from uuid import uuid4

import pytest
from judged import WIN, judge, make_pairs
from run_work import reads
from sandbox_server import Sandbox

from include import browse
from include.preferences import ResolvedPair, resolve_pairs
from include.records import Pair, RubricScore
from include.storage import RunFolder


@pytest.fixture
def folder(sandbox: Sandbox) -> RunFolder:
    return RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}/run")


def resolved(count: int) -> list[ResolvedPair]:
    pairs = [
        Pair(f"p{n}", f"Question  {n}?\n" + "x" * 200, f"a{n}", f"bb{n}", "judged", category="c")
        for n in range(count)
    ]
    return resolve_pairs(pairs, judge(pairs, [WIN] * count))


def test_the_index_tells_of_every_pair_without_its_texts(folder: RunFolder) -> None:
    browse.write(folder, "claude", resolved(120), [])
    with reads(folder) as seen:
        found = browse.Pairs(folder, "claude").index()
    assert len(seen) == 1
    assert [row.place for row in found] == list(range(120))
    row = found[7]
    assert (row.prompt_id, row.kind, row.preference) == ("p7", "won", "candidate")
    assert (row.forward, row.backward, row.consistent) == ("B>A", "A>B", True)
    assert (row.baseline_characters, row.candidate_characters) == (2, 3)
    assert row.title.startswith("Question 7? xxx") and len(row.title) == browse.TITLE


@pytest.mark.parametrize("place", [0, 49, 50, 119])
def test_a_pair_is_read_with_its_texts(folder: RunFolder, place: int) -> None:
    browse.write(folder, "claude", resolved(120), [])
    found = browse.Pairs(folder, "claude").texts(place)
    assert found is not None
    assert (found.baseline, found.candidate) == (f"a{place}", f"bb{place}")


def test_a_pair_that_is_not_there_has_no_texts(folder: RunFolder) -> None:
    browse.write(folder, "claude", resolved(3), [])
    assert browse.Pairs(folder, "claude").texts(3) is None
    assert browse.Pairs(folder, "claude").texts(-1) is None
    assert browse.Pairs(folder, "nova").texts(0) is None


def test_one_pair_of_many_is_read_without_the_others(folder: RunFolder) -> None:
    dice = random.Random(0)
    long = [Pair(f"p{n}", "q", dice.randbytes(1_000).hex(), "b", "judged") for n in range(2_000)]
    browse.write(folder, "claude", resolve_pairs(long, judge(long, [WIN] * len(long))), [])
    fetched: list[int] = []

    def count(parsed: dict[str, int], **_: object) -> None:
        fetched.append(parsed["ContentLength"])

    folder.s3.meta.events.register("after-call.s3.GetObject", count)
    try:
        assert browse.Pairs(folder, "claude").texts(1_234) is not None
    finally:
        folder.s3.meta.events.unregister("after-call.s3.GetObject", count)
    everything = len(folder.read("browse/claude/texts.parquet"))
    assert sum(fetched) < everything / 4


def test_scores_of_a_rubric_judge_come_with_their_pair(folder: RunFolder) -> None:
    score = RubricScore("p1", 0.4, 0.9, -0.5, justification="clearer")
    browse.write(folder, "claude", resolved(2), [score])
    pairs = browse.Pairs(folder, "claude")
    found = [pairs.texts(place) for place in (0, 1)]
    assert [each and browse.score_of(each) for each in found] == [None, score]


def test_a_run_that_keeps_no_texts_has_an_index_without_any(folder: RunFolder) -> None:
    browse.write(folder, "claude", resolved(3), [], with_texts=False)
    pairs = browse.Pairs(folder, "claude")
    assert [(row.prompt_id, row.title) for row in pairs.index()] == [
        (f"p{n}", "") for n in range(3)
    ]
    assert pairs.texts(0) is None
    assert b"Question" not in folder.read("browse/claude/index.parquet")


def test_half_a_character_in_a_text_does_no_harm(folder: RunFolder) -> None:
    pair = Pair("p0", "q \ud83d", "a \ud83d", "b", "judged")
    browse.write(folder, "claude", resolve_pairs([pair], judge([pair], [WIN])), [])
    found = browse.Pairs(folder, "claude").texts(0)
    assert found is not None and found.prompt == "q ?"


def test_pairs_that_failed_are_listed_too(folder: RunFolder) -> None:
    failed = make_pairs(1, status="candidate_failed")
    browse.write(folder, "claude", resolve_pairs(failed, []), [])
    (row,) = browse.Pairs(folder, "claude").index()
    assert (row.kind, row.preference, row.forward) == ("candidate_failed", None, None)
