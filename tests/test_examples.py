"""Facts about the pairs that a report shows."""

import tracemalloc
from collections import Counter
from typing import get_args

from include.examples import SHOWN, Kind, kind_of, pick
from include.preferences import resolve_pairs
from include.records import Judgment, Pair

SAID = {
    "lost": ("A>B", "B>A"),
    "won": ("B>A", "A>B"),
    "tie": ("A=B", "A=B"),
    "disagreement": ("A>B", "A>B"),
    "no_verdict": ("A>B", None),
}


def make_pair(n, kind, text="x"):
    pair = Pair(f"p{n}", "q", text, text, "judged" if kind in SAID else kind)
    orders = zip(("forward", "backward"), SAID.get(kind, ()), strict=False)
    return resolve_pairs([pair], [Judgment(pair.prompt_id, *each) for each in orders])[0]


def make_pairs(count, kinds=tuple(SHOWN)):
    return [make_pair(n, kinds[n % len(kinds)]) for n in range(count)]


def ids(samples):
    return [pair.pair.prompt_id for sample in samples for pair in sample.pairs]


def test_what_became_of_a_pair_is_its_kind():
    for kind in get_args(Kind):
        assert kind_of(make_pair(0, kind)) == kind


def test_every_kind_is_shown_and_counted_and_all_that_were_lost_are_there():
    samples = pick(make_pairs(1_000))
    assert [sample.kind for sample in samples] == list(SHOWN)
    assert {sample.total for sample in samples} == {100}
    assert [len(sample.pairs) for sample in samples] == [100, *list(SHOWN.values())[1:]]
    assert all(kind_of(pair) == sample.kind for sample in samples for pair in sample.pairs)


def test_one_failure_among_many_pairs_is_shown():
    pairs = [*make_pairs(3_000, ("won", "lost")), make_pair(9_999, "both_failed")]
    assert "p9999" in ids(pick(pairs))


def test_few_pairs_are_all_shown_in_their_order():
    pairs = make_pairs(15, ("lost",))
    assert ids(pick(pairs)) == [f"p{n}" for n in range(15)]


def test_the_same_pairs_are_picked_each_time():
    assert ids(pick(make_pairs(1_000))) == ids(pick(make_pairs(1_000)))


def test_every_pair_has_the_same_chance():
    pairs = make_pairs(50, ("disagreement",))
    picked = Counter(each for seed in range(400) for each in ids(pick(pairs, seed=seed)))
    # 400 draws with a chance of 10 in 50: 80, give or take five times sqrt(400 * .2 * .8) = 8
    assert all(40 <= picked[f"p{n}"] <= 120 for n in range(50))
    assert picked.total() == 400 * 10


def test_several_candidates_share_the_room():
    samples = pick(make_pairs(3_000), candidates=5)
    assert len(samples[0].pairs) == 200
    assert all(len(sample.pairs) == max(1, SHOWN[sample.kind] // 5) for sample in samples)


def test_only_the_picked_texts_are_kept():
    size = 50_000
    pairs = (make_pair(n, "won", f"{n}" + "x" * size) for n in range(500))
    tracemalloc.start()
    samples = pick(pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples[0].total == 500
    assert peak < 40 * size  # of 500 texts
