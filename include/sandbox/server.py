"""HTTP in, HTTP out: which service is meant, what goes wrong on purpose, and AWS's error shapes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from urllib.parse import unquote
from uuid import uuid4

from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from include.sandbox import runtimes
from include.sandbox.dice import Counted, TokenBuckets
from include.sandbox.errors import AwsError
from include.sandbox.judge import Judge
from include.sandbox.models import Recordings
from include.sandbox.s3_store import ACCOUNT, S3Mirror, moto_app
from include.sandbox.sagemaker import SageMaker, parse
from include.sandbox.settings import Settings
from include.sandbox.training import TrainingJobs

log = logging.getLogger(__name__)

BUCKET = "nova-judge-sandbox"
ROLE = "nova-judge-execution"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
LONGEST_TIMEOUT = 120
MOTO_THREADS = 16


class Sandbox:
    """All services of one sandbox."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings
        self.recordings = Recordings(settings.recordings)
        self.jobs = TrainingJobs(settings, Judge(self.recordings, settings.judge), url)
        self.sagemaker = SageMaker(settings, self.jobs)
        self.buckets = TokenBuckets(settings.rate)
        self.dice = Counted()
        self.mirror = S3Mirror(settings.state / "s3")
        self.moto = WSGIMiddleware(self.mirror.wrap(moto_app()), workers=MOTO_THREADS)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/sandbox/health", self.health),
                Route("/endpoints/{name}/invocations", self.invoke_endpoint, methods=["POST"]),
                Route("/model/{model:path}/converse", self.converse, methods=["POST"]),
                Route("/model/{model:path}/invoke", self.invoke_model, methods=["POST"]),
                Route("/foundation-models/{model:path}", self.foundation_model),
                Mount("/", app=self.by_service),
            ],
            exception_handlers={AwsError: _as_response},
        )

    async def health(self, request: Request) -> Response:
        """Say that the sandbox is up, and for which account."""
        return JSONResponse({"status": "ok", "account_id": ACCOUNT})

    async def by_service(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer SageMaker here, and leave every other service to moto."""
        request = Request(scope, receive, send)
        target = request.headers.get("x-amz-target", "")
        if target.startswith("SageMaker."):
            response = await self._sagemaker(request, target.partition(".")[2])
            await response(scope, receive, send)
            return
        await self.moto(scope, receive, send)

    async def _sagemaker(self, request: Request, operation: str) -> Response:
        body = await request.body()
        try:
            answer = await run_in_threadpool(
                self.sagemaker.answer, operation, parse(body), _region(request)
            )
        except AwsError as error:
            return await _as_response(request, error)
        return JSONResponse(answer, media_type="application/x-amz-json-1.1", headers=_request_id())

    async def invoke_endpoint(self, request: Request) -> Response:
        """SageMaker Runtime: InvokeEndpoint."""
        name = request.path_params["name"]
        container = self.sagemaker.container(name)
        if container is None:
            raise runtimes.not_in_service(name)
        await self._go_wrong(name)
        body = parse(await request.body())
        answer = runtimes.invoke_endpoint(self.recordings, container, body)
        headers = {**_request_id(), "x-amzn-invoked-production-variant": "AllTraffic"}
        return JSONResponse(answer, headers=headers)

    async def converse(self, request: Request) -> Response:
        """Bedrock Runtime: Converse."""
        model = _model(request)
        await self._go_wrong(model)
        body = parse(await request.body())
        return JSONResponse(runtimes.converse(self.recordings, model, body), headers=_request_id())

    async def invoke_model(self, request: Request) -> Response:
        """Bedrock Runtime: InvokeModel."""
        model = _model(request)
        await self._go_wrong(model)
        body = parse(await request.body())
        answer = runtimes.invoke_model(self.recordings, model, body)
        return JSONResponse(answer, headers=_request_id())

    async def foundation_model(self, request: Request) -> Response:
        """Bedrock: GetFoundationModel."""
        answer = runtimes.foundation_model(self.recordings, _model(request), _region(request))
        return JSONResponse(answer, headers=_request_id())

    async def _go_wrong(self, model: str) -> None:
        """Be slow, throttle, fail or never answer, as SANDBOX_FAULTS and SANDBOX_RATE say."""
        faults = self.settings.faults
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        throttled = AwsError("ThrottlingException", "Too many requests, please wait.", 429)
        if not self.buckets.take(model):
            raise throttled
        roll = self.dice.chance("request", model, faults.seed)
        if roll < faults.throttle:
            raise throttled
        if roll < faults.throttle + faults.error:
            raise AwsError("ServiceUnavailableException", "Service unavailable", 503)
        if roll < faults.throttle + faults.error + faults.timeout:
            await asyncio.sleep(LONGEST_TIMEOUT)

    def seed(self) -> None:
        """Restore S3, make the bucket and the role that every environment needs, resume jobs."""
        from moto.iam.models import iam_backends

        self.mirror.restore(BUCKET)
        iam = iam_backends[ACCOUNT]["aws"]
        iam.create_role(ROLE, json.dumps(TRUST), "/", None, "The sandbox's role", [], "3600")
        self.jobs.resume()


def _region(request: Request) -> str:
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", request.headers.get("authorization", ""))
    return scope[1] if scope else "us-east-1"


def _model(request: Request) -> str:
    """Return the model id; clients may send its ARN."""
    return unquote(request.path_params["model"]).rsplit("/", 1)[-1]


def _request_id() -> dict[str, str]:
    return {"x-amzn-requestid": str(uuid4())}


async def _as_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, AwsError)
    key = "message" if "x-amz-target" in request.headers else "Message"
    return JSONResponse(
        {"__type": error.code, key: error.message, "message": error.message},
        status_code=error.status,
        headers={**_request_id(), "x-amzn-errortype": error.code},
    )


def build(settings: Settings, url: str) -> Starlette:
    """Build the application and start what a killed sandbox left running."""
    sandbox = Sandbox(settings, url)
    sandbox.seed()
    return sandbox.app()
