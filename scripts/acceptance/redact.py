"""JSON values that name an account in, the same values without its names and numbers out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from include import judge_table
from include.config import SECRET_KEY, Environment
from include.storage import split_uri

ACCOUNT = "111122223333"
"""What AWS's own documentation puts in place of an account."""

PUBLIC_ACCOUNTS = {"763104351884"}
"""AWS's registry of deep learning containers; those of the judge's table are public, too."""

IDS = re.compile(r"\b(AKIA|ASIA|AROA|AIDA|AGPA|AIPA|ANPA|ABIA|ACCA)[A-Z0-9]{12,}\b")
NETWORK = re.compile(r"\b(subnet|sg|vpc|eni|vpce|i)-[0-9a-f]{8,17}\b")
KEYS = re.compile(r"\b(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
NUMBERS = re.compile(r"(?<![0-9A-Za-z])\d{12}(?![0-9A-Za-z])")
ADDRESSES = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\bip(?:-\d{1,3}){4}\b")
EMAILS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
SECRETS = re.compile(r"arn:aws[a-z-]*:(secretsmanager|kms|ssm):[^\s\"']+")
BUCKETS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{2,62})")


class Redactor:
    """Replaces what says whose account it was, everywhere by the same.

    Args:
        environment: The environment; its names and numbers go.
        caller_arn: Who called (STS: GetCallerIdentity).
        more: Other texts that must go, for example the URI of a model's archive.
    """

    def __init__(
        self, environment: Environment, caller_arn: str = "", more: tuple[str, ...] = ()
    ) -> None:
        self._account = environment.account_id
        self._bucket, self._prefix = split_uri(environment.output_s3_uri)
        role = environment.execution_role_arn.partition(":role/")[2]
        names = {role: "my-role", role.rsplit("/", 1)[-1]: "my-role", self._bucket: "my-bucket"}
        if self._prefix:
            names[f"{self._bucket}/{self._prefix}"] = "my-bucket/my-prefix"
        for number, name in enumerate(caller_arn.partition("/")[2].split("/"), 1):
            names.setdefault(name, f"my-caller-{number}")
        for number, name in enumerate(more, 1):
            names.setdefault(name, f"my-name-{number}")
        names.pop("", None)
        self._names = dict(sorted(names.items(), key=lambda pair: -len(pair[0])))
        self._seen: dict[tuple[str, str], int] = {}
        self._public = PUBLIC_ACCOUNTS | set(judge_table.table().image.accounts.values())

    def value(self, value: Any, key: str = "") -> Any:
        """Redact every text in a JSON value: secrets by key, the account's own tags as a whole."""
        if isinstance(value, str):
            return "(not shown)" if SECRET_KEY.search(key) else self.text(value)
        if isinstance(value, list):
            return [
                _tag(number, self.value(each)) if _is_tag(each) else self.value(each, key)
                for number, each in enumerate(value, 1)
            ]
        if isinstance(value, dict):
            return {name: self.value(each, name) for name, each in value.items()}
        return value

    def text(self, text: str) -> str:
        """Redact one text."""
        text = SECRETS.sub(lambda m: f"arn:aws:{m[1]}:my-{self._number(m[1], m[0])}", text)
        if self._prefix and text.startswith(f"{self._prefix}/"):
            text = f"my-prefix/{text[len(self._prefix) + 1 :]}"
        for name, instead in self._names.items():
            text = _whole(name).sub(instead, text)
        text = BUCKETS.sub(self._other_bucket, text)
        text = NUMBERS.sub(self._other_account, text)
        text = IDS.sub(lambda m: f"{m[1]}{self._number('id', m[0]):08}EXAMPLE", text)
        text = NETWORK.sub(lambda m: f"{m[1]}-{self._number('network', m[0]):08}", text)
        text = KEYS.sub(lambda m: f"00000000-0000-0000-0000-{self._number('key', m[0]):012}", text)
        return ADDRESSES.sub("10.0.0.1", EMAILS.sub("somebody@example.com", text))

    def leaks(self, value: Any) -> list[str]:
        """Return what of the account is still in a redacted value: none, unless this is wrong."""
        return [
            name
            for name in (self._account, *self._names)
            if any(_whole(name).search(text) for text in _texts(value))
        ]

    def _other_bucket(self, match: re.Match[str]) -> str:
        if match[1] == "my-bucket":
            return match[0]
        return f"s3://other-bucket-{self._number('bucket', match[1])}"

    def _other_account(self, match: re.Match[str]) -> str:
        if match[0] in self._public:
            return match[0]
        if match[0] == self._account:
            return ACCOUNT
        return f"9999{self._number('account', match[0]):08}"

    def _number(self, kind: str, value: str) -> int:
        """Count different values of a kind, so that the same one gets the same number."""
        known = sum(each == kind for each, _ in self._seen)
        return self._seen.setdefault((kind, value), known + 1)


def _whole(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")


def _is_tag(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"Key", "Value"}


def _tag(number: int, tag: dict[str, str]) -> dict[str, str]:
    if tag["Key"] == "nova-judge:environment":
        return {**tag, "Value": "my-environment"}
    return tag if tag["Key"].startswith("nova-judge:") else {"Key": f"tag-{number}", "Value": "x"}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
