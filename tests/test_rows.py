"""Facts about reading files of rows."""

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from sandbox_server import ROOT, Sandbox

from include.errors import DatasetError
from include.rows import Problems, Rows, is_file, open_rows

ANY_TEXT = st.text(st.characters(codec="utf-8"))


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, fieldnames=list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    return file.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def as_list(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=1).encode()


WRITERS = {".jsonl": lines, ".ndjson": lines, ".json": as_list, ".csv": as_csv}
WRITERS |= {".parquet": as_parquet}


def write(folder: Path, name: str, body: bytes) -> str:
    path = folder / name
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return str(path)


def read(source: str, s3: Any = None) -> list[Any]:
    with open_rows(source, s3, key="dataset.source") as rows:
        return list(rows)


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_rows_at_every_pass(
    tmp_path: Path, ending: str, zipped: str
) -> None:
    rows = [{"id": f"{n:03}", "text": f" ß \u2028 {n},\n“x” \r\n"} for n in range(2500)]
    source = write(tmp_path, f"p{ending}{zipped}", WRITERS[ending](rows))
    with open_rows(source, key="dataset.source") as found:
        assert found.columns == ["id", "text"]
        assert list(found) == rows
        assert list(found) == rows


@given(st.lists(st.text(st.characters()), min_size=1), st.booleans())
def test_any_text_comes_out_of_json_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], as_one_list: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"text": text} for text in texts]
    body = json.dumps(rows) if as_one_list else "\n".join(map(json.dumps, rows))
    assert read(write(folder, "p.json", body.encode())) == rows


@given(st.lists(ANY_TEXT, min_size=1))
def test_any_text_comes_out_of_json_lines_in_utf_8_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    rows = [{"text": text} for text in texts]
    assert read(write(tmp_path_factory.mktemp("rows"), "p.jsonl", lines(rows))) == rows


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1))
def test_any_text_comes_out_of_csv_and_parquet_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"id": one, "text": other} for one, other in cells]
    assert read(write(folder, "p.csv", as_csv(rows))) == rows
    assert read(write(folder, "p.parquet", as_parquet(rows))) == rows


def test_a_row_may_be_larger_than_any_buffer(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": "line\n" * 600_000} for n in range(3)]
    for ending in (".csv", ".jsonl.gz", ".parquet"):
        body = WRITERS[ending.removesuffix(".gz")](rows)
        assert read(write(tmp_path, f"p{ending}", body)) == rows


def test_semicolons_may_stand_between_cells(tmp_path: Path) -> None:
    found = read(write(tmp_path, "p.csv", b'\xef\xbb\xbfid;text\r\n007;"a;b\nc,d"\r\n'))
    assert found == [{"id": "007", "text": "a;b\nc,d"}]
    assert read(write(tmp_path, "p.csv", b'"a;b",c\nx;y,z\n')) == [{"a;b": "x;y", "c": "z"}]
    assert read(write(tmp_path, "p.csv", b'\n"id";"my text"\n"1";"a;b"\n')) == [
        {"id": "1", "my text": "a;b"}
    ]
    assert read(write(tmp_path, "p.csv", b"text\na\n")) == [{"text": "a"}]


def test_byte_order_marks_blank_lines_and_old_line_ends_are_no_data(tmp_path: Path) -> None:
    assert read(write(tmp_path, "p.csv", b"\xef\xbb\xbf\nid,n\r007,\r\r\n8,x\r\n")) == [
        {"id": "007", "n": ""},
        {"id": "8", "n": "x"},
    ]
    assert read(write(tmp_path, "p.jsonl", b'\xef\xbb\xbf\n {"a": 1}\r\n\n{"a": 2}')) == [
        {"a": 1},
        {"a": 2},
    ]


def test_an_s3_object_is_read_as_often_as_one_likes(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    rows = [{"id": str(n), "text": "x" * 1000} for n in range(20_000)]
    s3.put_object(Bucket="nova-judge-sandbox", Key="data/rows.csv", Body=as_csv(rows))
    with open_rows("s3://nova-judge-sandbox/data/rows.csv", s3, key="dataset.source") as found:
        assert list(found) == rows
        assert list(found) == rows


@pytest.mark.parametrize("name", ["absent.jsonl", "", "../\0.jsonl"])
def test_an_s3_object_that_cannot_be_had_is_named(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(DatasetError, match=r"^s3://nova-judge-sandbox/.* cannot be read|expected"):
        read(f"s3://nova-judge-sandbox/{name}", sandbox.client("s3"))
    with pytest.raises(DatasetError, match="no S3 client"):
        read("s3://nova-judge-sandbox/p.jsonl")


def test_paths_start_where_one_is_or_at_the_projects_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "here.jsonl", lines([{"a": 1}]))
    monkeypatch.chdir(tmp_path)
    assert read("here.jsonl") == [{"a": 1}]
    assert len(read("include/samples/prompts.jsonl")) >= 60
    with pytest.raises(DatasetError, match=r"dataset.source: there is no file absent.csv"):
        read("absent.csv")


def test_what_is_meant_as_a_file_is_told_from_an_id(tmp_path: Path) -> None:
    assert is_file("s3://bucket/x")
    assert is_file("absent.csv.gz")
    assert is_file(write(tmp_path, "notes.txt", b"x"))
    assert not is_file("rajpurkar/squad")


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("p.jsonl", b'{"a": "x"}\n\n{"a":\n', r"p\.jsonl:3: not JSON: Expecting value at column 6"),
        ("p.jsonl", b'{"a": 1}\n["a"]\n', r"p\.jsonl:2: expected an object, found list"),
        ("p.jsonl", b'{"a": 1}\n{"a": "\xff"}', r"p\.jsonl:2 cannot be read: not UTF-8"),
        ("p.jsonl", b"[" * 100_000, r"p\.jsonl:1: not JSON"),
        ("p.json", b'\n[{"a": 1},\n{"a" 2}]', r"p\.json:3: not JSON: .* at column 6"),
        ("p.json", b'[{"a": 1}, 7]', r"p\.json: item 2: expected an object, found int"),
        ("p.csv", b'a,b\n"x\ny",2\n3\n', r"p\.csv:4: expected 2 cells as in the header, found 1"),
        ("p.csv", b'a,b\n1,"2\n3,4\n', r"p\.csv:3: not CSV: unexpected end of data"),
        ("p.csv", b"a,b,a\n1,2,3\n", r"p\.csv:1: column 'a' is there more than once"),
        ("p.csv", b"a\n\xff\n", r"p\.csv:2 cannot be read: not UTF-8"),
        ("p.csv", b"\na;b\n1;2\n3\n", r"p\.csv:4: expected 2 cells as in the header, found 1"),
        ("p.csv", b"\n", r"p\.csv cannot be read: expected a header"),
        ("p.parquet", b"not parquet", r"p\.parquet cannot be read"),
        ("p.parquet.gz", b"not parquet", r"p\.parquet\.gz cannot be read"),
        ("p.txt", b"x", r"p\.txt: expected a file ending in \.jsonl, .*, or in \.gz"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(
    tmp_path: Path, name: str, body: bytes, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read(write(tmp_path, name, body))


@pytest.mark.parametrize("ending", WRITERS)
def test_a_damaged_archive_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"p{ending}.gz"
    whole = gzip.compress(WRITERS[ending]([{"a": str(n)} for n in range(5000)]))
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\0" * 50 + whole[150:], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="cannot be read"):
            read(str(path))


def test_what_was_read_before_a_fault_is_not_lost(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", b'{"a": 1}\n{"a": 2}\nno\n')
    seen = []
    with open_rows(source, key="dataset.source") as rows, pytest.raises(DatasetError):
        seen.extend(row["a"] for row in [next(iter(rows))])
        for row in rows:
            seen.append(row["a"])
    assert seen == [1, 1, 2]


def test_unknown_columns_are_refused_with_the_nearest() -> None:
    rows = Rows("p.csv", lambda: iter([{"prompt": 1}, {"topic": {"name": 2}}]))
    rows.check_columns([("a", "prompt"), ("b", "topic.name")])
    with pytest.raises(DatasetError) as caught:
        rows.check_columns([("dataset.id_field", "id"), ("x.prompt_field", "promt")])
    assert str(caught.value).splitlines() == [
        "dataset.id_field: p.csv has no column 'id'",
        "x.prompt_field: p.csv has no column 'promt'; did you mean 'prompt'?",
        "its columns are prompt, topic",
    ]


def test_a_file_without_rows_has_no_columns() -> None:
    with pytest.raises(DatasetError, match=r"p\.csv holds no rows"):
        Rows("p.csv", lambda: iter(())).check_columns([])
    with pytest.raises(DatasetError, match=r"p\.csv holds no rows"):
        _ = Rows("p.csv", lambda: iter(())).columns


def test_the_first_problems_are_listed_and_the_rest_counted() -> None:
    problems = Problems("p.csv")
    problems.refuse()
    for number in range(1, 10):
        problems.add(number, "bad")
    with pytest.raises(DatasetError) as caught:
        problems.refuse()
    listed = [f"  row {number}: bad" for number in range(1, 6)]
    start = "p.csv has rows that cannot be used:"
    assert str(caught.value).splitlines() == [start, *listed, "  and 4 more"]


PEAK = """
import sys
from pathlib import Path
from include.rows import open_rows
with open_rows(sys.argv[1], key="x") as rows:
    count = sum(1 for _ in rows)
status = Path("/proc/self/status").read_text().splitlines()
print(count, *[line.split()[1] for line in status if line.startswith("VmHWM")])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is Linux's to say")
@pytest.mark.parametrize("ending", [".jsonl.gz", ".csv", ".parquet", ".parquet.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    peaks = {}
    for count in (1_000, 60_000):
        rows = [{"id": str(n), "text": f"{n} {n * 7919 % 10_007} " * 60} for n in range(count)]
        body = WRITERS[ending.removesuffix(".gz")](rows)
        source = write(tmp_path, f"{count}{ending}", body)
        command = [sys.executable, "-c", PEAK, source]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        assert run.stdout.split()[0] == str(count)
        peaks[count] = int(run.stdout.split()[1])
    assert peaks[60_000] < 1.2 * peaks[1_000]
