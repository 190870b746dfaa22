"""HTTP in, HTTP out: which part of the sandbox answers which request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from include.sandbox import iam, price_list, registry, runtimes
from include.sandbox.authorization import Authorized
from include.sandbox.batch import BatchJobs
from include.sandbox.batch_api import BatchOperations
from include.sandbox.errors import AwsError
from include.sandbox.faults import Chance, Orders
from include.sandbox.judge import Judge
from include.sandbox.models import Models, Recordings
from include.sandbox.openai_backend import OpenAIServer
from include.sandbox.openai_judge import OpenAIJudge
from include.sandbox.quotas import SERVICES, Quotas
from include.sandbox.rates import Rates
from include.sandbox.resources import Caller
from include.sandbox.s3_store import ACCOUNT, S3Mirror, moto_app
from include.sandbox.sagemaker import SageMaker
from include.sandbox.seed import BUCKET, make_identities
from include.sandbox.settings import Settings
from include.sandbox.shapes import check
from include.sandbox.training import TrainingJobs
from include.sandbox.watch import Requests, Watched
from include.sandbox.wire import Call, error_response, request_id

MOTO_THREADS = 16
MODEL_THREADS = 128
"""Requests that wait for real models at the same time; more wait for these."""
COMPONENT = "x-amzn-sagemaker-inference-component"


class Sandbox:
    """All services of one sandbox."""

    def __init__(self, settings: Settings, url: str) -> None:
        recordings = Recordings(settings.recordings)
        server = OpenAIServer(settings.openai) if settings.openai else None
        name = settings.openai.judge_model if settings.openai else None
        real_judge = OpenAIJudge(server, name) if server and name else None
        self.judge_image = settings.judge.image
        self.models = Models(recordings, server, settings.models.seed)
        self.threads = ThreadPoolExecutor(MODEL_THREADS) if server else None
        self.jobs = TrainingJobs(settings, Judge(recordings, settings.judge, real_judge), url)
        self.quotas = Quotas(settings.quotas)
        self.sagemaker = SageMaker(settings, self.jobs, self.quotas)
        answers = {
            "Converse": partial(runtimes.converse, self.models),
            "InvokeModel": partial(runtimes.invoke_model, self.models),
        }
        self.batch_jobs = BatchJobs(settings, self.quotas, answers, url)
        check_model = partial(runtimes.check_model, self.models)
        self.batch = BatchOperations(self.batch_jobs, check_model)
        self.rates = Rates(settings.rate)
        self.chance = Chance(settings.faults, self.rates)
        self.orders, self.requests = Orders(), Requests()
        self.mirror = S3Mirror(settings.state / "s3")
        self.moto = WSGIMiddleware(self.mirror.wrap(moto_app()), workers=MOTO_THREADS)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/sandbox/health", self.health),
                Route("/sandbox/faults", self.faults, methods=["GET", "POST", "DELETE"]),
                Route("/sandbox/rate", self.rate, methods=["GET", "DELETE"]),
                Route("/sandbox/requests", self.kept_requests, methods=["GET", "DELETE"]),
                Route("/endpoints/{name}/invocations", self.invoke_endpoint, methods=["POST"]),
                Route("/model/{model:path}/converse", self.converse, methods=["POST"]),
                Route("/model/{model:path}/invoke", self.invoke_model, methods=["POST"]),
                Route("/foundation-models/{model:path}", self.foundation_model),
                Route("/inference-profiles/{model:path}", self.inference_profile),
                Mount("/", app=self.by_service),
            ],
            middleware=[
                Middleware(Watched, self.orders, self.requests),
                Middleware(Authorized),
            ],
            exception_handlers={AwsError: _as_response},
        )

    async def health(self, request: Request) -> Response:
        """Say that the sandbox is up, and for which account."""
        return JSONResponse({"status": "ok", "account_id": ACCOUNT})

    async def faults(self, request: Request) -> Response:
        """Take, tell or drop the faults that somebody asked for."""
        if request.method == "POST":
            return JSONResponse(self.orders.add(_json(await request.body())), status_code=201)
        if request.method == "DELETE":
            self.orders.clear()
        return JSONResponse({"faults": self.orders.all()})

    async def rate(self, request: Request) -> Response:
        """Tell what was granted and throttled; or begin to count anew."""
        if request.method == "DELETE":
            self.rates.reset()
        return JSONResponse({"models": self.rates.report()})

    async def kept_requests(self, request: Request) -> Response:
        """Tell or forget the last requests."""
        if request.method == "DELETE":
            self.requests.clear()
        kept = self.requests.all(request.query_params.get("operation"))
        return JSONResponse({"requests": kept, "counts": self.requests.counts()})

    async def by_service(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what moto only pretends to, and leave every other request to it."""
        request, call = Request(scope, receive, send), _call(scope)
        target = request.headers.get("x-amz-target", "")
        ours = (call.body or {}).get("ServiceCode") in SERVICES
        caller = Caller(call.region, scope.get("failure_reason"))
        try:
            if target.startswith("SageMaker."):
                body = _json(await request.body())
                response = _answer(
                    await run_in_threadpool(self.sagemaker.answer, call.operation, body, caller)
                )
            elif self.batch.concerns(call):
                answer = await run_in_threadpool(self.batch.answer, call, request.url.query, caller)
                response = JSONResponse(answer, headers=request_id())
            elif target.startswith("ServiceQuotas") and ours:
                body = _json(await request.body())
                response = _answer(self.quotas.answer(call.operation, body, call.region))
            elif call.body and registry.concerns(target, call.operation, call.body):
                response = _answer(registry.batch_get_image(call.body, self.judge_image))
            elif target.startswith("AWSPriceListService."):
                body = _json(await request.body())
                response = _answer(price_list.answer(call.operation, body))
            elif call.operation == "SimulatePrincipalPolicy" and call.body:
                xml = iam.simulate(call.body)
                response = Response(xml, media_type="text/xml", headers=request_id())
            else:
                await self.moto(scope, receive, send)
                return
        except AwsError as error:
            response = error_response(call, error)
        await response(scope, receive, send)

    async def invoke_endpoint(self, request: Request) -> Response:
        """SageMaker Runtime: InvokeEndpoint."""
        name, component = request.path_params["name"], request.headers.get(COMPONENT)
        container = self.sagemaker.endpoints.container(name, component)
        body = _body(request)
        async with self.chance.request(name):
            answer = await self.ask(runtimes.invoke_endpoint, container, body)
        headers = {**request_id(), "x-amzn-invoked-production-variant": "AllTraffic"}
        return JSONResponse(answer, headers=headers)

    async def converse(self, request: Request) -> Response:
        """Bedrock Runtime: Converse."""
        check("bedrock-runtime", "Converse", {**_body(request), "modelId": _model(request)})
        return await self.bedrock(request, runtimes.converse)

    async def invoke_model(self, request: Request) -> Response:
        """Bedrock Runtime: InvokeModel."""
        return await self.bedrock(request, runtimes.invoke_model)

    async def bedrock(self, request: Request, answer_with: Callable[..., Any]) -> Response:
        """Let a model of Bedrock answer, and settle what that took of its tokens."""
        model, body = _model(request), _body(request)
        async with self.chance.request(model, self.rates.reservation(body)) as spent:
            answer = await self.ask(answer_with, model, body)
            spent.tokens = self.rates.usage(answer)
        return JSONResponse(answer, headers=request_id())

    async def ask(self, answer: Callable[..., Any], about: Any, body: dict[str, Any]) -> Any:
        """Let a model answer; a real one may take minutes, and does it beside the event loop."""
        if self.threads is None:
            return answer(self.models, about, body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, answer, self.models, about, body)

    async def foundation_model(self, request: Request) -> Response:
        """Bedrock: GetFoundationModel."""
        region = _call(request.scope).region
        answer = runtimes.foundation_model(self.models, _model(request), region)
        return JSONResponse(answer, headers=request_id())

    async def inference_profile(self, request: Request) -> Response:
        """Bedrock: GetInferenceProfile."""
        region = _call(request.scope).region
        answer = runtimes.inference_profile(self.models, _model(request), region)
        return JSONResponse(answer, headers=request_id())

    def seed(self) -> None:
        """Restore S3, make the bucket and role that every environment needs, resume jobs."""
        self.mirror.restore(BUCKET)
        make_identities()
        self.jobs.resume()
        self.batch_jobs.resume()


def _call(scope: Scope) -> Call:
    call: Call = scope["call"]
    return call


def _model(request: Request) -> str:
    """Return the model id; clients may send its ARN."""
    return unquote(request.path_params["model"]).rsplit("/", 1)[-1]


def _body(request: Request) -> dict[str, Any]:
    """Return the JSON that was read when the call was identified."""
    body = _call(request.scope).body
    if body is None:
        raise AwsError("SerializationException", "the request is not a JSON object")
    return body


def _json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        raise AwsError("SerializationException", "the request is not JSON") from None
    if not isinstance(parsed, dict):
        raise AwsError("SerializationException", "the request is not a JSON object")
    return parsed


def _answer(answer: dict[str, Any]) -> Response:
    return JSONResponse(answer, media_type="application/x-amz-json-1.1", headers=request_id())


async def _as_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, AwsError)
    return error_response(request.scope.get("call"), error)


def build(settings: Settings, url: str) -> Starlette:
    """Build the application and start what a killed sandbox left running."""
    sandbox = Sandbox(settings, url)
    sandbox.seed()
    return sandbox.app()
