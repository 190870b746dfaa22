"""Facts about the words that only one of two texts has."""

import random
import time

from hypothesis import given
from hypothesis import strategies as st

from include.web.differences import MOST_WORDS, Piece, marked

WORDS = st.lists(st.sampled_from(["the", "sky", "is", "blue.", "not", "\n", "  "])).map(" ".join)


def test_words_that_only_one_text_has_are_its_own() -> None:
    assert marked("The sky is blue today.", "The sky was, blue today.") == (
        [Piece("The sky ", False), Piece("is ", True), Piece("blue today.", False)],
        [Piece("The sky ", False), Piece("was, ", True), Piece("blue today.", False)],
    )


@given(WORDS, WORDS)
def test_the_pieces_are_the_texts(one: str, other: str) -> None:
    found = marked(one, other)
    if found is not None:
        assert ["".join(piece.text for piece in text) for text in found] == [one, other]
        common = ["".join(p.text for p in text if not p.is_own) for text in found]
        assert common[0].split() == common[1].split()


def test_texts_with_little_in_common_are_not_marked() -> None:
    assert marked("one two three four five", "six seven eight nine five ten") is None


def test_long_texts_are_not_marked() -> None:
    long = "word " * MOST_WORDS
    assert marked(long, long + "more") is None
    assert marked(long + "more", long + "more") is not None


def test_texts_made_to_be_slow_are_not_slow() -> None:
    words = [f"w{n % 105}" for n in range(MOST_WORDS)]
    one, other = random.Random(1).sample(words, MOST_WORDS), words[::-1]
    began = time.process_time()
    marked(" ".join(one), " ".join(other))
    marked("the cat sat " * 600, "the dog sat " * 600)  # takes 45 s where every word counts
    assert time.process_time() - began < 5
