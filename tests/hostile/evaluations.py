"""Evaluations, as files hold them and as a run's conf has them: one key is wrong in each."""

from functools import partial
from typing import Any

from hostile import Case, refused
from include.errors import ConfigError

no = partial(refused, ConfigError)

DEPLOY = {"model_id": "Q/q", "instance_types": ["ml.g5.2xlarge"]}
BASE: dict[str, Any] = {
    "evaluation": "test",
    "dataset": {"source": "prompts.jsonl"},
    "baseline": {"name": "old", "provider": "sagemaker", "deploy": DEPLOY},
    "candidates": ["claude"],
}
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        found = {"a": found}
    return found


def limits(**more: Any) -> dict[str, Any]:
    return {"name": "m", "provider": "bedrock", "model_id": "a.b", "limits": more}


CASES: list[Case] = [
    no("a key that is nearly one", {"judg": {}}, "judg: there is no such key", "mean 'judge'"),
    no("a folder's name", {"evaluation": "history"}, "evaluation: 'history' is the folder of"),
    no("a key of a section", {"gate": {"marge": 1}}, "gate.marge", "did you mean 'margin'"),
    no("a key of 1 MB", {"x" * 10**6: 1}, "xxx"),
    no("a key in colour", {"\x1b[31mx": 1}, "\\x1b[31mx: there is no such key"),
    no("a key over two lines", {"a\nError: none": 1}, "a\\nError: none: there is no such key"),
    no("a number as key", {1: 2}, "Keys should be strings"),
    no("nothing as key", {None: 2}, "Keys should be strings"),
    no("bytes as key", {b"evaluation": "x"}, "Keys should be strings"),
    no("half a character as key", {"\ud800": 1}, "should be a valid string"),
    no("5,000 levels", {"dataset": nested(5000)}, "nested more than 50 deep"),
    no("5,000 levels of nothing known", {"x": nested(5000)}, "nested more than 50 deep"),
    no("100 levels of overrides", {"judge": {"overrides": nested(100)}}, "more than 50 deep"),
    no("a name that is a path", {"evaluation": "../../etc/passwd"}, "evaluation", "pattern"),
    no("a name with a line end", {"evaluation": "a\n"}, "evaluation", "pattern", "'a\\n'"),
    no("a name with a NUL", {"evaluation": "a\0"}, "evaluation", "'a\\x00'"),
    no("a name that is turned round", {"evaluation": "a\u202eb"}, "evaluation", "\\u202e"),
    no("a name of half a character", {"evaluation": "\ud800"}, "evaluation", "valid string"),
    no("a name that is a query", {"evaluation": "x'; DROP TABLE runs;--"}, "evaluation"),
    no("a name that is a template", {"evaluation": "{{ conn.aws_default }}"}, "evaluation"),
    no("an environment elsewhere", {"environment": "../prod"}, "environment", "pattern"),
    no("an environment of nobody", {"environment": "sandbx"}, "no environment", "mean 'sandbox'"),
    no("a model elsewhere", {"baseline": "../../etc/passwd"}, "baseline", "pattern"),
    no("a model of nobody", {"candidates": ["clod"]}, "no model 'clod'", "mean 'claude'"),
    no("no candidates", {"candidates": []}, "candidates", "at least 1"),
    no("100,000 candidates", {"candidates": ["claude"] * 10**5}, "candidates", "at most 100"),
    no("a candidate twice", {"candidates": ["claude", "claude"]}, "claude is there twice"),
    no("candidates as text", {"candidates": "claude"}, "candidates", "expected a list"),
    no("a provider of nobody", {"baseline": {"provider": ["x"]}}, "sagemaker, bedrock or resp"),
    no("an empty model", {"baseline": {}}, "baseline.provider", "found nothing"),
    no("a limit of 10^400", {"dataset": {"source": "p", "limit": 10**400}}, "dataset.limit"),
    no("a limit that is endless", {"dataset": {"source": "p", "limit": INFINITE}}, "finite"),
    no("a shard of 10^400", {"generation": {"shard_size": 10**400}}, "generation.shard_size"),
    no("10^12 days", {"generation": {"reuse_max_age_days": 10**12}}, "less than or equal to 36500"),
    no("NaN as temperature", {"parameters": {"temperature": NOT_A_NUMBER}}, "finite", "found nan"),
    no("NaN as confidence", {"confidence_level": NOT_A_NUMBER}, "confidence_level", "finite"),
    no("NaN as margin", {"gate": {"margin": NOT_A_NUMBER}}, "gate.margin", "finite"),
    no("an endless budget", {"budget_usd": INFINITE}, "budget_usd", "finite"),
    no("a negative budget", {"budget_usd": -1}, "budget_usd", "greater than 0"),
    no("endless requests", {"baseline": limits(requests_per_minute=INFINITE)}, "finite", "inf"),
    no("endless tokens", {"baseline": limits(tokens_per_minute=INFINITE)}, "finite", "inf"),
    no("minutes in a cron range", {"schedule": {"cron": "0-99999999 * * * *"}}, "schedule.cron"),
    no("a step of none", {"schedule": {"cron": "*/0 * * * *"}}, "0 6 * * 1"),
    no(
        "a time zone elsewhere",
        {"schedule": {"cron": "* * * * *", "timezone": "../../etc"}},
        "zone",
    ),
    no(
        "a time zone of NUL", {"schedule": {"cron": "* * * * *", "timezone": "\0"}}, "'\\x00' is no"
    ),
    no("a time zone of 5 kB", {"schedule": {"cron": "* * * * *", "timezone": "x" * 5000}}, "zone"),
    no("a topic in colour", {"alerts": [{"channel": "sns", "to": "\x1b[31m"}]}, "'\\x1b[31m'"),
    no("a topic of 10 MB", {"alerts": [{"channel": "sns", "to": "x" * 10**7}]}, "ARN of a topic"),
    no(
        "an endless patience",
        {"alerts": [{"channel": "slack", "to": "#x", "stuck_after_hours": INFINITE}]},
        "stuck_after_hours",
        "finite",
    ),
    no("a file as template", {"comparison": "/etc/passwd"}, "'baseline' or 'round_robin'"),
    no(
        "a secret in clear",
        {
            "baseline": {
                **BASE["baseline"],
                "deploy": {**DEPLOY, "environment": {"HF_TOKEN": "hf_x"}},
            }
        },
        "HF_TOKEN looks like a secret",
    ),
    Case("a data set's name of NUL", {"dataset": {"source": "\0"}}),
    Case("a temperature of minus zero", {"parameters": {"temperature": -0.0}}),
    Case("a limit of a billion", {"dataset": {"source": "p", "limit": 10**9}}),
]

WHOLE: list[Case] = [
    no("nothing", None, "conf", "expected keys"),
    no("a list", [], "conf", "expected keys"),
    no("a text", "qwen-vs-claude", "conf", "expected keys"),
    no("bytes", b"{}", "conf", "expected keys"),
    no("an empty conf", {}, "dataset: is needed", "evaluation: is needed"),
]
"""Given as the whole conf."""
