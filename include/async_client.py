"""A boto3 client in, the same operations awaited out: botocore's requests over aiohttp.

botocore serialises, signs and parses; aiohttp carries. That takes a third of the processor time of
a thread per request, which is what bounds how many requests one task can have in flight
(docs/decisions/0011-asking-models.md).
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp
    from botocore.client import BaseClient
    from botocore.model import OperationModel

CONNECT_SECONDS = 10


class AsyncClient:
    """Sends operations of one AWS service, many at once; an async context manager.

    Args:
        client: A boto3 client: its endpoint, region, credentials and service model are used.
        max_connections: Connections kept open.
        timeout: Seconds that one request may take.
    """

    def __init__(self, client: BaseClient, *, max_connections: int, timeout: float) -> None:
        from botocore import parsers, serialize

        service = client.meta.service_model
        protocol = service.resolved_protocol
        self._operations: dict[str, OperationModel] = {}
        self._service = service
        self._url = client.meta.endpoint_url
        # The signer refreshes credentials; a client offers it under this name only.
        self._signer = client._request_signer
        self._region = client.meta.region_name
        self._signature = client.meta.config.signature_version
        self._serializer = serialize.create_serializer(protocol, include_validation=False)
        self._parser = parsers.ResponseParserFactory().create_parser(protocol)
        self._max_connections = max_connections
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncClient:
        """Open the connections' pool."""
        import aiohttp

        connector = aiohttp.TCPConnector(limit=self._max_connections, ssl=_tls(self._url))
        timeout = aiohttp.ClientTimeout(total=self._timeout, connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, proxy=_proxy(self._url)
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
        """Send one operation, once.

        Args:
            operation: AWS's name, e.g. `Converse`.
            params: As boto3 takes them.

        Returns:
            As boto3 returns it; a payload is bytes.

        Raises:
            ClientError: AWS answered with an error.
            EndpointConnectionError: No connection, or it was cut.
            ReadTimeoutError: No answer in time.
        """
        import aiohttp
        import yarl
        from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

        assert self._session is not None
        model = self._operation(operation)
        request = self._signed(model, params)
        try:
            url = yarl.URL(request.url, encoded=True)  # as it was signed
            headers = dict(request.headers.items())
            async with self._session.request(
                request.method, url, data=request.body, headers=headers
            ) as answer:
                body = await answer.read()
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from None
        except (aiohttp.ClientError, OSError) as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from None
        said = {"headers": answer.headers, "status_code": answer.status, "body": body}
        parsed: dict[str, Any] = self._parser.parse(said, model.output_shape)
        if answer.status >= 300:
            raise ClientError(parsed, operation)
        return parsed

    def _operation(self, name: str) -> OperationModel:
        if name not in self._operations:
            self._operations[name] = self._service.operation_model(name)
        return self._operations[name]

    def _signed(self, model: OperationModel, params: dict[str, Any]) -> Any:
        from botocore.awsrequest import create_request_object, prepare_request_dict

        serialized = self._serializer.serialize_to_request(params, model)
        prepare_request_dict(serialized, endpoint_url=self._url, user_agent="nova-judge")
        request = create_request_object(serialized)
        # As the signer's own `sign`, without asking hooks that nobody has set.
        self._signer.get_auth_instance(
            self._service.signing_name, self._region, self._signature
        ).add_auth(request)
        return request


def _proxy(url: str) -> str | None:
    """Return the proxy that boto3 would use."""
    from botocore.utils import get_environ_proxies

    found: str | None = get_environ_proxies(url).get(url.partition(":")[0])
    return found


def _tls(url: str) -> Any:
    """Return the certificates that boto3 would trust."""
    import ssl

    from botocore.httpsession import get_cert_path

    if not url.startswith("https:"):
        return True
    return ssl.create_default_context(
        cafile=os.environ.get("AWS_CA_BUNDLE")
        or os.environ.get("REQUESTS_CA_BUNDLE")
        or get_cert_path(True)
    )
