"""Facts about reading prompts."""

import csv
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from sandbox_server import ROOT, Sandbox

from include.config import Dataset
from include.errors import DatasetError
from include.prompts import open_prompts
from include.records import Notice, Prompt, SystemPrompt, Turn


def load_prompts(dataset: Dataset, s3: Any = None) -> list[Prompt]:
    with open_prompts(dataset, s3) as prompts:
        return list(prompts)


ROWS = [
    {"id": "a", "prompt": "One?", "topic": {"name": "x"}},
    {"id": "b", "prompt": "  Two?\n", "topic": {"name": "y"}},
    {"id": "c", "prompt": "Drei ß \u2028 ?", "topic": {"name": "x"}},
]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def write(folder: Path, name: str, body: bytes) -> str:
    path = folder / name
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return str(path)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("p.jsonl", lines(ROWS)),
        ("p.jsonl.gz", lines(ROWS)),
        ("p.json", json.dumps(ROWS).encode()),
        ("p.parquet", as_parquet(ROWS)),
        ("bom.jsonl", b"\xef\xbb\xbf" + lines(ROWS)),
    ],
)
def test_every_format_gives_the_same_prompts(tmp_path: Path, name: str, body: bytes) -> None:
    source = write(tmp_path, name, body)
    prompts = load_prompts(Dataset(source=source, id_field="id", category_field="topic.name"))
    assert [(p.prompt_id, p.text, p.category) for p in prompts] == [
        ("a", "One?", "x"),
        ("b", "  Two?\n", "y"),
        ("c", "Drei ß \u2028 ?", "x"),
    ]


def test_csv_keeps_ids_as_text_and_newlines_in_quotes(tmp_path: Path) -> None:
    source = write(tmp_path, "p.csv", b'id,prompt\n007,"two\nlines, one cell"\n')
    (prompt,) = load_prompts(Dataset(source=source, id_field="id"))
    assert (prompt.prompt_id, prompt.text) == ("007", "two\nlines, one cell")


def test_an_empty_cell_is_no_group_and_no_category(tmp_path: Path) -> None:
    body = b"id,prompt,thread,topic\n1,One?,t,x\n2,Two?,,\n3,Three?,,\n"
    named = {"id_field": "id", "group_field": "thread", "category_field": "topic"}
    prompts = load_prompts(Dataset(source=write(tmp_path, "p.csv", body), **named))
    assert [(p.group, p.category) for p in prompts] == [("t", "x"), (None, None), (None, None)]


def test_a_group_that_no_row_has_is_a_typo(tmp_path: Path) -> None:
    rows = [{"prompt": "One?", "meta": {"thread": "t"}}, {"prompt": "Two?"}]
    source = write(tmp_path, "p.jsonl", lines(rows))
    assert [p.group for p in load_prompts(Dataset(source=source, group_field="meta.thread"))] == [
        "t",
        None,
    ]
    with pytest.raises(DatasetError, match=r"dataset\.group_field: .*meta\.thred"):
        load_prompts(Dataset(source=source, group_field="meta.thred"))


def test_an_empty_id_is_refused_not_replaced(tmp_path: Path) -> None:
    source = write(tmp_path, "p.csv", b"id,prompt\n1,One?\n,Two?\n")
    with pytest.raises(DatasetError, match="id is empty"):
        load_prompts(Dataset(source=source, id_field="id"))


def test_lists_in_a_template_keep_their_letters(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", lines([{"q": "Welche?", "choices": ["größer", "中文"]}]))
    (prompt,) = load_prompts(Dataset(source=source, prompt_template="{q} {choices}"))
    assert prompt.text == 'Welche? ["größer", "中文"]'


def test_s3_is_read_too(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.put_object(Bucket="nova-judge-sandbox", Key="data/p.jsonl", Body=lines(ROWS))
    source = "s3://nova-judge-sandbox/data/p.jsonl"
    assert len(load_prompts(Dataset(source=source), s3)) == 3
    with pytest.raises(DatasetError, match="cannot be read"):
        load_prompts(Dataset(source="s3://nova-judge-sandbox/absent.jsonl"), s3)


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", lines(ROWS))
    assert load_prompts(Dataset(source=source))[2].prompt_id == "row-000002"


def test_a_template_fills_columns_and_keeps_double_braces(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", lines(ROWS))
    dataset = Dataset(
        source=source,
        prompt_template="{{{topic.name}}}: {prompt}",
        system_prompt="You know {topic.name}.",
        limit=1,
    )
    (prompt,) = load_prompts(dataset)
    assert (prompt.text, prompt.system) == ("{x}: One?", "You know x.")


def test_a_random_selection_is_repeatable_and_keeps_the_order(tmp_path: Path) -> None:
    rows = [{"id": f"{n:03d}", "prompt": "?"} for n in range(200)]
    source = write(tmp_path, "p.jsonl", lines(rows))
    dataset = Dataset(source=source, id_field="id", limit=20, select="random", seed=4)
    ids = [prompt.prompt_id for prompt in load_prompts(dataset)]
    assert ids == [f"{n:03d}" for n in sorted(random.Random(4).sample(range(200), 20))]
    with open_prompts(dataset) as prompts:
        assert [prompt.prompt_id for prompt in prompts] == ids
        assert [prompt.prompt_id for prompt in prompts] == ids
    everything = dataset.model_copy(update={"limit": 200})
    assert len(load_prompts(everything)) == 200


def test_a_selection_of_the_first_reads_no_further(tmp_path: Path) -> None:
    rows = [{"prompt": str(n)} for n in range(1500)]
    source = write(tmp_path, "p.jsonl", lines(rows) + b"not JSON")
    assert [p.text for p in load_prompts(Dataset(source=source, limit=3))] == ["0", "1", "2"]
    with pytest.raises(DatasetError, match="1501: not JSON"):
        load_prompts(Dataset(source=source))


@pytest.mark.parametrize(
    ("name", "body", "options", "message"),
    [
        ("p.jsonl", lines(ROWS), {"prompt_template": "{promt}"}, "did you mean 'prompt'"),
        ("p.jsonl", lines(ROWS), {"category_field": "topc"}, "dataset.category_field"),
        ("p.jsonl", lines(ROWS), {"prompt_template": "{prompt"}, "braces"),
        ("p.jsonl", lines(ROWS), {"prompt_template": "{}"}, "names no column"),
        ("p.jsonl", lines(ROWS), {"prompt_template": "{prompt:>9}"}, "found a format .*braces"),
        ("p.jsonl", lines(ROWS), {"prompt_template": '{"q": "{prompt}"}'}, "write {{ and }}"),
        ("p.jsonl", lines(ROWS), {"system_prompt": "{promt}"}, "dataset.system_prompt: .*'prompt'"),
        ("p.jsonl", lines(ROWS), {"messages_field": "promt"}, "dataset.messages_field: .*'prompt'"),
        (
            "p.jsonl",
            lines([*ROWS, ROWS[0]]),
            {"id_field": "id"},
            "row 4: id 'a' is there more than once, first in row 1",
        ),
        ("p.jsonl", lines([{"prompt": " "}]), {}, "row 1: the prompt is empty"),
        ("p.jsonl", lines([{"prompt": "x"}, {"prompt": None}]), {}, "row 2: prompt is empty"),
        ("p.jsonl", b'{"prompt": "x"}\n{"prompt":\n', {}, "p.jsonl:2: not JSON"),
        ("p.jsonl", b'["prompt"]\n', {}, "expected an object"),
        ("p.jsonl", b"", {}, "holds no rows"),
        ("p.jsonl", b"\xff\xfe", {}, "cannot be read"),
        ("p.jsonl.gz", b"", {}, "holds no rows"),
        ("p.parquet", b"not parquet", {}, "cannot be read"),
        ("p.csv", b"", {}, "cannot be read"),
        ("p.txt", b"x", {}, "expected a file ending in"),
    ],
)
def test_a_data_set_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, name: str, body: bytes, options: dict[str, Any], message: str
) -> None:
    source = write(tmp_path, name, body)
    with pytest.raises(DatasetError, match=message):
        load_prompts(Dataset(source=source, **options))


def test_five_faulty_rows_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", lines([{"prompt": None}] * 9))
    with pytest.raises(DatasetError) as caught:
        load_prompts(Dataset(source=source))
    assert str(caught.value).count("row ") == 5
    assert "and 4 more" in str(caught.value)


def test_nothing_comes_after_the_first_faulty_row(tmp_path: Path) -> None:
    rows = [{"prompt": "1"}, {"prompt": ""}, {"prompt": "3"}, {"prompt": None}]
    source = write(tmp_path, "p.jsonl", lines(rows))
    texts = []
    with open_prompts(Dataset(source=source)) as prompts:
        with pytest.raises(DatasetError, match=r"row 2: .*\n  row 4: "):
            texts.extend(prompt.text for prompt in prompts)
        assert prompts.notices == []
    assert texts == ["1"]


def test_faulty_columns_are_refused_before_the_first_prompt(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", lines(ROWS))
    with (
        pytest.raises(DatasetError, match="no column 'x'"),
        open_prompts(Dataset(source=source, id_field="x")),
    ):
        pytest.fail("it was opened")


CONVERSATION = [
    {"role": "user", "content": "Hi {name}"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": [{"type": "text", "text": " And"}, {"text": " now?\n"}]},
]
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.parquet"])
def test_a_conversation_is_its_turns_and_the_last_thing_that_the_user_says(
    tmp_path: Path, name: str
) -> None:
    said = [{"role": m["role"], "content": m["content"]} for m in CONVERSATION]
    if name == "p.parquet":  # whose lists are of one type
        said[2]["content"] = " And now?\n"
    rows = [{"talk": said}, {"talk": [SYSTEM, *said]}]
    if name == "p.csv":
        file = io.StringIO()
        csv.writer(file).writerows([["talk"], *([json.dumps(row["talk"])] for row in rows)])
        body = file.getvalue().encode()
    else:
        body = {"p.jsonl": lines, "p.parquet": as_parquet}.get(
            name, lambda rows: json.dumps(rows).encode()
        )(rows)
    source = write(tmp_path, name, body)
    without, with_system = load_prompts(Dataset(source=source, messages_field="talk"))
    for prompt in (without, with_system):
        assert prompt.turns == (Turn("user", "Hi {name}"), Turn("assistant", "Hello"))
        assert prompt.text == " And now?\n"
    assert (without.system, with_system.system) == (None, "Be kind.")


def test_two_system_prompts_for_one_row_are_refused(tmp_path: Path) -> None:
    rows = [{"talk": CONVERSATION}, {"talk": [SYSTEM, *CONVERSATION]}]
    source = write(tmp_path, "p.jsonl", lines(rows))
    file = write(tmp_path, "system.txt", b"Be brief.")
    for given in ({"system_prompt": "Be brief."}, {"system_prompt_file": file}):
        dataset = Dataset(source=source, messages_field="talk", **given)
        message = f"row 2: talk: it has a system message, and dataset.{next(iter(given))} says"
        with pytest.raises(DatasetError, match=message):
            load_prompts(dataset)
        (prompt,) = load_prompts(dataset.model_copy(update={"limit": 1}))
        assert prompt.system == "Be brief."


def test_a_row_that_is_no_conversation_is_named_with_its_message(tmp_path: Path) -> None:
    rows = [{"talk": CONVERSATION}, {"talk": CONVERSATION[:2]}, {"talk": None}, {"talk": "Hi"}]
    source = write(tmp_path, "p.jsonl", lines(rows))
    with pytest.raises(DatasetError) as caught:
        load_prompts(Dataset(source=source, messages_field="talk"))
    said = [line.split(";")[0].split(", found a text")[0] for line in str(caught.value).split("\n")]
    assert said[1:] == [
        "  row 2: talk: expected a conversation that ends with the user",
        "  row 3: talk: expected a list of messages, found null",
        "  row 4: talk: expected a list of messages",
    ]


def test_a_system_prompt_from_a_file_is_taken_word_for_word(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    source = write(tmp_path, "p.jsonl", lines(ROWS[:1]))
    content = b"Answer {prompt} in JSON: {{}}\r\n\xc3\x9f\n"
    s3 = sandbox.client("s3")
    s3.put_object(Bucket="nova-judge-sandbox", Key="data/system.txt", Body=content)
    digest = hashlib.sha256(content).hexdigest()
    for file in (write(tmp_path, "s.txt", content), "s3://nova-judge-sandbox/data/system.txt"):
        dataset = Dataset(source=source, system_prompt_file=file, system_prompt_version="v2")
        with open_prompts(dataset, s3) as prompts:
            assert prompts.system_prompt == SystemPrompt(file, "v2", digest)
            assert [prompt.system for prompt in prompts] == [content.decode()]
    with open_prompts(Dataset(source=source, system_prompt="x")) as prompts:
        assert prompts.system_prompt is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), (b" \n", "is empty"), (b"\xff", "cannot be read")],
)
def test_a_system_prompt_that_cannot_be_had_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    source = write(tmp_path, "p.jsonl", lines(ROWS))
    file = str(tmp_path / "s.txt") if content is None else write(tmp_path, "s.txt", content)
    with pytest.raises(DatasetError, match=rf"^dataset\.system_prompt_file: .*{message}"):
        load_prompts(Dataset(source=source, system_prompt_file=file))


def test_prompts_that_say_the_same_are_kept_and_reported(tmp_path: Path) -> None:
    rows = [{"id": name, "prompt": name.lower(), "s": "x"} for name in "aAbcBBBbBb"]
    rows = [{**row, "id": f"{row['id']}{n}"} for n, row in enumerate(rows)]
    source = write(tmp_path, "p.jsonl", lines([*rows, {"id": "z", "prompt": "c", "s": "other"}]))
    dataset = Dataset(source=source, id_field="id", system_prompt="{s}")
    with open_prompts(dataset) as prompts:
        assert len(list(prompts)) == 11
        message = (
            f"7 of 11 prompts of {source} say the same as an earlier one, and count as often as "
            "they are there: 'A1' repeats 'a0', 'B4' repeats 'b2', 'B5' repeats 'b2', "
            "'B6' repeats 'b2', 'b7' repeats 'b2', and 2 more"
        )
        assert prompts.notices == [Notice("duplicate_prompts", message)]
        list(prompts)
        assert prompts.notices == [Notice("duplicate_prompts", message)]


def test_what_was_said_before_makes_prompts_differ(tmp_path: Path) -> None:
    rows = [{"talk": CONVERSATION}, {"talk": CONVERSATION[2:]}, {"talk": [SYSTEM, *CONVERSATION]}]
    source = write(tmp_path, "p.jsonl", lines(rows))
    with open_prompts(Dataset(source=source, messages_field="talk")) as prompts:
        assert len(list(prompts)) == 3
        assert prompts.notices == []


PEAK = """
import json, sys
from pathlib import Path
from include.config import Dataset
from include.prompts import open_prompts
with open_prompts(Dataset(**json.loads(sys.argv[1]))) as prompts:
    count = sum(len(prompt.text) > 0 for prompt in prompts)
status = Path("/proc/self/status").read_text().splitlines()
print(count, *[line.split()[1] for line in status if line.startswith("VmHWM")])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's to say")
@pytest.mark.parametrize("select", ["first", "random"])
def test_memory_does_not_grow_with_the_prompts(tmp_path: Path, select: str) -> None:
    rows = [{"id": f"prompt {n}", "prompt": f"{n} and so on " * 20} for n in range(101_000)]
    source = write(tmp_path, "p.jsonl", lines(rows))
    peaks = {}
    for limit in (1_000, 100_000):
        dataset = {"source": source, "id_field": "id", "limit": limit, "select": select}
        command = [sys.executable, "-c", PEAK, json.dumps(dataset)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        assert run.stdout.split()[0] == str(limit)
        peaks[limit] = int(run.stdout.split()[1])
    assert peaks[100_000] < 1.2 * peaks[1_000]


def test_a_file_that_is_not_there_is_no_hugging_face_id() -> None:
    with pytest.raises(DatasetError, match=r"there is no file absent\.jsonl"):
        load_prompts(Dataset(source="absent.jsonl"))


def test_hugging_face_ids_need_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DatasetError, match="give a file instead"):
        load_prompts(Dataset(source="squad"))


def test_a_hugging_face_data_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = {}

    def load_dataset(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        return datasets.Dataset.from_list([{"question": "Who?", "id": "q1"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = Dataset(
        source="squad", split="train[:20]", id_field="id", prompt_template="{question}"
    )
    (prompt,) = load_prompts(dataset)
    assert (prompt.prompt_id, prompt.text) == ("q1", "Who?")
    assert asked == {"name": "squad", "split": "train[:20]", "revision": None}


def test_the_samples_are_sixty_prompts_in_six_categories_with_references() -> None:
    dataset = Dataset(
        source="include/samples/prompts.jsonl",
        id_field="id",
        category_field="category",
        reference_field="reference",
    )
    prompts = load_prompts(dataset)
    counts = {c: sum(p.category == c for p in prompts) for c in {p.category for p in prompts}}
    assert len(prompts) >= 60
    assert len(counts) == 6
    assert min(counts.values()) >= 10
    assert len({p.text for p in prompts}) == len(prompts)
    assert all(p.reference for p in prompts)
