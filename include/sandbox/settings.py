"""Environment variables in, the sandbox's settings out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A SANDBOX_* variable that cannot be read."""


@dataclass(frozen=True)
class JudgeDials:
    """SANDBOX_JUDGE: how the stand-in judge, and the recorded one, misbehave."""

    position_bias: float = 0.0
    """Share of judgments that name A (negative: B) whatever the responses say."""
    ties: float = 0.0
    """Share of judgments that become ties."""
    errors: float = 0.0
    """Share of judgments that become inference errors."""
    noise: float = 0.0
    """Share of judgments that are drawn by lot."""
    column_bias: float = 0.0
    """Share of pairs in which response B of the input wins in both orders (negative: A)."""
    brevity: float = 0.0
    """Share of judgments that name the shorter response."""
    flattery: float = 0.0
    """Share of judgments that name the response which speaks to the judge."""
    details: int = 1
    """Whether the archive holds per-pair details."""
    seed: int = 0
    """Another one is another taste."""
    image: int = 1
    """Which image the tag of the judge's container points to: another number, another digest."""


@dataclass(frozen=True)
class ModelDials:
    """SANDBOX_MODELS: how the stand-in models answer."""

    seed: int = 0
    """Another number, other answers to the same prompts, as sampling gives them."""


@dataclass(frozen=True)
class Faults:
    """SANDBOX_FAULTS: shares of requests that go wrong, and how slow the rest is."""

    throttle: float = 0.0
    error: float = 0.0
    timeout: float = 0.0
    latency_ms: float = 0.0
    capacity: float = 0.0
    """Share of endpoints and of judge jobs that AWS has no instance for."""
    job_failure: float = 0.0
    """Share of judge jobs and of batch jobs that fail."""
    retry_after: int = 0
    """Seconds that a throttled answer's Retry-After names; 0: no such header."""
    seed: int = 0


@dataclass(frozen=True)
class Rate:
    """SANDBOX_RATE: token buckets for each model; 0 is no limit."""

    requests_per_second: float = 0.0
    burst: float = 0.0
    tokens_per_minute: float = 0.0
    """Bedrock's: a request reserves its input and maxTokens, and gives back what it did not use."""
    output_token_weight: float = 1.0
    """How many tokens one token of the output counts when the request is over."""


@dataclass(frozen=True)
class Delays:
    """SANDBOX_DELAYS: seconds that AWS takes."""

    endpoint: float = 1.0
    delete: float = 0.3
    job: float = 1.0
    pending: float = 1.0
    """How long a job with a MaxPendingTimeInSeconds waits for an instance that does not come."""


@dataclass(frozen=True)
class OpenAI:
    """SANDBOX_OPENAI_*: a server that speaks OpenAI's protocol, and which of its models to ask."""

    base_url: str
    api_key: str = field(default="", repr=False)
    """Secret."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Name on the server, by the id that AWS knows a model by or by the last part of that."""
    model: str | None = None
    """Name on the server of every other model; None: its own id."""
    judge_model: str | None = None

    def name(self, model: str) -> str:
        """Return what a model is called on the server."""
        return self._named(model) or self.model or model

    def takes_any(self, model: str) -> bool:
        """Whether the server is to be asked for a model whatever AWS thinks of its id."""
        return self._named(model) is not None or self.model is None

    def _named(self, model: str) -> str | None:
        return self.models.get(model) or self.models.get(model.rsplit("/", 1)[-1])

    def names(self) -> list[str]:
        """Return every name on the server that was set."""
        return list(filter(None, [*self.models.values(), self.model, self.judge_model]))


@dataclass(frozen=True)
class Settings:
    """Everything that can be set."""

    state: Path
    models: ModelDials = ModelDials()
    judge: JudgeDials = JudgeDials()
    faults: Faults = Faults()
    rate: Rate = Rate()
    delays: Delays = Delays()
    recordings: Path | None = None
    """SANDBOX_RECORDINGS: JSON lines of prompt, responses and preference."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """SANDBOX_QUOTAS: instances and records by AWS's name of the quota."""
    openai: OpenAI | None = None


INSTANCE_SIZES = (
    *("xlarge", "2xlarge", "4xlarge", "8xlarge"),
    *("12xlarge", "16xlarge", "24xlarge", "48xlarge"),
)
INSTANCE_TYPES = (
    *(f"ml.{family}.{size}" for family in ("g5", "g6") for size in INSTANCE_SIZES),
    "ml.p4d.24xlarge",
    "ml.p5.48xlarge",
)
"""Instance types with a quota; the sandbox does not count others."""
GRANTED = 8
"""Instances of each type; AWS grants most accounts none."""
BATCH_MODELS = {
    "claude-3-haiku-": "Claude 3 Haiku",
    "claude-3-5-haiku-": "Claude 3.5 Haiku",
    "claude-3-5-sonnet-20240620": "Claude 3.5 Sonnet",
    "claude-3-5-sonnet-20241022": "Claude 3.5 Sonnet v2",
    "claude-sonnet-4-5": "Claude Sonnet 4.5",
    "claude-sonnet-4-6": "Claude Sonnet 4.6",
    "claude-haiku-4-5": "Claude Haiku 4.5",
    "nova-micro-v1": "Nova Micro V1",
    "nova-lite-v1": "Nova Lite V1",
    "nova-pro-v1": "Nova Pro V1",
    "llama3-1-8b-instruct": "Llama 3.1 8B Instruct",
    "llama3-1-70b-instruct": "Llama 3.1 70B Instruct",
    "llama3-3-70b-instruct": "Llama 3.3 70B Instruct",
    "mistral-large-2407": "Mistral Large 2 (24.07)",
    "mistral-small-2402": "Mistral Small",
    "gpt-oss-20b": "OpenAI GPT OSS 20b",
    "gpt-oss-120b": "OpenAI GPT OSS 120b",
    "qwen3-32b": "Qwen3 32B",
    "qwen3-235b": "Qwen3 235B",
    "deepseek.v3": "DeepSeek v3",
}
"""Parts of the ids of models that batch jobs may ask, and what quotas call the model."""
BATCH_MINIMUM = "Minimum number of records per batch inference job for "
RECORDS = 100
"""The least records of a batch job."""
QUOTAS = {
    f"{instance_type} for {usage} usage": GRANTED
    for usage in ("training job", "endpoint")
    for instance_type in INSTANCE_TYPES
}
QUOTAS |= {f"{BATCH_MINIMUM}{model}": RECORDS for model in BATCH_MODELS.values()}
"""AWS's names of the quotas, and their defaults here."""

KNOWN = {
    "SANDBOX_MODELS": ModelDials,
    "SANDBOX_JUDGE": JudgeDials,
    "SANDBOX_FAULTS": Faults,
    "SANDBOX_RATE": Rate,
    "SANDBOX_DELAYS": Delays,
}
URL, KEY = "SANDBOX_OPENAI_BASE_URL", "SANDBOX_OPENAI_API_KEY"
MODEL, JUDGE_MODEL = "SANDBOX_OPENAI_MODEL", "SANDBOX_OPENAI_JUDGE_MODEL"
OPENAI_VARIABLES = (URL, KEY, MODEL, JUDGE_MODEL)
OTHERS = ("SANDBOX_RECORDINGS", "SANDBOX_QUOTAS", "SANDBOX_PORT", *OPENAI_VARIABLES)

Group = TypeVar("Group")


def read(environ: Mapping[str, str], state: Path) -> Settings:
    """Read all SANDBOX_* variables.

    Raises:
        SettingsError: An unknown variable or key, or a value that is no number.
    """
    for name in environ:
        if name.startswith("SANDBOX_") and name not in (*KNOWN, *OTHERS):
            raise SettingsError(f"{name} is not a setting{_nearest(name, [*KNOWN, *OTHERS])}")
    recordings = environ.get("SANDBOX_RECORDINGS")
    if recordings and not Path(recordings).is_file():
        raise SettingsError(f"SANDBOX_RECORDINGS={recordings}: there is no such file")
    return Settings(
        state=state,
        models=_group(ModelDials, "SANDBOX_MODELS", environ),
        judge=_group(JudgeDials, "SANDBOX_JUDGE", environ),
        faults=_group(Faults, "SANDBOX_FAULTS", environ),
        rate=_group(Rate, "SANDBOX_RATE", environ),
        delays=_group(Delays, "SANDBOX_DELAYS", environ),
        recordings=Path(recordings) if recordings else None,
        quotas=_quotas(environ.get("SANDBOX_QUOTAS", "")),
        openai=_openai(environ),
    )


def _openai(environ: Mapping[str, str]) -> OpenAI | None:
    given = {name: value for name in OPENAI_VARIABLES if (value := environ.get(name, "").strip())}
    if not given:
        return None
    if URL not in given:
        raise SettingsError(f"{next(iter(given))} needs {URL}, the address of the server")
    key = given.get(KEY, "")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"{KEY}: expected a key without spaces, line ends and accents")
    models, rest = _server_models(given.get(MODEL, ""))
    return OpenAI(_base_url(given[URL]), key, models, rest, given.get(JUDGE_MODEL))


def _base_url(text: str) -> str:
    try:
        url = urlsplit(text)
        _ = url.port  # refuses one that is no number
    except ValueError as error:
        raise SettingsError(f"{URL}: {error}") from None
    if url.username or url.password or url.query or url.fragment:
        raise SettingsError(f"{URL}: expected an address only; a key belongs in {KEY}")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise SettingsError(f"{URL}={text}: expected an address like http://localhost:11434/v1")
    return text.rstrip("/")


def _server_models(text: str) -> tuple[dict[str, str], str | None]:
    """Read `id=name,id=name,name`: the last of these is for all other ids."""
    models: dict[str, str] = {}
    rest: str | None = None
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        model, equals, name = (piece.strip() for piece in part.partition("="))
        if not model or (equals and not name):
            raise SettingsError(
                f"{MODEL}: {part!r}: expected a model's id = its name on the server"
            )
        if not equals and rest is not None:
            raise SettingsError(
                f"{MODEL}: {rest} and {model} cannot both be every other model; "
                "expected an id and = before one of them"
            )
        if model in models:
            raise SettingsError(f"{MODEL}: {model} is there twice")
        if equals:
            models[model] = name
        else:
            rest = model
    return models, rest


def _quotas(text: str) -> dict[str, int]:
    changed = {}
    for part in filter(None, text.split(",")):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in QUOTAS:
            raise SettingsError(
                f"SANDBOX_QUOTAS: {name!r} is not a quota{_nearest(name, list(QUOTAS))}"
            )
        if not value.isdecimal():
            what = "records" if name.startswith(BATCH_MINIMUM) else "instances"
            raise SettingsError(f"SANDBOX_QUOTAS: {name}={value}: expected a number of {what}")
        changed[name] = int(value)
    return changed


SHARES = (
    *("throttle", "error", "timeout", "capacity", "job_failure"),
    *("ties", "errors", "noise", "brevity", "flattery"),
)
RANGES = {
    **dict.fromkeys(SHARES, (0.0, 1.0)),
    **dict.fromkeys(("position_bias", "column_bias"), (-1.0, 1.0)),
}
"""Of the settings that are shares; of all others no number is negative."""


def _group(cls: Callable[..., Group], variable: str, environ: Mapping[str, str]) -> Group:
    known: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for part in filter(None, environ.get(variable, "").split(",")):
        key, _, text = part.partition("=")
        key = key.strip()
        if key not in known:
            raise SettingsError(
                f"{variable}: {key!r} is not a key{_nearest(key, list(known))}; "
                f"known are {', '.join(known)}"
            )
        try:
            values[key] = known[key](text)
        except ValueError:
            raise SettingsError(f"{variable}: {key}={text}: expected a number") from None
        least, most = RANGES.get(key, (0.0, math.inf))
        if known[key] is float and not least <= values[key] <= most:
            span = f"from {least:g} to {most:g}" if most < math.inf else "that is not negative"
            raise SettingsError(f"{variable}: {key}={text}: expected a number {span}")
    group: Group = cls(**values)
    return group


def _nearest(name: str, choices: list[str]) -> str:
    close = get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]}?" if close else ""
