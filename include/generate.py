"""Prompts and a model in, Responses out: several at once, stored as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from logging import getLogger

from include.errors import GenerationError
from include.providers import Ask
from include.records import Prompt, Response
from include.storage import RunFolder

log = getLogger(__name__)

PART_SIZE = 50
"""Responses per stored part: what a killed worker has to ask for again, at the most."""


def generate(
    folder: RunFolder,
    model: str,
    prompts: Sequence[Prompt],
    ask: Ask,
    *,
    max_concurrency: int,
) -> list[Response]:
    """Ask one model for a response to each prompt that has no usable one yet.

    Args:
        folder: Where responses are kept, below `responses/{model}`.
        model: The model's name in the evaluation.
        prompts: One shard of the prompts.
        ask: Sends one prompt.
        max_concurrency: Requests in flight.

    Returns:
        The latest response to every prompt of the shard, failures included.
    """
    stored = latest(read_responses(folder, model))
    missing = [p for p in prompts if p.prompt_id not in stored or not stored[p.prompt_id].usable]
    log.info("%s: %d of %d prompts to answer", model, len(missing), len(prompts))
    fresh: list[Response] = []
    with ThreadPoolExecutor(max_concurrency) as pool:
        for future in as_completed([pool.submit(ask, prompt) for prompt in missing]):
            fresh.append(future.result())
            if len(fresh) % PART_SIZE == 0:
                folder.add_part(f"responses/{model}", fresh[-PART_SIZE:])
                log.info("%s: %d of %d answered", model, len(fresh), len(missing))
    if len(fresh) % PART_SIZE:
        folder.add_part(f"responses/{model}", fresh[-(len(fresh) % PART_SIZE) :])
    answers = {**stored, **latest(fresh)}
    return [answers[prompt.prompt_id] for prompt in prompts]


def read_responses(folder: RunFolder, model: str) -> Iterable[Response]:
    """Yield every stored response of one model, earlier failures included."""
    return folder.read_parts(f"responses/{model}", Response)


def latest(responses: Iterable[Response]) -> dict[str, Response]:
    """Keep one response per prompt: a usable one wins over a failure."""
    kept: dict[str, Response] = {}
    for response in responses:
        known = kept.get(response.prompt_id)
        if known is None or not known.usable:
            kept[response.prompt_id] = response
    return kept


def check_error_rate(model: str, responses: Sequence[Response], max_error_rate: float) -> None:
    """Raise if too many responses cannot be used.

    Raises:
        GenerationError: With the three commonest outcomes and an example of each.
    """
    failed = [response for response in responses if not response.usable]
    if len(failed) <= max_error_rate * len(responses):
        return
    kinds = Counter(response.error_type or response.outcome for response in failed)
    examples = []
    for kind, count in kinds.most_common(3):
        first = next(r for r in failed if (r.error_type or r.outcome) == kind)
        examples.append(f"  {count} x {kind}, e.g. prompt {first.prompt_id}: {first.error_message}")
    raise GenerationError(
        f"{model}: {len(failed)} of {len(responses)} responses cannot be used, more than "
        f"generation.max_error_rate = {max_error_rate} allows:\n" + "\n".join(examples) + "\n"
        "Clear this task to ask for exactly these again."
    )
