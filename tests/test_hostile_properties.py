"""Facts that hold whatever is written: errors are for people, numbers finite, nothing is lost."""

import gzip
import io
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import pyarrow
import pytest
from botocore.exceptions import ClientError
from hostile import archives, datasets, evaluations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judged import compare, judge

from include import canaries, judge_output, ledger, preferences, providers, recipes, second_judge
from include.config import Dataset, Evaluation, ResponsesModel
from include.config_files import read_config, resolve_config
from include.equal_length import equal_length_interval
from include.errors import ConfigError, DatasetError, ResultsError
from include.existing_responses import open_responses
from include.intervals import (
    Interval,
    cluster_t_interval,
    conservative_interval,
    detectable_effect,
    needed_pairs,
    sign_test,
)
from include.ledger import Ledger
from include.lengths import by_length
from include.prompts import open_prompts
from include.records import Pair, Prompt, Response
from include.rows import FORMATS
from include.storage import RunFolder

few = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

NUMBERS = (
    st.integers(-(10**400), 10**400)
    | st.integers(-3, 70)
    | st.floats()
    | st.sampled_from([10**12, 1e308, -1e308, 2**63, float("nan")])
)
TEXTS = st.text(max_size=12) | st.sampled_from([*datasets.TEXTS.values(), "\ud800", "x" * 5000])
KEYS = st.text(max_size=5) | st.sampled_from(["name", "provider", "source", "results", "all"])
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
ODD = TREES | st.binary(max_size=4) | st.dates() | st.frozensets(st.integers(), max_size=2)
"""What YAML can make beside what JSON can."""


def known(model: Any) -> Any:
    """Dictionaries of a section's own keys, and others, to anything."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    return st.dictionaries(st.sampled_from(names) | KEYS, ODD, max_size=4)


SECTIONS = {
    name: field.annotation
    for name, field in Evaluation.model_fields.items()
    if hasattr(field.annotation, "model_fields")
}
CHANGES = st.fixed_dictionaries({}, optional={name: ODD for name in Evaluation.model_fields}) | (
    st.sampled_from(sorted(SECTIONS)).flatmap(
        lambda name: st.fixed_dictionaries({name: known(SECTIONS[name])})
    )
)


@few
@given(CHANGES | st.dictionaries(KEYS | st.integers() | st.none(), ODD, max_size=3))
def test_any_evaluation_is_a_config_or_a_config_error(changes: dict[Any, Any]) -> None:
    with suppress(ConfigError):
        config = resolve_config({**evaluations.BASE, **changes}, environ={})
        json.dumps(config.model_dump(mode="json", by_alias=True), allow_nan=False)
        assert len(config.digest()) == 64
        for each in config.judges:
            recipes.load_here(each.recipe, each.overrides)


PIECES = (
    *("a", "b", "1", "0x", "-", ".inf", "2026-13-01", "~", "no", '"\\ud800"', "'", '"', "é", "\0"),
    *(
        ":",
        ": ",
        "- ",
        "? ",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "\n",
        "\n  ",
        "\n    ",
        "\t",
        " ",
        "#",
        "---\n",
    ),
    *("&a ", "*a", "<<: ", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set "),
    *(
        "!!omap ",
        "!!pairs ",
        "!!null ",
        "!!merge ",
        "!!python/tuple ",
        "!<x> ",
        "%YAML 1.1\n",
        "|\n",
    ),
    *(
        "run: ",
        "inference: ",
        "top_p: ",
        "=",
        "1:60",
        "1_0",
        "0b",
        "=: ",
        "\ufeff",
        "\x85",
        "\u2028",
    ),
)
YAML = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=20)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(YAML.map(str.encode) | st.binary(max_size=30), st.booleans())
def test_any_file_is_a_mapping_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, is_long: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(body + (b"\n#" + b"x" * 5000) * is_long)  # two readers: one is for long files
    with suppress(ConfigError):
        assert isinstance(read_config(path), dict)
    with suppress(ConfigError):
        recipes.load(str(path))


# files of rows

ROW = st.dictionaries(st.sampled_from(["id", "prompt", "response", "m"]), TREES, max_size=4)
GOOD = {
    ".jsonl": datasets.GOOD,
    ".ndjson": datasets.GOOD,
    ".json": b'[{"prompt": "a", "id": "1"}]',
    ".csv": b"id,prompt\n1,a\n2,b\n",
    ".parquet": datasets.table({"id": ["1", "2"], "prompt": ["a", "b"]}),
}
DAMAGE = st.tuples(st.integers(0, 4000), st.binary(max_size=6), st.integers(0, 8))


def damaged(body: bytes, places: list[tuple[int, bytes, int]]) -> bytes:
    """Put other bytes in place of some, at places that may be anywhere."""
    for at, new, gone in places:
        start = at % (len(body) + 1)
        body = body[:start] + new + body[start + gone :]
    return body


@few
@given(
    st.sampled_from(FORMATS), st.lists(DAMAGE, max_size=3), st.none() | st.binary(), st.booleans()
)
def test_any_file_of_prompts_gives_prompts_or_a_data_set_error(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    places: list[Any],
    other: bytes | None,
    packed: bool,
) -> None:
    body = damaged(GOOD[ending], places) if other is None else other
    path = tmp_path_factory.getbasetemp() / f"any{ending}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(body) if packed else body)
    dataset = Dataset(source=str(path), id_field="id")
    with suppress(DatasetError), open_prompts(dataset) as found:
        assert all(isinstance(prompt.text, str) for prompt in found)


@few
@given(st.lists(ROW, max_size=5), st.sampled_from([{}, {"messages_field": "m"}]))
def test_any_rows_give_prompts_and_responses_or_a_data_set_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], keys: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    with suppress(ValueError):  # a number of more than 4,300 digits cannot even be written
        path.write_bytes(datasets.lines(*rows))
    prompts: list[Prompt] = []
    with suppress(DatasetError), open_prompts(Dataset(source=str(path), **keys)) as found:
        prompts = list(found)
    model = ResponsesModel(name="m", provider="responses", source=str(path), id_field="id")
    with suppress(DatasetError), open_responses(model, Dataset(source="p")) as answers:
        assert len(list(answers.answer(prompts))) == len(prompts)


# the judge's archive


def numbers(value: Any) -> Iterator[float]:
    """Yield every number of a record, however deep."""
    if is_dataclass(value):
        for field in fields(value):
            yield from numbers(getattr(value, field.name))
    elif isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, float):
        yield value


def is_interval(found: Any) -> bool:
    """Whether an estimate and its bounds are shares, in this order; or there are none."""
    if found.estimate is None:
        return found.low is None and found.high is None
    if found.low is None:
        return 0 <= found.estimate <= 1 and found.high is None
    return 0 <= found.low <= found.estimate + 1e-12 and found.estimate - 1e-12 <= found.high <= 1


METRIC_NAMES = [*archives.METRICS, "score", "a_scores_stderr", "lower_rate", "upper_rate"]
METRICS = st.dictionaries(st.sampled_from(METRIC_NAMES), NUMBERS | TREES)


def counted(body: bytes) -> None:
    """Read an archive and count what it says, with numbers that JSON has."""
    output = judge_output.read(io.BytesIO(body), archives.PAIRS)
    result = compare(archives.PAIRS, metrics=output.metrics)
    assert is_interval(result.win_rate) and all(map(math.isfinite, numbers(asdict(result))))
    json.dumps([asdict(output), asdict(result)], allow_nan=False)


@few
@given(TREES | st.fixed_dictionaries({"results": TREES | st.fixed_dictionaries({"all": METRICS})}))
def test_any_results_are_counted_or_a_results_error(results: Any) -> None:
    with suppress(ResultsError, ValueError) if _is_too_long(results) else suppress(ResultsError):
        counted(archives.results(json.dumps(results)))


def _is_too_long(value: Any) -> bool:
    """Whether a number has more digits than Python writes."""
    try:
        json.dumps(value)
    except ValueError:
        return True
    return False


CELLS = [
    st.text(max_size=8).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.binary(max_size=8),
]
COLUMN = st.sampled_from(CELLS).flatmap(
    lambda cell: st.lists(st.none() | cell, min_size=2, max_size=2)
)


@few
@given(st.dictionaries(st.sampled_from(["metrics", "specifics", "example", "prompt"]), COLUMN))
def test_any_table_is_counted_or_a_results_error(columns: dict[str, list[Any]]) -> None:
    with suppress(ResultsError):
        counted(archives.details(datasets.table(pyarrow.table(columns))))


SAID = {"forward_output": "[[A>B]]", "backward_output": "[[B>A]]"}
HONEST = archives.rows([archives.row(pair, SAID) for pair in archives.PAIRS])


@few
@given(st.lists(DAMAGE, min_size=1, max_size=3))
def test_any_damaged_archive_is_counted_or_a_results_error(places: list[Any]) -> None:
    with suppress(ResultsError):
        counted(damaged(HONEST, places))


# answers and the ledger

STOPS = st.sampled_from(["end_turn", "length", "refusal", "content_filter"])
CHOICE = st.dictionaries(
    st.sampled_from(["message", "text", "finish_reason"]),
    TREES | STOPS | st.fixed_dictionaries({"content": TREES}),
)
ENGINE = TREES | st.fixed_dictionaries(
    {},
    optional={
        "choices": TREES | st.lists(CHOICE, max_size=2),
        "usage": TREES | st.fixed_dictionaries({"prompt_tokens": NUMBERS | TREES}),
        "generated_text": TREES,
        "details": TREES | st.fixed_dictionaries({"finish_reason": TREES}),
    },
)
CONVERSE = st.fixed_dictionaries(
    {"output": st.fixed_dictionaries({"message": st.fixed_dictionaries({"content": TREES})})},
    optional={"stopReason": TREES | STOPS, "usage": TREES},
)


@few
@given(
    ENGINE.map(lambda body: (providers.read_engine, body))
    | CONVERSE.map(lambda body: (providers.read_converse, body))
)
def test_any_answer_becomes_a_response_that_the_ledger_keeps_or_is_not_known(both: Any) -> None:
    read, body = both
    try:
        answer = read(body)
    except (*providers.UNREADABLE, providers.AskError):
        return
    folder = RunFolder(Memory(), "s3://b/run")
    book = Ledger(folder, "m", 0, PROMPTS[:1], "s")
    book.add(answer.response(PROMPTS[0], "m"))
    book.flush()
    (kept,) = Ledger(folder, "m", 0, PROMPTS[:1], "s").responses()
    assert vars(kept) == vars(book.responses()[0])


class Memory:
    """As much of S3 as a run folder needs, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, Key: str, Body: bytes, **_: Any) -> None:
        self.objects[Key] = Body

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}

    def get_paginator(self, _: str) -> "Memory":
        return self

    def paginate(self, Prefix: str, **_: Any) -> list[dict[str, Any]]:
        keys = (key for key in self.objects if key.startswith(Prefix))
        return [{"Contents": [{"Key": key, "LastModified": None} for key in sorted(keys)]}]


PROMPTS = [Prompt(f"p{number}", f"What is {number}?") for number in range(3)]
SOUND = st.builds(
    lambda number, outcome, at: Response(
        f"p{number}",
        "m",
        outcome,
        f"answer {number}" if outcome == "ok" else None,
        key=ledger.key("s", PROMPTS[number]),
        created_at=at,
    ),
    st.integers(0, 2),
    st.sampled_from(["ok", "error", "empty"]),
    st.sampled_from(["", "2026-01-05T06:00:00+00:00", "2026-01-06T06:00:00.123+00:00"]),
)
ANY_ROW = st.dictionaries(
    st.sampled_from([field.name for field in fields(Response)]) | KEYS, TREES, max_size=5
)
CHANGED = st.tuples(SOUND, ANY_ROW).map(lambda both: {**vars(both[0]), **both[1]})


def line(row: Any) -> bytes:
    try:
        return json.dumps(row).encode()
    except ValueError:  # a number of too many digits
        return b"null"


UNSOUND = (
    (CHANGED | ANY_ROW | TREES).map(line)
    | st.binary(max_size=20).map(lambda body: body.replace(b"\n", b"").replace(b"\r", b""))
    | st.tuples(SOUND, st.integers(1, 200)).map(lambda both: line(vars(both[0]))[: both[1]])
)


@few
@given(st.lists(SOUND, max_size=6), st.lists(UNSOUND, max_size=6), st.randoms())
def test_whatever_lies_in_a_part_its_sound_responses_are_known(
    sound: list[Response], unsound: list[bytes], random: Any
) -> None:
    s3 = Memory()
    folder = RunFolder(s3, "s3://b/run")
    lines = [*(line(vars(each)) for each in sound), *unsound]
    random.shuffle(lines)
    for number, part in enumerate((lines[::2], lines[1::2])):
        folder.write(f"responses/m/000000-000003/part-{number}.jsonl", b"\n".join(part))
    book = Ledger(folder, "m", 0, PROMPTS, "s")
    answered = {each.prompt_id for each in book.responses() if each.usable}
    assert answered >= {each.prompt_id for each in sound if each.usable}
    assert {prompt.prompt_id for prompt in book.missing()} == {"p0", "p1", "p2"} - answered
    for prompt in book.missing():
        book.add(Response(prompt.prompt_id, "m", "ok", "new"))
    book.flush()
    again = Ledger(folder, "m", 0, PROMPTS, "s")
    assert again.missing() == [] and len(again.responses()) == 3
    assert all(isinstance(each.text, str) for each in again.responses())


# statistics

SHARE = st.floats(0, 1)
LEVEL = st.floats(0.5, 0.9999)
GROUP = st.sampled_from([*"abcdefgh", "a\0", "\ud800", ""])
VERDICT = st.sampled_from(["A>B", "B>A", "A=B", None])


def is_sound(found: Interval) -> bool:
    return is_interval(found) and all(map(math.isfinite, numbers(found)))


@few
@given(st.lists(st.tuples(SHARE, GROUP), max_size=40), LEVEL)
def test_any_scores_have_an_interval_around_their_mean(rows: Any, level: float) -> None:
    found = cluster_t_interval([score for score, _ in rows], [group for _, group in rows], level)
    assert is_sound(found)
    effect = detectable_effect(found, level)
    assert effect is None or 0 < effect <= 0.5
    needed = needed_pairs(found, len(rows), level)
    assert needed is None or needed > 0


@few
@given(SHARE, st.lists(st.integers(1, 10**6), max_size=30), LEVEL)
def test_any_total_has_an_interval_around_it(share: float, sizes: list[int], level: float) -> None:
    assert is_sound(conservative_interval(share, sizes, level))


@few
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_any_wins_and_losses_have_a_p_value(wins: int, losses: int) -> None:
    found = sign_test(wins, losses)
    assert found is None if wins + losses == 0 else 0 <= found <= 1


@few
@given(st.lists(st.tuples(SHARE, st.integers(-(10**7), 10**7), GROUP), max_size=25), LEVEL)
def test_any_lengths_have_an_interval_at_equal_length_or_a_reason(rows: Any, level: float) -> None:
    scores, lengths, groups = ([row[place] for row in rows] for place in range(3))
    found = equal_length_interval(scores, lengths, groups, level)
    assert is_sound(found)
    assert found.estimate is not None or found.method.startswith("none: ")


PAIR = st.builds(
    lambda texts, group, status, said: (texts, group, status, said),
    st.tuples(*[st.sampled_from(["", "x", "no answer " * 20, "\ud800", "y" * 1000])] * 2),
    st.none() | GROUP,
    st.sampled_from(["judged"] * 4 + ["identical", "too_long", "baseline_failed", "both_failed"]),
    st.tuples(*[VERDICT] * 4),
)


@few
@given(st.lists(PAIR, max_size=30), LEVEL, METRICS)
def test_any_pairs_and_judgments_make_finite_numbers(rows: Any, level: float, nova: Any) -> None:
    pairs = [
        Pair(f"p{n}", "q", *texts, status, category=group, group=group)
        for n, (texts, group, status, _) in enumerate(rows)
    ]
    said = [row[3] for row in rows]
    one, other = (judge(pairs, [both[at : at + 2] for both in said]) for at in (0, 2))
    first, second = (preferences.resolve_pairs(pairs, each) for each in (one, other))
    metrics = {k: v for k, v in nova.items() if isinstance(v, float) and abs(v) < 1e12}
    results = [
        compare(pairs, [both[:2] for both in said], metrics=metrics, confidence_level=level),
        compare(pairs, metrics=metrics, confidence_level=level),
    ]
    lengths = by_length(first, level)
    for found in (*results, lengths):
        assert all(map(math.isfinite, numbers(found)))
    for result in results:
        assert is_interval(result.win_rate)
        assert all(is_interval(each.win_rate) for each in result.by_category)
        rates = [getattr(result.reliability, each.name) for each in fields(result.reliability)]
        assert all(map(is_interval, rates))
    if lengths:
        assert all(is_interval(each.win_rate) for each in lengths.bins)
        assert is_interval(lengths.longer_wins) and is_interval(lengths.at_equal_length)
    agreed = second_judge.compare_judges(
        first, second, recipe="r", found=results[0], confidence_level=level
    )
    assert agreed is None or is_interval(agreed.agreement)


@few
@given(st.lists(PAIR, max_size=6), st.lists(st.tuples(VERDICT, VERDICT), min_size=36, max_size=36))
def test_any_judgments_of_canaries_pass_or_fail_or_tell_nothing(rows: Any, said: Any) -> None:
    pairs = [Pair(f"p{n}", "q", *row[0], row[2], group=row[1]) for n, row in enumerate(rows)]
    made = canaries.make(canaries.choose(pairs, 6))
    resolved = preferences.resolve_pairs(made, judge(made, said[: len(made)]))
    for screen in canaries.screens(resolved):
        assert 0 <= screen.count <= screen.of
        assert (screen.passed is None) == (screen.of == 0)
