"""A boto3 client in, the same operations awaited out: botocore's requests over aiohttp.

botocore serialises, signs and parses; aiohttp carries. That takes a third of the processor time of
a thread per request, which is what bounds how many requests one task can have in flight
(docs/decisions/0011-asking-models.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp
    from botocore.client import BaseClient
    from botocore.model import OperationModel

CONNECT_SECONDS = 10

LONGEST_QUOTE = 300
UNREADABLE = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""What botocore's parsers end in where a body is not what AWS sends."""


@dataclass
class _Request:
    """What botocore's signers look at, and add headers to.

    A third of the processor time of botocore's own AWSRequest, which is made for many more uses.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    params: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    auth_path: None = None


class AsyncClient:
    """Sends operations of one AWS service, many at once; an async context manager.

    Args:
        client: A boto3 client: its endpoint, region, credentials, proxies, certificates and service
            model are used.
        max_connections: Connections kept open.
        timeout: Seconds that one request may take.
    """

    def __init__(self, client: BaseClient, *, max_connections: int, timeout: float) -> None:
        from botocore import parsers, serialize

        service = client.meta.service_model
        protocol = service.resolved_protocol
        self._operations: dict[str, OperationModel] = {}
        self._signatures: dict[str, Any] = {}
        self._service = service
        self._config = client.meta.config
        self._region = client.meta.region_name
        self._url = client.meta.endpoint_url
        self._host = urlsplit(self._url).netloc.rpartition("@")[2]
        # Some of what boto3 knows of the way to AWS it tells under these names only.
        self._events = client.meta.events
        self._signer = client._request_signer
        self._way = client._endpoint.http_session
        self._serializer = serialize.create_serializer(protocol, include_validation=False)
        self._parser = parsers.ResponseParserFactory().create_parser(protocol)
        self._max_connections = max_connections
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncClient:
        """Open the connections' pool."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=self._tls()),
            timeout=aiohttp.ClientTimeout(total=self._timeout, connect=CONNECT_SECONDS),
            proxy=self._way._proxy_config.proxy_url_for(self._url),
            headers={"Accept-Encoding": "identity"},
            skip_auto_headers=("Accept",),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def call(self, operation: str, **params: Any) -> dict[str, Any]:
        """Send one operation, once; the boto3 client's event handlers see it go out and come back.

        Args:
            operation: AWS's name, e.g. `Converse`.
            params: As boto3 takes them.

        Returns:
            As boto3 returns it; a payload is bytes. What is not AWS's answer lacks all members.

        Raises:
            ClientError: AWS answered with an error.
            SSLError: The server's certificate is not trusted.
            EndpointConnectionError: No connection, or it was cut.
            ReadTimeoutError: No answer in time.
            BotoCoreError: Any other: no credentials, ...
        """
        import aiohttp
        from botocore.exceptions import (
            ClientError,
            EndpointConnectionError,
            ReadTimeoutError,
            SSLError,
        )
        from yarl import URL

        assert self._session is not None
        model = self._operation(operation)
        context: dict[str, Any] = {}
        self._emit("before-parameter-build", model, params=params, context=context)
        request = self._signed(model, params)
        url = URL(request.url, encoded=True)  # as it was signed: %3A stays %3A
        try:
            async with self._session.request(
                request.method,
                url,
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
        except aiohttp.ClientHttpProxyError as error:  # in words, it holds the proxy's password
            said = f"the proxy answered {error.status} {error.message}"
            raise EndpointConnectionError(endpoint_url=self._url, error=said) from None
        except aiohttp.ClientSSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from None
        except aiohttp.ConnectionTimeoutError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from None
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from None
        except (aiohttp.ClientError, OSError) as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from None
        told = {"headers": answer.headers, "status_code": answer.status, "body": body}
        parsed = self._parsed(model, told)
        self._emit("after-call", model, http_response=answer, parsed=parsed, context=context)
        if answer.status >= 300:
            raise ClientError(parsed, operation)
        return parsed

    def _emit(self, event: str, model: OperationModel, **said: Any) -> None:
        service = self._service.service_id.hyphenize()
        self._events.emit(f"{event}.{service}.{model.name}", model=model, **said)

    def _operation(self, name: str) -> OperationModel:
        if name not in self._operations:
            self._operations[name] = self._service.operation_model(name)
        return self._operations[name]

    def _signed(self, model: OperationModel, params: dict[str, Any]) -> _Request:
        from botocore import UNSIGNED
        from botocore.awsrequest import prepare_request_dict

        serialized = self._serializer.serialize_to_request(params, model)
        prepare_request_dict(serialized, endpoint_url=self._url, user_agent="nova-judge")
        body = serialized["body"]
        request = _Request(
            serialized["method"],
            serialized["url"],
            {**serialized["headers"], "Host": self._host},
            body if isinstance(body, bytes) else body.encode(),
        )
        signature = self._signature(model)
        if signature is not UNSIGNED:
            self._signer.get_auth_instance(
                self._service.signing_name, self._region, signature
            ).add_auth(request)
        return request

    def _signature(self, model: OperationModel) -> Any:
        """Return how boto3 would sign, e.g. with a Bedrock API key; asked once, for it is slow."""
        if model.name not in self._signatures:
            context = {
                "client_config": self._config,
                "auth_type": model.resolved_auth_type,
                "auth_options": self._service.metadata.get("auth"),
            }
            self._signatures[model.name] = self._signer._choose_signer(
                model.name, "standard", context
            )
        return self._signatures[model.name]

    def _parsed(self, model: OperationModel, answer: dict[str, Any]) -> dict[str, Any]:
        if answer["status_code"] >= 300:
            parsed = self._parse(answer, model.output_shape)
            shape = self._service.shape_for_error_code(parsed.get("Error", {}).get("Code"))
            if shape is not None:  # what this kind of error says beside code and message
                parsed.update(self._parse(answer, shape))
            return parsed
        if not model.has_streaming_output:
            return self._parse(answer, model.output_shape)
        # The parser would decode a payload, which may be any bytes.
        parsed = self._parse({**answer, "body": b""}, model.output_shape)
        return {**parsed, model.output_shape.serialization["payload"]: answer["body"]}

    def _parse(self, answer: dict[str, Any], shape: Any) -> dict[str, Any]:
        """Parse; a body that is not AWS's, but a proxy's, becomes an error that quotes it."""
        try:
            parsed: dict[str, Any] = self._parser.parse(answer, shape)
        except UNREADABLE:
            headers = {name.lower(): value for name, value in answer["headers"].items()}
            status, quote = answer["status_code"], answer["body"][:LONGEST_QUOTE]
            return {
                "Error": {"Code": str(status), "Message": quote.decode("utf-8", "replace")},
                "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
            }
        return parsed

    def _tls(self) -> Any:
        """Return the certificates that boto3 would trust and show."""
        import ssl

        from botocore.httpsession import get_cert_path

        verify = self._way._verify
        if not self._url.startswith("https:"):
            return True
        context = ssl.create_default_context(cafile=get_cert_path(verify) if verify else None)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self._way._cert_file:
            context.load_cert_chain(self._way._cert_file, self._way._key_file)
        return context
