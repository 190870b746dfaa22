"""What a judge job may leave: archives, results_*.json and details_*.parquet at their worst.

What is given is the archive, or what makes it.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow

from hostile import Case, refused
from hostile.datasets import not_utf8, table
from include.errors import ResultsError
from include.records import Pair

METRICS = {"a_scores": 1.0, "b_scores": 3.0, "ties": 0.0, "inference_error": 0.0, "winrate": 0.75}
HOME = "job/eval_results"
RESULTS = f"{HOME}/results_2026-11-24T06-00-00.000000.json"
DETAILS = f"{HOME}/details/judge/x/details_custom|llm_judge_judge|0_x.parquet"
PAIRS = [Pair("p1", "One?", "a1", "b1", "judged"), Pair("p2", "Two?", "a2", "b2", "judged")]
GOOD = json.dumps({"results": {"all": METRICS}}).encode()

no = partial(refused, ResultsError)

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, body: bytes = b"", **header: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(body)
    for key, value in header.items():
        setattr(info, key, value)
    return info, body


def pack(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Pack whatever the headers say; the dictionary of a pax header goes along."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=form, compresslevel=1) as tar:
        for info, body in members:
            tar.addfile(info, io.BytesIO(body))
    return file.getvalue()


def header(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive of good results whose header says another size and kind."""
    plain = bytearray(gzip.decompress(pack(member(RESULTS, GOOD), form=tarfile.GNU_FORMAT)))
    plain[124 : 124 + len(size)] = size
    plain[156:157] = kind
    plain[148:156] = b" " * 8
    plain[148:156] = b"%06o\0 " % sum(plain[:512])
    return gzip.compress(bytes(plain))


def results(body: bytes | str | dict[str, Any]) -> bytes:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    content = content.encode() if isinstance(content, str) else content
    return pack(member(RESULTS, content))


def details(body: bytes) -> bytes:
    return pack(member(RESULTS, GOOD), member(DETAILS, body))


def row(pair: Pair, metrics: Any) -> dict[str, str]:
    texts = {"prompt": pair.prompt, "response_A": pair.baseline, "response_B": pair.candidate}
    return {
        "metrics": metrics if isinstance(metrics, str) else repr(metrics),
        "specifics": repr(texts),
    }


def as_table(made: Sequence[dict[str, Any]]) -> bytes:
    return table(pyarrow.Table.from_pylist(list(made)))


def rows(made: Sequence[dict[str, Any]]) -> bytes:
    return details(as_table(made))


def pax(**keys: str) -> bytes:
    """An archive whose only member has these records in its pax header."""
    names = {key.replace("_", "."): value for key, value in keys.items()}
    return pack(member("results_p.json", GOOD, pax_headers=names))


def zeros(size: int) -> bytes:
    """A gzipped file of zeros, made piece by piece."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9) as packed:
        for _ in range(size // 2**20):
            packed.write(bytes(2**20))
    return file.getvalue()


def many(count: int) -> bytes:
    return pack(*(member(f"job/log_{n}.txt") for n in range(count)), form=tarfile.GNU_FORMAT)


def same_value(count: int) -> bytes:
    """A table of so many rows in some bytes: one value, and how often it is there."""
    return table(
        {
            "metrics": pyarrow.array([7], pyarrow.int8()).take(
                pyarrow.array([0] * count, pyarrow.int32())
            )
        },
        compression="zstd",
    )


SPECIAL = {
    "a symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "a link to itself": {"type": tarfile.SYMTYPE, "linkname": "z/results_z.json"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
    "a device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    "a disk": {"type": tarfile.BLKTYPE, "devmajor": 8},
    "a pipe": {"type": tarfile.FIFOTYPE},
    "a folder": {"type": tarfile.DIRTYPE},
}

ARCHIVES: list[Case] = [
    no("nothing", b"", "the judge's archive cannot be read"),
    no("no gzip", b"not an archive", "cannot be read", "Not a gzipped file"),
    no("a gzip of nothing", gzip.compress(b""), "cannot be read: empty file"),
    no("an archive of nothing", pack(), "holds no results_*.json", "it holds: nothing"),
    no("a gzip of noise", gzip.compress(bytes(range(256)) * 9), "cannot be read"),
    no("a tar without gzip", gzip.decompress(results(GOOD)), "cannot be read", "gzipped"),
    no("a zip", b"PK\x03\x04" + bytes(500), "cannot be read"),
    no("half of one", results(GOOD)[:-30], "cannot be read"),
    no("nobody's files", pack(member("notes.txt", b"hi")), "results_*.json", "holds: notes.txt"),
    no("a name in colour", pack(member("a\n\x1b[31mb")), "it holds: a\\n\\x1b[31mb"),
    no("a name that is no UTF-8", pack(member("a\udcff")), "it holds: a\\udcff"),
    no("a name of 10 kB", pack(member("x" * 10_000)), "it holds: xxx"),
    no("20,000 members", lambda: many(20_000), "it holds: job/log_0.txt, job/log_1.txt"),
    no("a size below zero", header(b"\xff" * 12), "the judge's"),
    no("a size that leads back", header(b"\xff" * 10 + b"\xfc\x00"), "the judge's"),
    no("a size of exabytes", header(b"\x80" + b"\x7f" * 11), "bytes, and at most"),
    no("a name of 8 GB", header(b"77777777777\0", tarfile.GNUTYPE_LONGNAME), "cannot be read"),
    no("a sparse map of letters", pax(GNU_sparse_map="1,x"), "cannot be read"),
    no("a sparse size of letters", pax(GNU_sparse_map="0,5", GNU_sparse_size="x"), "cannot be"),
    no("a sparse map of nothing", pax(GNU_sparse_major="1", GNU_sparse_minor="0"), "cannot be"),
    no(
        "a sparse file of 100 GB", pax(GNU_sparse_size="99999999999", GNU_sparse_map="0,1"), "bytes"
    ),
    *(
        no(f"{kind} as results", pack(member("z/results_z.json", **how)), "holds no results_*.json")
        for kind, how in SPECIAL.items()
    ),
    *(
        Case(
            f"{kind} behind the results",
            pack(member(RESULTS, GOOD), member("z/results_z.json", **how)),
        )
        for kind, how in SPECIAL.items()
    ),
    Case("results that want to lie elsewhere", pack(member("../../../results_x.json", GOOD))),
    Case("results that want to lie in /etc", pack(member("/etc/results_x.json", GOOD))),
    Case("a name twice, the last one good", pack(member(RESULTS, b"{}"), member(RESULTS, GOOD))),
    no(
        "a name twice, the last one bad",
        pack(member(RESULTS, GOOD), member(RESULTS, b"{}")),
        "results_*.json has no results",
    ),
    Case("noise behind the end", results(GOOD) + gzip.compress(b"x" * 5000)),
    Case(
        "20,000 members and results",
        lambda: pack(*(member(f"log_{n}.txt") for n in range(20_000)), member(RESULTS, GOOD)),
    ),
]

BOMBS: list[Case] = [
    no(
        "a member of zeros", lambda: pack(member("zeros", bytes(9 * 2**20))), "unpacks to more than"
    ),
    no("members without content", lambda: many(20_000), "unpacks to more than"),
    no("results of zeros", lambda: results(bytes(3 * 2**20)), "results_2026", "3,145,728 bytes"),
    no("a name of zeros", lambda: pack(member("x" * (9 * 2**20))), "unpacks to more than"),
    no("zeros and nothing else", lambda: zeros(64 * 2**20), "archive"),
    Case("a table of one value", lambda: details(same_value(300_000)), ("300,000 rows",)),
    Case(
        "a table of one large value",
        lambda: rows([{"metrics": "x" * 10**6}] * 40),
        ("unpacks to more than",),
    ),
]
"""To be read with limits of 8 MB, 2 MB of results and 200,000 rows, or memory would be needed."""

RESULTS_JSON: list[Case] = [
    no("nothing", results(b""), "the judge's results_*.json has no results", "Expecting value"),
    no("a NUL", results(b"\0"), "has no results to read"),
    no("half of it", results(GOOD[:-9]), "has no results to read"),
    no("Latin-1", results(b'{"results": {"all": {"\xe9": 1}}}'), "has no results", "utf-8"),
    no("10 MB of no UTF-8", lambda: results(b"\xe9" * 10**6), "has no results", "..."),
    no("a list", results(b"[]"), "has no results"),
    no("a number", results(b"7"), "has no results"),
    no("no results", results(b"{}"), "has no results", "KeyError('results')"),
    no("results of nothing", results({"results": {}}), "has no results"),
    no("results in a list", results({"results": []}), "has no results"),
    no("results of text", results({"results": "all"}), "has no results"),
    no("a task of nothing", results({"results": {"all": None}}), "has no results"),
    no("a task of text", results({"results": {"x": "y"}}), "has no results"),
    no("100,000 brackets", results(b"[" * 100_000), "nested too deeply"),
    no("5,000 objects", results(b'{"results":' * 5000), "nested too deeply"),
    no(
        "a number of 5,000 digits", results(b'{"results":{"all":{"a":%s}}}' % (b"9" * 5000)), "4300"
    ),
    Case("UTF-16", results(GOOD.decode().encode("utf-16"))),
    Case("numbers that are none", results('{"results":{"all":{"a_scores":NaN,"x":-Infinity}}}')),
    Case("numbers beyond all", results('{"results":{"all":{"a_scores":1e999,"b_scores":1e308}}}')),
    Case("two numbers near the end", results({"results": {"all": dict.fromkeys(METRICS, 1e308)}})),
    Case("counts below zero", results({"results": {"all": {**METRICS, "a_scores": -5.0}}})),
    Case("wins below zero", results({"results": {"all": {**METRICS, "b_scores": -5.0}}})),
    Case("errors below zero", results({"results": {"all": {**METRICS, "inference_error": -9}}})),
    Case("a number of 400 digits", results({"results": {"all": {**METRICS, "ties": 10**400}}})),
    Case(
        "texts, lists and objects",
        results(
            {
                "results": {
                    "all": {
                        "a_scores": "1",
                        "b_scores": [],
                        "ties": {},
                        "winrate": True,
                        "\ud800": 1,
                    }
                }
            }
        ),
    ),
]

SCORES = "{{'score_margin': {0}, 'weighted_score_A': {0}, 'criteria_breakdown': {{'x': {1}}}}}"
CRITERION = "{{'score_A': 1, 'score_B': 5, 'type': 'scale', 'weight': {0}}}"


def scored(number: str) -> Callable[[], bytes]:
    """Details of a rubric judge with this number as every score and weight."""
    return lambda: rows(
        [row(pair, SCORES.format(number, CRITERION.format(number))) for pair in PAIRS]
    )


UNREADABLE: list[Case] = [
    Case("nothing", details(b""), ("the judge's details_*.parquet cannot be read",)),
    Case("no parquet", details(b"PAR1" * 9), ("details_*.parquet cannot be read",)),
    Case("half of it", lambda: details(table({"metrics": ["x"]})[:-20]), ("cannot be read",)),
    Case("JSON", details(b"{}"), ("details_*.parquet cannot be read",)),
    Case("no UTF-8", lambda: details(table({"metrics": not_utf8()})), ("utf-8",)),
    Case(
        "a time of no calendar",
        lambda: details(table({"metrics": pyarrow.array([2**61], pyarrow.timestamp("us"))})),
        ("out of range",),
    ),
    Case(
        "a day of no calendar",
        lambda: details(table({"metrics": pyarrow.array([2**30], pyarrow.date32())})),
        ("days",),
    ),
]
"""Details beside good results; the words are those of a notice."""

TABLES: list[Case] = [
    Case("no columns", lambda: details(table({}))),
    Case("no rows", lambda: details(table({"metrics": pyarrow.array([], pyarrow.string())}))),
    Case("numbers instead of cells", lambda: details(table({"metrics": [1], "specifics": [2]}))),
    Case(
        "a map",
        lambda: details(
            table(
                {
                    "metrics": pyarrow.array(
                        [[("a", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())
                    )
                }
            )
        ),
    ),
    Case("a cell of 10 MB", lambda: rows([row(PAIRS[0], {"forward_output": "x" * 10**7})])),
    Case("100,000 brackets in a cell", lambda: rows([row(PAIRS[0], "{" * 100_000)])),
    Case("a call in a cell", lambda: rows([row(PAIRS[0], "{'a': __import__('os').getcwd()}")])),
    Case("NUL bytes in a cell", lambda: rows([row(PAIRS[0], "{'a': \0}")])),
    Case("a pair of nobody", lambda: rows([row(Pair("z", "?", "x", "y", "judged"), {})])),
    Case(
        "a pair a thousand times",
        lambda: rows(
            [row(PAIRS[0], {"forward_output": "[[A>B]]", "backward_output": "[[B>A]]"})] * 1000
        ),
    ),
    Case(
        "a thousand verdicts",
        lambda: rows([row(PAIRS[0], {"forward_output": "[[A>B]] [[B>A]]" * 1000})]),
    ),
    *(
        Case(f"scores of {number}", scored(number))
        for number in ("1e308", "-1e308", "'1e308'", "1e999", "nan", "1" + "0" * 400, "True")
    ),
    Case(
        "counts of 1e308",
        lambda: rows(
            [row(pair, {"a_scores": 1e308, "b_scores": -1e308, "ties": 1e308}) for pair in PAIRS]
        ),
    ),
]
