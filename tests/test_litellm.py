"""Facts about real models in the sandbox, with LiteLLM's proxy as the server that has them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from sandbox_server import Sandbox, free_port, running_sandbox
from sandbox_work import archive, create_endpoint, end_of, put_input, rows, start_job, wait

pytestmark = pytest.mark.slow

LITELLM = ("litellm[proxy]==1.108.7", "fastapi==0.165.0", "uvicorn==0.54.0")
KEY = "sk-of-the-proxy"
CLAUDE = "us.anthropic.claude-sonnet-4-6"

HANDLERS = '''
"""Two models: one repeats what it was asked, one judges by length."""
import json, re
import litellm

def reply(text):
    messages = [{"role": "user", "content": "-"}]
    return litellm.acompletion(model="openai/any", messages=messages, mock_response=text)

class Parrot(litellm.CustomLLM):
    async def acompletion(self, model, messages, *, optional_params, **more):
        kept = {k: optional_params.get(k) for k in ("max_tokens", "temperature", "stop")}
        return await reply(json.dumps([messages, kept]))

class Judge(litellm.CustomLLM):
    async def acompletion(self, model, messages, **more):
        parts = re.split(r"^----- .* -----$", messages[-1]["content"], flags=re.M)
        return await reply("[[A>B]]" if len(parts[2]) > len(parts[3]) else "[[B>A]]")

parrot, judge = Parrot(), Judge()
'''


def served(name: str, model: str, mock: str | None = None) -> dict[str, Any]:
    said = {"mock_response": mock} if mock else {}
    return {"model_name": name, "litellm_params": {"model": model, "api_key": "none", **said}}


CONFIG = {
    "model_list": [
        served("small", "openai/small", "The small one says hello."),
        served("busy", "openai/busy", "litellm.RateLimitError"),
        served("parrot", "parrot/parrot"),
        served("judge", "judge/judge"),
    ],
    "router_settings": {"num_retries": 0},
    "litellm_settings": {
        "custom_provider_map": [
            {"provider": name, "custom_handler": f"handlers.{name}"} for name in ("parrot", "judge")
        ]
    },
    "general_settings": {"master_key": KEY},
}


@contextmanager
def proxy(folder: Path) -> Iterator[str]:
    """Install LiteLLM's proxy, run it and return its address."""
    venv, uv = folder / "venv", str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), *LITELLM]
    subprocess.run(install, check=True)
    (folder / "config.yaml").write_text(json.dumps(CONFIG))  # JSON is YAML
    (folder / "handlers.py").write_text(HANDLERS)
    port, log = free_port(), folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(str(venv / "bin/litellm"), "--config", "config.yaml", "--telemetry", "False"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=folder,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/health/liveliness"):
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < end, log.read_text()[-4000:]
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("litellm")
    with (
        proxy(folder) as url,
        running_sandbox(
            folder / "state",
            sandbox_openai_base_url=url,
            sandbox_openai_api_key=KEY,
            sandbox_openai_model=f"{CLAUDE}=parrot,busy=busy,absent=absent,small",
            sandbox_openai_judge_model="judge",
            sandbox_delays="endpoint=0.1,delete=0.1,job=0.1",
        ) as sandbox,
    ):
        yield sandbox


def converse(sandbox: Sandbox, model: str, *turns: str, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": [{"text": text}]}
        for number, text in enumerate(turns)
    ]
    bedrock = sandbox.client("bedrock-runtime")
    answer: dict[str, Any] = bedrock.converse(modelId=model, messages=messages, **more)
    return answer


def test_a_conversation_reaches_the_model_as_it_was_written(real: Sandbox) -> None:
    inference = {"maxTokens": 50, "temperature": 0.5, "stopSequences": ["END"]}
    answer = converse(
        real,
        CLAUDE,
        *("My name is Ada.", "Hello Ada.", "What is my name?"),
        system=[{"text": "Be brief."}],
        inferenceConfig=inference,
    )
    messages, kept = json.loads(answer["output"]["message"]["content"][0]["text"])
    assert [(message["role"], message["content"]) for message in messages] == [
        ("system", "Be brief."),
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada."),
        ("user", "What is my name?"),
    ]
    assert kept == {"max_tokens": 50, "temperature": 0.5, "stop": ["END"]}
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"]["outputTokens"] > 0


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"inputs": "Hi", "parameters": {"return_full_text": False}},
    ],
)
def test_an_endpoint_answers(real: Sandbox, body: dict[str, Any]) -> None:
    name = f"endpoint-{next(iter(body))}"
    create_endpoint(real, name)
    wait(real, name, "InService")
    runtime = real.client("sagemaker-runtime")
    said = runtime.invoke_endpoint(
        EndpointName=name, ContentType="application/json", Body=json.dumps(body)
    )
    answer = json.loads(said["Body"].read())
    if "messages" in body:
        assert answer["choices"][0]["message"]["content"] == "The small one says hello."
    else:
        assert answer == [{"generated_text": "The small one says hello."}]


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [("busy", "ThrottlingException", "rate limit"), ("absent", "ValidationException", "absent")],
)
def test_its_errors_become_those_of_bedrock(
    real: Sandbox, model: str, code: str, message: str
) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        converse(real, model, "Hi")
    assert caught.value.response["Error"]["Code"] == code


def test_it_judges_a_job(real: Sandbox) -> None:
    pairs = [(f"Question {n}?", "No.", "An answer with all of it.") for n in range(20)]
    put_input(real, "judged", rows(*pairs, ("Last?", "Here it is the other way.", "No.")))
    start_job(real, "judged", "judged")
    ended = end_of(real, "judged")
    assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")
    files = archive(real, "judged", "judged")
    (results,) = [body for path, body in files.items() if path.endswith(".json")]
    metrics = json.loads(results)["results"]["all"]
    assert (metrics["a_scores"], metrics["b_scores"]) == (2, 40)
    assert metrics["inference_error"] == 0
