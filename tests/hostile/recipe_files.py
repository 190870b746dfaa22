"""Recipes of one's own, by what their file says, and names and overrides of recipes."""

from functools import partial
from typing import Any

from hostile import Case, refused
from hostile.yaml_texts import bomb
from include.errors import ConfigError

no = partial(refused, ConfigError)

LONG = "x: " + "y" * 5000 + "\n"
"""Makes a file so long that the slow reader takes it, which knows half a character."""

FILES: list[Case] = [
    no("an empty file", "", "mine.yaml: expected the sections run, evaluation, inference"),
    no("a list", "- 1", "mine.yaml: expected the sections"),
    no("an unknown section", "processor: {}", "mine.yaml: processor", "no such key"),
    no("a section of text", "run: x", "mine.yaml: run: expected a section, is 'x'"),
    no("a section of nothing", "run:", "mine.yaml: run: expected a section, is None"),
    no("a day of no calendar", "run: 2026-99-99", "mine.yaml", "month must be in 1..12"),
    no("a number of 5,000 digits", "run: " + "9" * 5000, "mine.yaml", "4300 digits"),
    no("a bool that is none", "run: !!bool maybe", "mine.yaml", "not what its tag says"),
    no("code to run", "run: !!python/object/apply:os.system [ls]", "mine.yaml", "constructor"),
    no("half a character", LONG + '"\\ud800": 1', "mine.yaml", "expected text as keys"),
    no("a billion laughs", bomb("[{}]"), "mine.yaml", "more than 100,000"),
    no("an alias of itself", "run: &a [*a]", "mine.yaml", "nested too deeply"),
    no("100 levels", "run: " + "[" * 100 + "]" * 100, "mine.yaml: expected the sections"),
    no("10,000 unknown keys", "".join(f"k{n}: 1\n" for n in range(10_000)), "and 9,983 more"),
    no("a key in colour", '"\\e[31mx": 1', "mine.yaml: \\x1b[31mx: a judge's recipe has no such"),
    no("a section of 100 kB", "run: " + "x" * 100_000, "mine.yaml: run: expected a section, is 'x"),
    no("10 MB", "run: " + "x" * 10_000_000, "mine.yaml", "at most 1,000,000 are read"),
    no("another encoding", "run: x".encode("utf-16"), "mine.yaml", "expected YAML"),
    no("a NUL byte", "run: \0", "mine.yaml", "expected YAML"),
]

NAMES: list[Case] = [
    no("a name that is nearly one", "nova_micro_judge", "no recipe", "mean 'nova_micro_llm_judge'"),
    no("a name of 1 MB", "x" * 10**6, "there is no recipe 'xxx", "the recipes are nova_2_lite"),
    no("a name of a NUL", "nova_micro_llm_judge\0", "there is no recipe", "\\x00"),
    no("a path of a NUL", "a\0.yaml", "a\\x00.yaml cannot be read", "null byte"),
    no("a path of half a character", "\ud800.yaml", "\\ud800.yaml cannot be read"),
    no("a path of 5 kB", "x" * 5000 + ".yaml", "cannot be read: File name too long"),
    no("nobody's home", "~nobodyatall/x.yaml", "cannot be read", "home directory"),
    no("a folder", "recipes/", "there is no recipe 'recipes/'"),
    no("no such file", "../../etc/absent.yaml", "cannot be read: No such file"),
    no("S3 without a way there", "s3://", "s3:// can be read only where there is a way to AWS"),
]

NOT_A_NUMBER: Any = float("nan")
OVERRIDES: list[Case] = [
    no("a key that is fixed", {"run": {"model_type": "x"}}, "judge.overrides.run.model_type"),
    no("a key that is nearly one", {"inference": {"top_": 1}}, "mean 'inference.top_p'"),
    no(
        "a section that is none", {"infernce": {"top_p": 1}}, "infernce: the recipe has no such key"
    ),
    no("a list", {"inference": []}, "judge.overrides.inference: the recipe has no such key"),
    no("NaN", {"inference": {"top_p": NOT_A_NUMBER}}, "top_p: expected a number from 0 to 1"),
    no("a text", {"inference": {"top_p": "1"}}, "expected a number from 0 to 1, is '1'"),
    no("10 MB", {"inference": {"top_p": "x" * 10**7}}, "expected a number from 0 to 1, is 'xxx"),
    no("bytes", {"inference": {"top_p": b"x"}}, "expected a number from 0 to 1, is b'x'"),
    no("a number as key", {"inference": {1: 2}}, "judge.overrides.inference.1"),
    no("a template", {"run": {"name": ""}}, "run.name: expected a name"),
]
