"""A model's id and a conversation in, a reply out: recorded, a real model's, or a stand-in's.

A stand-in is no language model and does not claim to be one. It writes about the prompt in the
prompt's own words, more of it and better ordered the more skill its name stands for, so that a
judge has something to compare and a report something to show.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

from include.sandbox.conversation import Conversation, Reply, rough_tokens
from include.sandbox.dice import chance
from include.sandbox.openai_backend import OpenAIServer
from include.sandbox.settings import SettingsError

SKILLS = (
    (r"opus|gpt-?[45]|nova-premier", 0.95),
    (r"sonnet|nova-pro|mistral-large", 0.9),
    (r"haiku|nova-2-lite|nova-lite", 0.75),
    (r"nova-micro", 0.65),
)
"""Pattern in a model's id, skill; else the number of parameters in the name, else middling."""


class Recordings:
    """Responses and preferences from a file: `{"prompt", "responses", "preference"}` a line."""

    def __init__(self, path: Path | None) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        body = path.read_bytes()
        content = gzip.decompress(body) if path.suffix == ".gz" else body
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                self._add(line, f"{path}:{number}")

    def _add(self, line: bytes, place: str) -> None:
        """Take a row; several rows of one prompt, as of one model each, are put together."""
        try:
            row = {"preference": {}, **json.loads(line)}
            prompt, responses = row["prompt"], dict(row["responses"])
            preference = {name: float(one) for name, one in row["preference"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f'{place}: expected {{"prompt": "...", "responses": {{"model": "..."}}}}, and '
                f'"preference": {{"model": 1.0 to 2.0}} where it is known: {error!r}'
            ) from None
        known = self._rows.setdefault(prompt, {"responses": {}, "preference": {}})
        one, other = (set(each["responses"]) - set(each["preference"]) for each in (known, row))
        if one & set(preference) or other & set(known["preference"]):
            raise SettingsError(f"{place}: a model is a candidate here and a baseline elsewhere")
        known["responses"] |= responses
        known["preference"] |= preference

    def knows(self, model: str) -> bool:
        """Whether any prompt has a response of the model."""
        return any(_own(model, row["responses"]) for row in self._rows.values())

    def response(self, prompt: str, model: str) -> str | None:
        """Return the recorded response, exactly as it was recorded."""
        responses = self._rows.get(prompt, {}).get("responses", {})
        name = _own(model, responses)
        return responses[name] if name else None

    def preference_for_b(self, prompt: str, a: str, b: str) -> float | None:
        """Return how far B was preferred, 1.0 to 2.0; None where prompt and texts match no row."""
        row = self._rows.get(prompt, {"responses": {}, "preference": {}})
        baselines = {t for name, t in row["responses"].items() if name not in row["preference"]}
        for candidate, preference in row["preference"].items():
            if a in baselines and row["responses"].get(candidate) == b:
                return float(preference)
            if b in baselines and row["responses"].get(candidate) == a:
                return 3.0 - float(preference)
        return None


def _own(model: str, responses: dict[str, str]) -> str | None:
    """Find a model among the recorded ones, by its id or the last part of it."""
    for name in (model, model.rsplit("/", 1)[-1]):
        if name in responses:
            return name
    return None


class Models:
    """Everything that answers: recordings, then a server if there is one, else stand-ins."""

    def __init__(
        self, recordings: Recordings, server: OpenAIServer | None = None, seed: int = 0
    ) -> None:
        self._recordings = recordings
        self._server = server
        self._seed = seed

    def knows(self, model: str) -> bool:
        """Whether a model is one of ours, whatever AWS thinks of its id."""
        served = self._server is not None and self._server.settings.takes_any(model)
        return served or self._recordings.knows(model)

    def answer(self, model: str, asked: Conversation) -> Reply:
        """Answer the last turn of a conversation.

        A recorded response answers a prompt before which nothing was said.

        Raises:
            ServerError: There is a server, and it has not answered.
        """
        prompt = asked.only_prompt
        recorded = None if prompt is None else self._recordings.response(prompt, model)
        said = asked.system + "".join(turn.text for turn in asked.turns)
        if recorded is not None:
            return Reply(recorded, rough_tokens(said), rough_tokens(recorded))
        if self._server is not None:
            return self._server.complete(self._server.settings.name(model), asked)
        topic = "\n".join(turn.text for turn in asked.turns if turn.role == "user")
        words = stand_in(model, topic, self._seed).split(" ")
        limit = asked.max_tokens or 4096
        text, cut = " ".join(words[:limit]), len(words) > limit
        spent = min(len(words), limit)
        return Reply(text, rough_tokens(said), spent, "cut" if cut else "end")


def skill(model: str) -> float:
    """Return how well a model of this name writes, 0 to 1."""
    name = model.lower()
    for pattern, value in SKILLS:
        if re.search(pattern, name):
            return value
    size = re.search(r"(\d+(?:\.\d+)?)b\b", name)
    if size:
        billions = float(size[1])
        return min(0.9, 0.3 + 0.12 * math.sqrt(billions))
    return 0.5


OPENINGS = (
    "The question is about {topic}.",
    "Take {topic} first.",
    "What matters here is {topic}.",
    "It helps to begin with {topic}.",
)
POINTS = (
    "{Topic} comes before everything else, because the rest follows from it.",
    "Look at {topic} on its own, then at how it bears on {other}.",
    "A small example makes {topic} clear: change it, and {other} changes with it.",
    "Where {topic} and {other} pull in different directions, say which one counts.",
    "Check {topic} at the end; that is where mistakes hide.",
    "Not every case of {topic} is alike, so the exception belongs in the answer.",
)
CLOSINGS = (
    "In short: settle {topic}, then {other}, and check the result.",
    "So the answer turns on {topic}; {other} only refines it.",
)
FILLER = (
    "There are many things that can be said.",
    "It depends.",
    "This is a good question.",
    "Some people see it differently.",
)
COMMON = frozenset(
    """
    about after also because been before being between could does each every from have into just
    like make makes more most much only other over please should some such than that their them
    then there these they this through under using very what when where which while will with
    would write your explain describe give list name compare tell show find work works need take
    want word words sentence sentences short long good whose does return returns
    """.split()  # noqa: SIM905 - a list of strings would be five times as long
)
"""Words that are no topic."""


def stand_in(model: str, prompt: str, seed: int = 0) -> str:
    """Write about the prompt as well as the model's skill allows; each seed otherwise."""
    ability = skill(model)
    asked = (model, prompt, seed) if seed else (model, prompt)
    topics = list(
        dict.fromkeys(
            word for word in re.findall(r"[a-zA-Z]{4,}", prompt.lower()) if word not in COMMON
        )
    ) or ["the question"]

    def pick(options: tuple[str, ...], use: str) -> str:
        template = options[int(chance(*asked, use) * len(options))]
        first = topics[int(chance(*asked, use, "topic") * len(topics))]
        second = topics[int(chance(*asked, use, "other") * len(topics))]
        return template.format(topic=first, Topic=first.capitalize(), other=second)

    effort = ability + 0.5 * (chance(*asked, "effort") - 0.5)
    sentences = [pick(OPENINGS, "opening")]
    for number in range(round(6 * effort)):
        useful = chance(*asked, "useful", number) < effort
        sentences.append(pick(POINTS if useful else FILLER, f"point {number}"))
    if effort > 0.6:
        sentences.append(pick(CLOSINGS, "closing"))
    unique = list(dict.fromkeys(sentences))
    return "\n\n".join([" ".join(unique[:3]), " ".join(unique[3:])]).strip()
