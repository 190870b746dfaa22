"""Models of a run in, what sets them apart besides their answers out: settings and failures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from include.config import BedrockModel, Dataset, Model, ResponsesModel, SageMakerModel
from include.records import ModelSettings, ModelSummary, Notice, SystemPrompt
from include.wording import percent

FORM = "form of the prompt"
REQUESTS = "requests"
NOT_SENT = "not sent"
NOT_KNOWN = "not known"

SIGNIFICANT = 0.01
NOTABLE = 0.05
"""A difference between two shares is told when it is this large and not by chance."""


@dataclass(frozen=True)
class SettingRow:
    """One setting of all models, in words."""

    name: str
    values: list[str]
    """One per model, the baseline's first."""
    differs: list[bool]
    """Whether each is another than the baseline's; what is not known is."""


def settings(
    model: Model, dataset: Dataset, system_prompt: SystemPrompt | None
) -> ModelSettings | None:
    """Return what a model is asked with; None for one whose responses exist already."""
    if isinstance(model, ResponsesModel):
        return None
    return ModelSettings(
        max_tokens=model.parameters.max_tokens,
        temperature=model.parameters.temperature,
        top_p=model.parameters.top_p,
        stop=model.parameters.stop,
        schema=model.schema_ if isinstance(model, SageMakerModel) else "messages",
        prompt_template=None if dataset.messages_field else dataset.prompt_template,
        messages_field=dataset.messages_field,
        system_prompt=system_prompt,
        batch=isinstance(model, BedrockModel) and model.batch,
    )


def system_prompt(dataset: Dataset, loaded: SystemPrompt | None) -> SystemPrompt | None:
    """Return which system prompt the models get: the file that was loaded, or the config's own."""
    if loaded is None and dataset.system_prompt:
        digest = hashlib.sha256(dataset.system_prompt.encode(errors="replace")).hexdigest()
        return SystemPrompt(None, None, digest)
    return loaded


def table(models: Sequence[ModelSummary]) -> list[SettingRow]:
    """Put the settings of all models side by side."""
    columns = [_in_words(model.settings) for model in models]
    rows = []
    for name in _in_words(None) if columns else ():
        values = [column[name] for column in columns]
        differs = [value != values[0] or value == NOT_KNOWN for value in values]
        rows.append(SettingRow(name, values, [False, *differs[1:]]))
    return rows


def differences(models: Sequence[ModelSummary]) -> list[Notice]:
    """Name every difference in settings that may explain a verdict.

    Args:
        models: The baseline first.

    Returns:
        One sentence per difference between a candidate and the baseline.
    """
    unknown = [
        f"the responses of {model.name} existed before this run: what it was asked with is not "
        "known"
        for model in models
        if model.settings is None
    ]
    baseline = models[0]
    known = [model for model in models[1:] if model.settings and baseline.settings]
    apart = [
        f"{model.name} is asked {_phrase(row.name, row.values[1])}, "
        f"{baseline.name} {_phrase(row.name, row.values[0])}"
        for model in known
        for row in table([baseline, model])
        if row.differs[1]
    ]
    return [Notice("settings_differ", sentence) for sentence in [*unknown, *apart]]


def asymmetries(models: Sequence[ModelSummary]) -> list[Notice]:
    """Name the models whose responses are cut off or fail notably more often than the other's.

    Args:
        models: The baseline first; it is compared with each candidate.
    """
    return [
        notice
        for model in models[1:]
        for notice in [*_truncated(models[0], model), *_failed(models[0], model)]
    ]


def _truncated(baseline: ModelSummary, candidate: ModelSummary) -> Iterator[Notice]:
    shares = [
        _Share(model.name, model.responses.truncated, model.responses.usable)
        for model in (baseline, candidate)
    ]
    told = baseline.settings and candidate.settings  # files of responses do not say what was cut
    if told and _apart(*shares):
        less, more = sorted(shares, key=lambda share: share.value)
        yield Notice(
            "truncated_more",
            f"{percent(more.value)} of the responses of {more.name} are cut off before their end, "
            f"{percent(less.value)} of {less.name}'s",
        )


def _failed(baseline: ModelSummary, candidate: ModelSummary) -> Iterator[Notice]:
    shares = [
        _Share(model.name, found.empty + found.refused + found.error, found.total - found.missing)
        for model, found in ((m, m.responses) for m in (baseline, candidate))
    ]
    if _apart(*shares):
        less, more = sorted(shares, key=lambda share: share.value)
        yield Notice(
            "failed_more",
            f"{percent(more.value)} of the responses of {more.name} cannot be used, "
            f"{percent(less.value)} of {less.name}'s: the pairs that are left may be a selection",
        )


@dataclass(frozen=True)
class _Share:
    name: str
    part: int
    whole: int

    @property
    def value(self) -> float:
        return self.part / self.whole if self.whole else 0.0


def _apart(one: _Share, other: _Share) -> bool:
    """Whether two shares differ notably, by Fisher's exact test."""
    from scipy.stats import fisher_exact

    if not (one.whole and other.whole) or abs(one.value - other.value) < NOTABLE:
        return False
    counts = [[share.part, share.whole - share.part] for share in (one, other)]
    return bool(fisher_exact(counts).pvalue < SIGNIFICANT)


def _in_words(settings: ModelSettings | None) -> dict[str, str]:
    names = (
        "max_tokens",
        "temperature",
        "top_p",
        "stop",
        FORM,
        REQUESTS,
        "prompt",
        "system prompt",
    )
    if settings is None:
        return dict.fromkeys(names, NOT_KNOWN)
    values = (
        *map(_sent, (settings.max_tokens, settings.temperature, settings.top_p, settings.stop)),
        "chat messages" if settings.schema == "messages" else "raw text, no chat template",
        "in one batch" if settings.batch else "one by one",
        settings.prompt_template or f"conversations in {settings.messages_field}",
        _system(settings.system_prompt),
    )
    return dict(zip(names, values, strict=True))


def _sent(value: float | list[str] | None) -> str:
    return NOT_SENT if value is None else json.dumps(value, ensure_ascii=False)


def _system(prompt: SystemPrompt | None) -> str:
    if prompt is None:
        return "none"
    known = [
        prompt.file or "the evaluation's",
        f"version {prompt.version}" if prompt.version else "",
        f"sha256 {prompt.sha256[:12]}" if prompt.sha256 else "",
    ]
    return ", ".join(filter(None, known))


def _phrase(name: str, value: str) -> str:
    """What the sentence about a difference says of one model."""
    if value == NOT_SENT:
        return f"without {name}"
    if name == REQUESTS:
        return value
    return f"with {value}" if name == FORM else f"with {name} {value}"
