"""Facts about reading prompts."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from sandbox_server import Sandbox

from include.config import Dataset
from include.errors import DatasetError
from include.prompts import load_prompts

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
    assert ids == [prompt.prompt_id for prompt in load_prompts(dataset)] == sorted(ids)
    assert ids != [f"{n:03d}" for n in range(20)]


@pytest.mark.parametrize(
    ("name", "body", "options", "message"),
    [
        ("p.jsonl", lines(ROWS), {"prompt_template": "{promt}"}, "did you mean 'prompt'"),
        ("p.jsonl", lines(ROWS), {"category_field": "topc"}, "dataset.category_field"),
        ("p.jsonl", lines(ROWS), {"prompt_template": "{prompt"}, "braces"),
        ("p.jsonl", lines(ROWS), {"prompt_template": "{}"}, "names no column"),
        ("p.jsonl", lines([*ROWS, ROWS[0]]), {"id_field": "id"}, "'a' is there more than once"),
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
