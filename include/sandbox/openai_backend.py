"""A conversation in, the reply of a server that speaks OpenAI's protocol out.

Ollama, vLLM, llama.cpp, LiteLLM and others do. The key is sent to the server and shown to nobody:
what the server writes back is searched for it before it becomes part of an error.
"""

from __future__ import annotations

import logging
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from include.sandbox.conversation import Conversation, End, Reply, rough_tokens
from include.sandbox.settings import OpenAI, SettingsError

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 300.0
"""A model on a laptop may think for minutes; the client has its own limit."""
CONNECTIONS = 256
"""Kept open at most: for all models and judge jobs together."""
LONGEST_MESSAGE = 500
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
ENDS: dict[str, End] = {"length": "cut", "content_filter": "filtered"}
LISTED = 10
"""Most models that a warning lists."""

log = logging.getLogger(__name__)


class ServerError(Exception):
    """The server has not answered, or not with a reply."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        *,
        timed_out: bool = False,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """HTTP status; None where there was no answer."""
        self.timed_out = timed_out
        self.retry_after = retry_after
        """Seconds, where the server says how many."""

    @property
    def refused(self) -> bool:
        """Whether the server refuses what it was asked, and might answer something else."""
        return self.status in (400, 413, 422)

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered a little later."""
        if self.status is None:
            return not self.timed_out
        return self.status == 429 or self.status >= 500


class OpenAIServer:
    """One server, asked by many threads at once."""

    def __init__(self, settings: OpenAI, seconds: float = ANSWER_SECONDS) -> None:
        """Connect to nothing yet.

        Args:
            settings: Where it is.
            seconds: How long an answer may take.
        """
        self.settings = settings
        self._timeout = (min(CONNECT_SECONDS, seconds), seconds)
        self._session = _session(settings)

    def complete(self, model: str, asked: Conversation) -> Reply:
        """Ask a model (POST /chat/completions; for raw text POST /completions).

        Nothing is sent again: that is left to the client, as AWS leaves it.

        Args:
            model: Its name on the server.
            asked: What it is asked.

        Raises:
            ServerError: There is no reply.
        """
        body = _body(model, asked)
        answer = self._send("POST", "completions" if asked.raw else "chat/completions", body)
        try:
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            text = choice["text"] if asked.raw else choice["message"].get("content")
            if not isinstance(text, str | None):
                raise TypeError(f"content is a {type(text).__name__}")
            said = asked.system + "".join(turn.text for turn in asked.turns)
            return Reply(
                text or "",
                int(usage.get("prompt_tokens") or rough_tokens(said)),
                int(usage.get("completion_tokens") or rough_tokens(text or "")),
                ENDS.get(str(choice.get("finish_reason")), "end"),
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise ServerError(f"the answer is no chat completion: {error!r}", 502) from None

    def models(self) -> list[str]:
        """Return the names of the server's models (GET /models).

        Raises:
            ServerError: There is no list.
        """
        answer = self._send("GET", "models")
        listed = answer.get("data") if isinstance(answer, dict) else None
        return [str(each.get("id")) for each in listed or [] if isinstance(each, dict)]

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        import requests

        url = f"{self.settings.base_url}/{path}"
        try:
            response = self._session.request(
                method, url, json=body, timeout=self._timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            cause, late = _innermost(error), not isinstance(error, requests.ConnectTimeout)
            if isinstance(cause, TimeoutError) and late:
                message = f"{self.settings.base_url} has not answered in time"
                raise ServerError(message, timed_out=True) from None
            problem = self._shown(getattr(cause, "strerror", None) or str(cause))
            raise ServerError(f"{self.settings.base_url} does not answer: {problem}") from None
        if response.status_code != 200:
            after = response.headers.get("Retry-After", "")
            raise ServerError(
                self._shown(_message(response) or response.reason),
                response.status_code,
                retry_after=int(after) if after.isdecimal() else None,
            )
        try:
            return response.json()
        except ValueError:
            raise ServerError("the answer is not JSON", 502) from None

    def _shown(self, text: str) -> str:
        """Return a text that may be shown: without the key, on one line, and not too long."""
        key = self.settings.api_key
        safe = text.replace(key, "***") if key else text
        return " ".join(safe.split())[:LONGEST_MESSAGE]


def check(settings: OpenAI) -> None:
    """Make sure that the server is there before anything relies on it.

    Raises:
        SettingsError: Nobody answers, or the key is refused, or the URL lacks its `/v1`.
    """
    server = OpenAIServer(settings, seconds=10)
    variable = f"SANDBOX_OPENAI_BASE_URL={settings.base_url}"
    try:
        listed = server.models()
    except ServerError as error:
        if error.status is None:
            raise SettingsError(
                f"{variable}: {error}; start the server, or unset the variable"
            ) from None
        if error.status in (401, 403):
            raise SettingsError(
                f"SANDBOX_OPENAI_API_KEY: {settings.base_url} refuses it: {error}"
            ) from None
        if error.status == 404 and _lists_models(settings, "/v1"):
            raise SettingsError(
                f"{variable}: there are no models; did you mean {settings.base_url}/v1?"
            ) from None
        log.warning("%s does not list its models: %s %s", variable, error.status, error)
        return
    known = {name.removesuffix(":latest") for name in listed}
    for name in settings.names():
        if name.removesuffix(":latest") not in known:
            close = get_close_matches(name, listed, n=1)
            hint = (
                f"; did you mean {close[0]}?"
                if close
                else f"; it lists {', '.join(listed[:LISTED])}"
            )
            log.warning("%s does not list the model %s%s", variable, name, hint)


def _lists_models(settings: OpenAI, below: str) -> bool:
    longer = OpenAI(settings.base_url + below, settings.api_key)
    try:
        return bool(OpenAIServer(longer, seconds=10).models())
    except ServerError:
        return False


def _session(settings: OpenAI) -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if settings.api_key:
            request.headers["Authorization"] = f"Bearer {settings.api_key}"
        return request

    session = requests.Session()
    session.auth = authorize  # not a header: netrc would overrule it
    session.trust_env = urlsplit(settings.base_url).hostname not in THIS_MACHINE  # no proxy
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _body(model: str, asked: Conversation) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model}
    if asked.raw:
        body["prompt"] = asked.turns[-1].text
    else:
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        turns = [{"role": turn.role, "content": turn.text} for turn in asked.turns]
        body["messages"] = [*system, *turns]
    parameters = {
        "max_tokens": asked.max_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "stop": list(asked.stop) or None,
    }
    return body | {key: value for key, value in parameters.items() if value is not None}


def _message(response: requests.Response) -> str:
    """Return what an answer says is wrong; servers write it in several ways."""
    try:
        body = response.json()
    except ValueError:
        return response.text
    for key in ("error", "detail", "message"):
        found = body.get(key) if isinstance(body, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if found:
            return str(found)
    return response.text


def _innermost(error: BaseException) -> BaseException:
    """Return the first error of a chain: the operating system's."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return error
