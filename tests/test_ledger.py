"""Facts about the run's ledger of responses, against the sandbox's S3 over HTTP."""

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from botocore.exceptions import ClientError
from run_work import listings
from sandbox_server import Sandbox

from include import ledger
from include.ledger import PART_ROWS, PART_SECONDS, Ledger
from include.records import Outcome, Prompt, Response, Turn
from include.storage import RunFolder

PROMPTS = [Prompt(f"p{n}", f"What is {n} plus {n}?") for n in range(300)]
NOW = datetime.now(UTC)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def home(sandbox: Sandbox) -> str:
    """Return where the runs of one evaluation lie."""
    return f"s3://nova-judge-sandbox/ledger/{uuid4()}"


@pytest.fixture
def open_run(sandbox: Sandbox, home: str) -> Callable[[str], RunFolder]:
    s3 = sandbox.client("s3", max_pool_connections=10)
    return lambda name: RunFolder(s3, f"{home}/{name}")


@pytest.fixture
def folder(open_run: Callable[[str], RunFolder]) -> RunFolder:
    return open_run("run")


def book(folder: RunFolder, start: int = 0, stop: int = 3, **more: Any) -> Ledger:
    more.setdefault("settings", "s")
    prompts = more.pop("prompts", PROMPTS[start:stop])
    return Ledger(folder, "m", start, prompts, **more)


def row(number: int, outcome: Outcome = "ok", text: str = "Hi", **more: Any) -> Response:
    usable = outcome in ("ok", "truncated")
    return Response(f"p{number}", "m", outcome, text if usable else None, **more)


def filled(book: Ledger, *rows: Response) -> Ledger:
    for each in rows:
        book.add(each)
    book.flush()
    return book


def ids(found: Any) -> list[str]:
    return [each.prompt_id for each in found]


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).isoformat()


def parts(folder: RunFolder) -> list[str]:
    return [name for name in folder.names("responses/m/") if "part-" in name]


# parts


def test_a_part_is_named_by_its_shard_and_its_content(folder: RunFolder) -> None:
    filled(book(folder, 100, 200), row(100), row(101))
    (name,) = parts(folder)
    content = hashlib.sha256(folder.read(name)).hexdigest()[:24]
    assert name == f"responses/m/000100-000200/part-{content}.jsonl"


def test_the_same_rows_are_stored_once_however_often_they_are_written(folder: RunFolder) -> None:
    for _ in range(3):
        filled(book(folder), row(0, created_at=ago(hours=1)))
    assert len(parts(folder)) == 1
    assert ids(ledger.Parts(folder, "m").read()) == ["p0"]


def test_what_is_read_is_what_was_added(folder: RunFolder) -> None:
    said = row(1, text="Grüße \ud800 \u2028 \x00\n", input_tokens=3, stop_reason="end_turn")
    filled(book(folder), said)
    (found,) = book(folder).responses()
    assert (found.text, found.input_tokens, found.stop_reason) == (said.text, 3, "end_turn")
    assert (found.model, found.reused_from) == ("m", None)
    assert found.key == ledger.key("s", PROMPTS[1])
    assert abs(datetime.fromisoformat(found.created_at) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_part_is_due_when_it_has_enough_rows(folder: RunFolder) -> None:
    clock = Clock()
    mine = book(folder, 0, 300, clock=clock)
    assert not mine.is_due
    for number in range(PART_ROWS - 1):
        mine.add(row(number))
    assert not mine.is_due
    mine.add(row(PART_ROWS - 1))
    assert mine.is_due
    mine.flush()
    assert not mine.is_due
    assert len(list(ledger.Parts(folder, "m").read())) == PART_ROWS


def test_a_part_is_due_when_its_oldest_row_has_waited_long_enough(folder: RunFolder) -> None:
    clock = Clock()
    mine = book(folder, clock=clock)
    clock.now += 10 * PART_SECONDS
    assert not mine.is_due, "nothing waits"
    mine.add(row(0))
    clock.now += PART_SECONDS - 1
    mine.add(row(1))
    assert not mine.is_due
    clock.now += 1
    assert mine.is_due
    mine.flush()
    mine.add(row(2))
    assert not mine.is_due, "the next part has its own time"


def test_a_flush_of_nothing_writes_nothing(folder: RunFolder) -> None:
    book(folder).flush()
    assert parts(folder) == []


# what is known


def test_failures_are_missing_and_those_never_asked_come_first(folder: RunFolder) -> None:
    mine = filled(book(folder, 0, 6), row(0), row(1, "error"), row(2, "empty"), row(3, "refused"))
    mine.add(row(4, "truncated"))
    assert ids(mine.missing()) == ["p5", "p1", "p2", "p3"]
    mine.flush()
    again = book(folder, 0, 6)
    assert ids(again.missing()) == ["p5", "p1", "p2", "p3"]
    assert ids(again.responses()) == ["p0", "p1", "p2", "p3", "p4"]


def test_what_was_not_even_sent_is_asked_before_what_failed(folder: RunFolder) -> None:
    not_asked = row(1, "error", error_type="NotAsked", attempts=0)
    filled(book(folder), row(0, "error"), not_asked)
    assert ids(book(folder).missing()) == ["p1", "p2", "p0"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_usable_beats_failed_and_newer_beats_older(
    folder: RunFolder, order: tuple[int, ...]
) -> None:
    rows = [
        row(0, text="old", created_at=ago(hours=3)),
        row(0, text="new", created_at=ago(hours=2)),
        row(0, "error", created_at=ago(hours=4)),
        row(0, "error", created_at=ago(hours=1)),
    ]
    mine = book(folder)
    for place in order:
        filled(mine, rows[place])
    for known in (mine, book(folder)):
        (found,) = known.responses()
        assert found.text == "new"


def test_of_two_failures_the_newer_is_known(folder: RunFolder) -> None:
    mine = book(folder)
    filled(mine, row(0, "error", error_type="New", created_at=ago(hours=1)))
    filled(mine, row(0, "error", error_type="Old", created_at=ago(hours=2)))
    for known in (mine, book(folder)):
        assert known.responses()[0].error_type == "New"


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": "other"},
        {"prompts": [Prompt("p0", "Another text")]},
        {"prompts": [Prompt("p0", PROMPTS[0].text, system="Be kind.")]},
        {"prompts": [Prompt("p0", PROMPTS[0].text, turns=(Turn("user", "Hello"),))]},
    ],
)
def test_what_depends_on_something_else_is_not_known(
    folder: RunFolder, changed: dict[str, Any]
) -> None:
    filled(book(folder), row(0))
    stale = book(folder, stop=1, **changed)
    assert ids(stale.missing()) == ["p0"]
    assert stale.responses() == []


def test_what_does_not_reach_the_model_does_not_matter(folder: RunFolder) -> None:
    filled(book(folder), row(0))
    labelled = Prompt("p0", PROMPTS[0].text, category="c", group="g", reference="r")
    assert book(folder, prompts=[labelled]).missing() == []


def test_responses_outlive_a_change_of_the_shards_borders(folder: RunFolder) -> None:
    filled(book(folder, 0, 100), *(row(n) for n in range(100)))
    filled(book(folder, 100, 200), *(row(n) for n in range(100, 200)))
    assert book(folder, 50, 150).missing() == []
    assert ids(book(folder, 150, 250).missing()) == ids(PROMPTS[200:250])
    filled(book(folder, 50, 150), row(60, text="newer"))
    assert len(parts(folder)) == 3
    assert book(folder, 0, 100).responses()[60].text == "newer"
    assert len(book(folder, 0, 200).responses()) == 200


def test_only_parts_that_hold_prompts_of_the_shard_are_read(folder: RunFolder) -> None:
    filled(book(folder, 0, 100), row(0))
    filled(book(folder, 100, 200), row(100))
    assert ids(ledger.Parts(folder, "m").read(100, 200)) == ["p100"]
    assert ids(ledger.Parts(folder, "m").read(0, 100)) == ["p0"]
    assert sorted(ids(ledger.Parts(folder, "m").read(99, 101))) == ["p0", "p100"]
    assert sorted(ids(ledger.Parts(folder, "m").read())) == ["p0", "p100"]


def test_models_do_not_see_each_others_responses(folder: RunFolder) -> None:
    filled(book(folder), row(0))
    assert ids(Ledger(folder, "m2", 0, PROMPTS[:1], "s").missing()) == ["p0"]


def test_settings_are_known_by_their_digest(folder: RunFolder) -> None:
    assert ledger.read_settings(folder, "m") is None
    written = ledger.write_settings(folder, "m", {"b": 1, "a": [2.5, None]})
    read = ledger.read_settings(folder, "m")
    assert read == {"a": [2.5, None], "b": 1}
    assert written == ledger.digest(read)
    assert written != ledger.digest({"a": [2.5, None], "b": 2})


# trouble


def test_a_failing_s3_loses_nothing(sandbox: Sandbox, folder: RunFolder) -> None:
    mine = book(folder)
    mine.add(row(0))
    mine.add(row(1))
    fault: dict[str, Any] = {
        "operation": "PutObject",
        "code": "SlowDown",
        "status": 503,
        "times": 1,
    }
    fault["resource"] = f"*{folder.uri.rsplit('/', 2)[1]}*"
    assert requests.post(f"{sandbox.url}/sandbox/faults", json=fault, timeout=10).ok
    with pytest.raises(ClientError, match="SlowDown"):
        mine.flush()
    assert parts(folder) == []
    mine.add(row(2))
    mine.flush()
    assert ids(ledger.Parts(folder, "m").read()) == ["p0", "p1", "p2"]
    assert len(parts(folder)) == 1


def test_rows_that_could_not_be_written_are_due_when_they_were(folder: RunFolder) -> None:
    clock = Clock()

    class Broken(RunFolder):
        def add_part(self, prefix: str, records: Any) -> str:
            raise OSError("the network is away")

    mine = book(Broken(folder.s3, folder.uri), clock=clock)
    mine.add(row(0))
    clock.now += PART_SECONDS
    with pytest.raises(OSError, match="the network is away"):
        mine.flush()
    assert mine.is_due


def test_adding_while_another_thread_writes_loses_and_doubles_nothing(folder: RunFolder) -> None:
    seeded = random.Random(4)

    class Shaky(RunFolder):
        def add_part(self, prefix: str, records: Any) -> str:
            rows = list(records)
            if seeded.random() < 0.4:
                raise OSError("the network is away")
            return super().add_part(prefix, rows)

    mine = book(Shaky(folder.s3, folder.uri), 0, 300)
    is_over = threading.Event()
    failures = 0

    def write() -> None:
        nonlocal failures
        while not is_over.is_set():
            try:
                mine.flush()
            except OSError:
                failures += 1

    writers = [threading.Thread(target=write) for _ in range(2)]
    for each in writers:
        each.start()
    for number in range(300):
        mine.add(row(number))
        if number % 10 == 0:
            threading.Event().wait(0.005)
    is_over.set()
    for each in writers:
        each.join()
    while True:
        try:
            mine.flush()
            break
        except OSError:
            failures += 1
    stored = Counter(ids(ledger.Parts(folder, "m").read()))
    assert stored == Counter(ids(PROMPTS))
    assert failures and len(parts(folder)) > 2, "the threads did not get in each other's way"


def test_the_parts_are_listed_once_for_any_number_of_blocks(folder: RunFolder) -> None:
    for start in range(0, 300, 10):
        filled(book(folder, start, start + 10), row(start))
    with listings(folder) as listed:
        shared = ledger.Parts(folder, "m")
        for start in range(0, 300, 10):
            again = book(folder, start, start + 10, parts=shared)
            assert ids(again.responses()) == [f"p{start}"]
    assert len(listed) == 1


def test_responses_of_all_shards_are_found_after_they_were_cut_anew(folder: RunFolder) -> None:
    for start, stop in ((0, 300), (0, 100), (90, 120), (149, 151)):
        filled(book(folder, start, stop), row(start), row(stop - 1))
    shared = ledger.Parts(folder, "m")
    blocks = [book(folder, start, start + 50, parts=shared) for start in range(0, 300, 50)]
    found = [ids(block.responses()) for block in blocks]
    assert found == [["p0"], ["p90", "p99"], ["p119", "p149"], ["p150"], [], ["p299"]]


# reuse


def earlier_run(folder: RunFolder, *rows: Response, **more: Any) -> Ledger:
    ledger.write_settings(folder, "m", {"any": 1})
    return filled(book(folder, **more), *rows)


DAY = timedelta(days=1)


def reuse(mine: Ledger, home: str) -> int:
    oldest = datetime.now(UTC) - DAY
    return mine.reuse(ledger.earlier_runs(mine.folder, "m", home, oldest), oldest)


def test_usable_responses_of_earlier_runs_are_taken(
    home: str, open_run: Callable[[str], RunFolder]
) -> None:
    earlier = open_run("earlier")
    earlier_run(earlier, row(0, created_at=ago(hours=1)), row(1, "error"))
    mine = book(open_run("run"))
    assert reuse(mine, home) == 1
    assert ids(mine.missing()) == ["p1", "p2"]
    (found,) = book(open_run("run")).responses()
    assert (found.reused_from, found.created_at) == (earlier.uri, ago(hours=1))


def test_what_is_known_already_is_not_replaced(
    home: str, open_run: Callable[[str], RunFolder]
) -> None:
    earlier_run(open_run("earlier"), row(0, text="earlier"))
    mine = filled(book(open_run("run")), row(0, text="mine", created_at=ago(hours=9)))
    assert reuse(mine, home) == 0
    assert mine.responses()[0].text == "mine"


def test_a_failure_of_this_run_gives_way_to_an_earlier_success(
    home: str, open_run: Callable[[str], RunFolder]
) -> None:
    earlier_run(open_run("earlier"), row(0, text="earlier", created_at=ago(hours=1)))
    mine = filled(book(open_run("run")), row(0, "error"))
    assert reuse(mine, home) == 1
    assert mine.responses()[0].text == "earlier"


def test_responses_that_are_too_old_are_not_taken(
    home: str, open_run: Callable[[str], RunFolder]
) -> None:
    rows = [row(0, created_at=ago(hours=25)), row(1, created_at=ago(hours=23))]
    earlier_run(open_run("earlier"), *rows)
    mine = book(open_run("run"))
    assert reuse(mine, home) == 1
    assert ids(mine.responses()) == ["p1"]


@pytest.mark.parametrize("changed", [{"settings": "other"}, {"prompts": [Prompt("p0", "Other")]}])
def test_responses_to_something_else_are_not_taken(
    home: str, open_run: Callable[[str], RunFolder], changed: dict[str, Any]
) -> None:
    earlier_run(open_run("earlier"), row(0), **changed)
    assert reuse(book(open_run("run"), stop=1), home) == 0


def test_a_run_does_not_take_from_itself(home: str, open_run: Callable[[str], RunFolder]) -> None:
    mine = book(open_run("run"))
    earlier_run(open_run("run"), row(0))
    assert mine.missing() == PROMPTS[:3], "it was opened before"
    assert reuse(mine, home) == 0


def test_the_first_source_is_named_over_several_runs(
    home: str, open_run: Callable[[str], RunFolder]
) -> None:
    earlier_run(open_run("a"), row(0))
    second = book(open_run("b"))
    ledger.write_settings(open_run("b"), "m", {"any": 1})
    assert reuse(second, home) == 1
    third = book(open_run("c"))
    assert reuse(third, home) == 1
    assert third.responses()[0].reused_from == open_run("a").uri


def test_the_newest_runs_are_looked_at_and_no_more_than_allowed(
    home: str, open_run: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier_run(open_run("z"), row(0, text="oldest run"), row(1, text="oldest run"))
    threading.Event().wait(1.1)  # S3 tells seconds
    earlier_run(open_run("a"), row(0, text="newest run"))
    both = book(open_run("run"))
    assert reuse(both, home) == 2
    assert [each.text for each in both.responses()] == ["newest run", "oldest run"]
    monkeypatch.setattr(ledger, "MOST_RUNS", 1)
    assert reuse(book(open_run("other")), home) == 1


def test_no_prompt_is_taken_twice(home: str, open_run: Callable[[str], RunFolder]) -> None:
    for name in ("a", "b"):
        earlier_run(open_run(name), row(0), row(1))
        filled(book(open_run(name)), row(0, text="again"))
    mine = book(open_run("run"))
    assert reuse(mine, home) == 2
    assert Counter(ids(ledger.Parts(open_run("run"), "m").read())) == {"p0": 1, "p1": 1}
