"""Texts that are no config: YAML and JSON in the wrong encoding, too deep, too large, or a bomb."""

from functools import partial
from itertools import pairwise

from hostile import Case, refused
from include.errors import ConfigError

no = partial(refused, ConfigError)


def bomb(entry: str) -> str:
    """Nine lines whose aliases stand for a hundred million values."""
    names = "abcdefghi"
    lines = ["a: &a {x: 1}"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} " + entry.format(", ".join([f"*{before}"] * 10)))
    return "\n".join(lines)


CASES: list[Case] = [
    no("an empty file", "", "x.yaml", "expected keys and values"),
    no("a list", "- a\n- b", "x.yaml", "expected keys and values, found list"),
    no("a number", "7", "x.yaml", "found int"),
    no("two documents", "a: b\n---\nc: d", "x.yaml", "expected a single document"),
    no("a tab", "\ta: 1", "x.yaml", "not YAML or JSON"),
    no("a bracket that stays open", "a: [1", "x.yaml", "not YAML or JSON"),
    no("a key twice", "a: 1\nb: 2\na: 3", "x.yaml:3: a is there twice"),
    no("a thousand keys twice", "a: 1\n" * 1000, "x.yaml:2: a is there twice", "and 979 more"),
    no("a key in colour", '"\\e[31mx": 1\n"\\e[31mx": 2', "x.yaml:2", "\\x1b[31mx is there twice"),
    no("a NUL byte", "a: \0b", "x.yaml", "not YAML or JSON"),
    no("UTF-16", "a: b".encode("utf-16"), "x.yaml", "expected UTF-8"),
    no("Latin-1", "a: \xe9".encode("latin-1"), "x.yaml", "expected UTF-8"),
    no("bytes of nothing", bytes(range(128, 256)), "x.yaml", "expected UTF-8"),
    no("half a character", '"\\ud800": 1', "x.yaml", "not YAML or JSON"),
    no("a list as key", "? [a]\n: b", "x.yaml", "unhashable key"),
    no("code to run", "a: !!python/object/apply:os.system [ls]", "x.yaml", "constructor"),
    no("a tag of nobody", "!<x> a: 1", "x.yaml", "constructor"),
    no("an int without digits", "a: !!int ''", "x.yaml", "not what its tag says"),
    no("a float without digits", "a: !!float ''", "x.yaml", "not what its tag says"),
    no("a bool that is none", "a: !!bool maybe", "x.yaml", "not what its tag says"),
    no("a date that is none", "a: !!timestamp soon", "x.yaml", "not what its tag says"),
    no("a day of no calendar", "a: 2026-99-99", "x.yaml", "month must be in 1..12"),
    no("a number of 5,000 digits", "a: " + "9" * 5000, "x.yaml", "4300 digits"),
    no("brackets in brackets", "[" * 4000, "x.yaml", "not YAML or JSON"),
    no("100,000 brackets", "[" * 100_000, "x.yaml", "nested too deeply"),
    no("30,000 mappings", "{a: " * 30_000, "x.yaml", "nested too deeply"),
    no("an alias of itself", "a: &a [*a]", "x.yaml", "nested too deeply"),
    no("a merge with itself", "a: &a\n  <<: *a", "x.yaml", "nested too deeply"),
    no("a billion laughs", bomb("[{}]"), "x.yaml", "more than 100,000 keys and values"),
    no("a billion merges", bomb("{{<<: [{}]}}"), "x.yaml", "more than 100,000 keys and values"),
    no("10 MB", "a: " + "x" * 10_000_000, "x.yaml", "10,000,003 characters", "1,000,000"),
    Case("a byte order mark", b"\xef\xbb\xbfa: 1"),
    Case("a NUL that is escaped", 'a: "\\0"'),
    Case("JSON with characters of two halves", '{"a": "\\ud83d\\ude00", "b": "\\\\ud83d"}'),
]
