"""Facts about requests to AWS over one event loop: the same on the wire as boto3's."""

import asyncio
import json
import socket
import time
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from recording_server import JSON, Answer, Recording, Request, recording_server
from sandbox_server import Sandbox, free_port

from include.async_client import AsyncClient

ARN = "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.anthropic.claude-sonnet-4-6"
SAID = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Grüße ☃"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
    "metrics": {"latencyMs": 7},
}
CONVERSE: dict[str, Any] = {
    "modelId": ARN,
    "messages": [{"role": "user", "content": [{"text": "Grüße ☃ \u2028 \x00"}]}],
    "system": [{"text": "Be kind."}],
    "inferenceConfig": {"maxTokens": 9, "temperature": 0.5},
}
INVOKE: dict[str, Any] = {
    "EndpointName": "my-endpoint",
    "InferenceComponentName": "part",
    "ContentType": "application/json",
    "Accept": "application/json",
    "Body": '{"inputs": "Grüße"}'.encode(),
}
CASES = [
    pytest.param("bedrock-runtime", "Converse", "converse", CONVERSE, id="Converse"),
    pytest.param("sagemaker-runtime", "InvokeEndpoint", "invoke_endpoint", INVOKE, id="Invoke"),
]
ON_THE_WAY = ("user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-date", "connection")
"""Headers that differ from request to request, or say who asks."""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def client(service: str, url: str, token: str | None = None, **config: Any) -> Any:
    session = boto3.session.Session("test", "secret", token, region_name="us-east-1")
    config.setdefault("retries", {"total_max_attempts": 1})
    return session.client(service, endpoint_url=url, config=Config(**config))


def call(client: Any, operation: str, timeout: float = 10, **params: Any) -> dict[str, Any]:
    async def one() -> dict[str, Any]:
        async with AsyncClient(client, max_connections=2, timeout=timeout) as opened:
            return await opened.call(operation, **params)

    return asyncio.run(one())


def ok(_: Request) -> Answer:
    return 200, JSON, json.dumps(SAID).encode()


def converse(recording: Recording, **more: Any) -> dict[str, Any]:
    return call(client("bedrock-runtime", recording.url, **more), "Converse", **CONVERSE)


def signature(request: Request, url: str, service: str, token: str | None = None) -> str:
    """Sign what came over the wire as botocore would have, at the time that the request names."""
    signed = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = {name: request.headers[name] for name in signed}
    again = AWSRequest(request.method, url + request.path, headers, request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = SigV4Auth(Credentials("test", "secret", token), service, "us-east-1")
    string = signer.string_to_sign(again, signer.canonical_request(again))
    return str(signer.signature(string, again))


# the request


@pytest.mark.parametrize(("service", "operation", "method", "params"), CASES)
def test_the_request_is_boto3s(
    service: str, operation: str, method: str, params: dict[str, Any]
) -> None:
    with recording_server(ok) as recording:
        boto = client(service, recording.url)
        getattr(boto, method)(**params)
        call(boto, operation, **params)
    theirs, ours = recording.requests
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    assert json.loads(ours.body) == json.loads(theirs.body)
    for headers in (theirs.headers, ours.headers):
        for name in (*ON_THE_WAY, "authorization", "content-length"):
            headers.pop(name, None)
    assert ours.headers == theirs.headers


@pytest.mark.parametrize(("service", "operation", "method", "params"), CASES)
@pytest.mark.parametrize("token", [None, "a session's token"])
def test_the_signature_is_valid(
    service: str, operation: str, method: str, params: dict[str, Any], token: str | None
) -> None:
    with recording_server(ok) as recording:
        call(client(service, recording.url, token), operation, **params)
    (request,) = recording.requests
    name = "bedrock" if service == "bedrock-runtime" else "sagemaker"
    authorization = request.headers["authorization"]
    assert f"/us-east-1/{name}/aws4_request" in authorization
    assert "host" in authorization
    assert "x-amz-date" in authorization
    expected = signature(request, recording.url, name, token)
    assert authorization.endswith(f"Signature={expected}")


def test_an_arn_as_a_models_id_is_encoded_once() -> None:
    with recording_server(ok) as recording:
        converse(recording)
    assert recording.requests[0].path == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3Ainference-profile%2F"
        "us.anthropic.claude-sonnet-4-6/converse"
    )


def test_a_sessions_token_is_sent_and_signed() -> None:
    with recording_server(ok) as recording:
        converse(recording, token="a session's token")
    headers = recording.requests[0].headers
    assert headers["x-amz-security-token"] == "a session's token"
    assert "x-amz-security-token" in headers["authorization"]


def test_a_bedrock_api_key_is_sent_as_boto3_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "a-key")
    with recording_server(ok) as recording:
        boto = client("bedrock-runtime", recording.url)
        boto.converse(**CONVERSE)
        call(boto, "Converse", **CONVERSE)
    theirs, ours = (request.headers["authorization"] for request in recording.requests)
    assert ours == theirs == "Bearer a-key"


def test_fresh_credentials_are_used_from_one_request_to_the_next() -> None:
    with recording_server(ok) as recording:
        session = boto3.session.Session("first", "secret", region_name="us-east-1")
        boto = session.client("bedrock-runtime", endpoint_url=recording.url)

        async def two() -> None:
            async with AsyncClient(boto, max_connections=1, timeout=10) as opened:
                await opened.call("Converse", **CONVERSE)
                boto._request_signer._credentials.access_key = "second"
                await opened.call("Converse", **CONVERSE)

        asyncio.run(two())
    first, second = (request.headers["authorization"] for request in recording.requests)
    assert "Credential=first/" in first
    assert "Credential=second/" in second


def test_without_credentials_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with recording_server(ok) as recording:
        bare = boto3.session.Session(region_name="us-east-1").client(
            "bedrock-runtime", endpoint_url=recording.url
        )
        with pytest.raises(NoCredentialsError):
            call(bare, "Converse", **CONVERSE)
    assert not recording.requests


# the answer


def test_the_answer_is_boto3s() -> None:
    with recording_server(ok) as recording:
        boto = client("bedrock-runtime", recording.url)
        theirs, ours = boto.converse(**CONVERSE), call(boto, "Converse", **CONVERSE)
    for answer in (theirs, ours):
        del answer["ResponseMetadata"]
    assert ours == theirs


@pytest.mark.parametrize("payload", [b'[{"generated_text": "x"}]', b"", b"\xff\xfe\x00"])
def test_a_payload_is_bytes_whatever_they_are(payload: bytes) -> None:
    with recording_server(lambda _: (200, JSON, payload)) as recording:
        answer = call(client("sagemaker-runtime", recording.url), "InvokeEndpoint", **INVOKE)
    assert answer["Body"] == payload
    assert answer["ContentType"] == "application/json"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


NOT_AWSS = [b"<html>a login page</html>", b"\xff\xfe", b"", b"[1]", b"null", b"[" * 100_000]


@pytest.mark.parametrize("body", NOT_AWSS)
def test_an_answer_that_is_not_awss_says_nothing(body: bytes) -> None:
    with recording_server(lambda _: (200, JSON, body)) as recording:
        answer = converse(recording) or {}
    assert "output" not in answer


@pytest.mark.parametrize("body", NOT_AWSS)
@pytest.mark.parametrize("status", [400, 429, 502])
def test_an_error_that_is_not_awss_is_a_client_error_with_its_status(
    status: int, body: bytes
) -> None:
    error = refused((status, {**JSON, "Retry-After": "7"}, body))
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert error.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    assert str(error.response["Error"]["Code"]) == str(status)


def test_the_sandbox_answers_as_it_answers_boto3(sandbox: Sandbox) -> None:
    boto = sandbox.client("bedrock-runtime")
    params = {**CONVERSE, "modelId": "us.anthropic.claude-sonnet-4-6"}
    theirs, ours = boto.converse(**params), call(boto, "Converse", **params)
    assert ours["output"] == theirs["output"]
    assert ours["usage"] == theirs["usage"]


def refused(answer: Answer) -> ClientError:
    with (
        recording_server(lambda _: answer) as recording,
        pytest.raises(ClientError) as caught,
    ):
        converse(recording)
    return caught.value


def test_an_error_of_aws_is_boto3s() -> None:
    headers = {
        **JSON,
        "x-amzn-ErrorType": "ThrottlingException:http://internal",
        "Retry-After": "7",
    }
    error = refused((429, headers, b'{"message": "Too many requests"}'))
    assert error.response["Error"] == {
        "Code": "ThrottlingException",
        "Message": "Too many requests",
    }
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert error.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    assert error.operation_name == "Converse"


def test_what_an_error_says_beside_its_message_is_kept() -> None:
    headers = {**JSON, "x-amzn-ErrorType": "ModelError"}
    said = {"Message": "Received server error (503)", "OriginalStatusCode": 503}
    answer = 424, headers, json.dumps(said).encode()
    with recording_server(lambda _: answer) as recording:
        boto = client("sagemaker-runtime", recording.url)
        with pytest.raises(ClientError) as theirs:
            boto.invoke_endpoint(**INVOKE)
        with pytest.raises(ClientError) as ours:
            call(boto, "InvokeEndpoint", **INVOKE)
    for caught in (theirs, ours):
        del caught.value.response["ResponseMetadata"]
    assert ours.value.response == theirs.value.response
    assert ours.value.response["OriginalStatusCode"] == 503


@pytest.mark.parametrize("status", [502, 503, 504, 403])
def test_a_proxys_html_page_is_a_client_error_with_its_status(status: int) -> None:
    page = b"<html><body>Bad Gateway</body></html>"
    error = refused((status, {"Content-Type": "text/html"}, page))
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert str(error.response["Error"]["Code"]) == str(status)


def test_a_redirect_is_not_followed() -> None:
    error = refused((307, {"Location": "http://127.0.0.1:9/elsewhere"}, b""))
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 307


# the way


def test_no_answer_in_time_is_a_read_timeout() -> None:
    def late(_: Request) -> Answer:
        time.sleep(1)
        return ok(_)

    with recording_server(late) as recording:
        boto = client("bedrock-runtime", recording.url)
        started = time.monotonic()
        with pytest.raises(ReadTimeoutError, match=recording.url):
            call(boto, "Converse", timeout=0.2, **CONVERSE)
        assert time.monotonic() - started < 0.9


def test_a_refused_connection_is_an_endpoint_connection_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(EndpointConnectionError, match=url):
        call(client("bedrock-runtime", url), "Converse", **CONVERSE)


def test_a_name_that_nobody_knows_is_an_endpoint_connection_error() -> None:
    url = "http://nobody.invalid:1"
    with pytest.raises(EndpointConnectionError, match=url):
        call(client("bedrock-runtime", url), "Converse", **CONVERSE)


def test_a_connection_that_is_cut_is_an_endpoint_connection_error() -> None:
    with recording_server(lambda _: None) as recording, pytest.raises(EndpointConnectionError):
        converse(recording)
    assert len(recording.requests) == 1, "whether it is sent again is not the client's business"


def test_an_answer_that_is_cut_is_an_endpoint_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        async def cut() -> None:
            async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"output": ')
                await writer.drain()
                writer.close()

            async with await asyncio.start_server(half, sock=server):
                boto = client("bedrock-runtime", f"http://127.0.0.1:{server.getsockname()[1]}")
                async with AsyncClient(boto, max_connections=1, timeout=10) as opened:
                    await opened.call("Converse", **CONVERSE)

        with pytest.raises(EndpointConnectionError):
            asyncio.run(cut())


def test_a_server_that_does_not_speak_tls_is_no_traceback_of_aiohttps() -> None:
    with recording_server(ok) as recording:
        boto = client("bedrock-runtime", recording.url.replace("http:", "https:"))
        with pytest.raises((SSLError, EndpointConnectionError)):
            call(boto, "Converse", **CONVERSE)


@pytest.mark.parametrize(
    ("environment", "by_proxy"),
    [
        ({}, False),
        ({"HTTP_PROXY": "{proxy}"}, True),
        ({"http_proxy": "{proxy}"}, True),
        ({"HTTPS_PROXY": "{proxy}"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "models.test"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "other.test"}, True),
    ],
)
def test_proxies_are_used_as_boto3_decides(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], by_proxy: bool
) -> None:
    with recording_server(ok) as proxy:
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(proxy=proxy.url))
        boto = client("bedrock-runtime", "http://models.test", connect_timeout=1)
        if not by_proxy:
            with pytest.raises(EndpointConnectionError):
                call(boto, "Converse", **CONVERSE)
            with pytest.raises(EndpointConnectionError):
                boto.converse(**CONVERSE)
            assert not proxy.requests
            return
        boto.converse(**CONVERSE)
        call(boto, "Converse", **CONVERSE)
    theirs, ours = proxy.requests
    assert ours.path == theirs.path
    assert ours.path.startswith("http://models.test/model/arn%3Aaws")
    assert ours.headers["host"] == theirs.headers["host"] == "models.test"


def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(request: Request) -> Answer:
        return 407, {}, b""

    with recording_server(refuse) as proxy:
        address = proxy.url.replace("http://", "http://svc:secret@")
        monkeypatch.setenv("HTTPS_PROXY", address)
        boto = client("bedrock-runtime", "https://models.test")
        with pytest.raises(EndpointConnectionError) as caught:
            call(boto, "Converse", **CONVERSE)
    assert "the proxy answered 407" in str(caught.value.kwargs["error"])
    assert "secret" not in f"{caught.value} {caught.value.kwargs}"


def test_a_proxy_of_the_clients_config_is_used() -> None:
    with recording_server(ok) as proxy:
        boto = client("bedrock-runtime", "http://models.test", proxies={"http": proxy.url})
        call(boto, "Converse", **CONVERSE)
    assert len(proxy.requests) == 1


def test_no_more_connections_are_open_than_allowed() -> None:
    def slow(_: Request) -> Answer:
        time.sleep(0.05)
        return ok(_)

    with recording_server(slow) as recording:
        boto = client("bedrock-runtime", recording.url)

        async def many() -> None:
            async with AsyncClient(boto, max_connections=3, timeout=10) as opened:
                await asyncio.gather(*(opened.call("Converse", **CONVERSE) for _ in range(12)))

        asyncio.run(many())
    assert recording.most_in_flight == 3
    assert len(recording.requests) == 12


def test_a_clients_event_handlers_see_the_request_and_the_answer() -> None:
    seen: list[Any] = []
    with recording_server(ok) as recording:
        boto = client("bedrock-runtime", recording.url)
        boto.meta.events.register(
            "before-parameter-build.bedrock-runtime.Converse",
            lambda params, **_: seen.append(params["modelId"]),
        )
        boto.meta.events.register(
            "after-call.bedrock-runtime.Converse",
            lambda parsed, **_: seen.append(parsed["stopReason"]),
        )
        call(boto, "Converse", **CONVERSE)
    assert seen == [ARN, "end_turn"]
