"""Facts about the benchmarks: they count right, and a system that fails says so."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from bench import systems
from bench.installs import InstallError
from bench.processes import ROOT, Server, Usage, run, serving
from bench.server import refusals
from bench.table import OURS, Result, write
from bench.throttling import best_possible_seconds
from bench.throughput import Load, medians, ratios, throughput
from bench.window import Second, by_second, window

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(latency_ms=5) as running:
        yield running


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "STATE", tmp_path)


def post(server: Server, path: str, prompt: str) -> Any:
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    with urlopen(Request(server.url + path, data=body), timeout=10) as answer:
        return json.load(answer)


def client(server: Server, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def converse(bedrock: Any, prompt: str) -> str:
    messages = [{"role": "user", "content": [{"text": prompt}]}]
    answer = bedrock.converse(modelId="us.amazon.nova-pro-v1:0", messages=messages)
    text: str = answer["output"]["message"]["content"][0]["text"]
    return text


def test_the_server_speaks_what_every_system_speaks(server: Server) -> None:
    text = converse(client(server, "bedrock-runtime"), "hello")
    assert len(text.split()) == 60
    assert post(server, CHAT, "hello")["choices"][0]["message"]["content"] == text
    assert post(server, "/v1/completions", "hello")["choices"][0]["text"] == text
    invoked = client(server, "bedrock-runtime").invoke_model(modelId="claude", body="{}")
    assert json.loads(invoked["body"].read())["content"][0]["text"] == text
    runtime = client(server, "sagemaker-runtime")
    raw = runtime.invoke_endpoint(EndpointName="a", Body=json.dumps({"inputs": "hello"}))
    assert json.loads(raw["Body"].read()) == [{"generated_text": text}]
    chat = runtime.invoke_endpoint(EndpointName="a", Body=json.dumps({"messages": []}))
    assert json.loads(chat["Body"].read())["choices"][0]["message"]["content"] == text


def test_the_server_answers_after_its_latency_and_logs_both_moments(server: Server) -> None:
    server.get("/reset")
    before = time.monotonic()
    post(server, CHAT, "prompt 000001")
    ((arrived, left, status),) = server.log()
    assert status == 200
    assert before < arrived < arrived + 0.004 < left < time.monotonic()


def test_a_row_that_is_answered_again_is_counted(server: Server) -> None:
    server.get("/reset")
    for row in (1, 2, 2, 2):
        post(server, CHAT, f"prompt {row:06d}")
    assert {"answered": 4, "rows": 2, "twice": 2}.items() <= server.get("/stats").items()


def test_the_bucket_grants_its_burst_and_then_its_rate() -> None:
    with serving(latency_ms=1, rate=20, burst=5) as server:
        bedrock = client(server, "bedrock-runtime")
        server.get("/reset")
        codes = []
        for row in range(150):
            try:
                converse(bedrock, f"prompt {row:06d}")
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])
            time.sleep(0.003)
        log, stats = server.log(), server.get("/stats")
    granted = stats["answered"]
    elapsed = log[-1][0] - log[0][0]
    assert set(codes) == {"ThrottlingException"}
    assert granted + len(codes) == 150
    assert 5 + 20 * elapsed - 2 <= granted <= 5 + 20 * elapsed + 1


def test_a_row_is_refused_as_often_as_its_dice_say_and_told_when_to_come_back() -> None:
    with serving(latency_ms=1, throttle=0.5, retry_after=2) as server:
        for row in range(20):
            for _ in range(refusals(row, 0.5, 0)):
                with pytest.raises(HTTPError) as refused:
                    post(server, CHAT, f"prompt {row:06d}")
                assert refused.value.code == 429
                assert refused.value.headers["Retry-After"] == "2"
                refused.value.close()
            post(server, CHAT, f"prompt {row:06d}")
        assert server.get("/stats")["rows"] == 20


def waves(count: int, size: int, latency: float, start: float) -> list[tuple[float, float, int]]:
    """The log of a client whose requests come and go together."""
    return [
        (start + wave * latency, start + (wave + 1) * latency + slot * 1e-6, 200)
        for wave in range(count)
        for slot in range(size)
    ]


@pytest.mark.parametrize("count", [30, 37, 60])
def test_the_steady_rate_of_waves_is_exact(count: int) -> None:
    part = window(waves(count, 50, 0.1, start=1000.0), in_flight=50)
    assert part.steady_rate == pytest.approx(500)
    assert part.answered == count * 50


def test_a_slow_start_is_not_part_of_the_steady_state() -> None:
    slow = waves(8, 5, 0.1, start=10.0)
    part = window([*slow, *waves(40, 50, 0.1, start=10.8)], in_flight=50)
    assert part.rate < 450
    assert part.steady_rate == pytest.approx(500)


def test_refusals_are_no_answers() -> None:
    log = waves(30, 50, 0.1, start=0.0)
    refused = [(arrived, arrived, 429) for arrived, _, _ in log]
    assert window([*log, *refused], 50) == window(log, 50)
    with pytest.raises(ValueError, match="no request"):
        window(refused, 50)


def test_seconds_count_from_the_first_request() -> None:
    log = [(7.9, 8.0, 200), (8.8, 8.8, 429), (9.0, 9.1, 200), (10.95, 11.0, 200)]
    assert by_second(log) == [Second(1, 1), Second(1, 0), Second(0, 0), Second(1, 0)]


def test_the_best_possible_time_without_waiting_is_full_waves() -> None:
    assert best_possible_seconds(101, 50, 0.1, retry_after=0.0) == pytest.approx(0.3)
    assert best_possible_seconds(101, 50, 0.1, retry_after=1.0, share=0.0) == pytest.approx(0.3)


def test_the_best_possible_time_waits_out_the_most_refused_row() -> None:
    most = max(refusals(row, 0.2, 0) for row in range(50))
    assert most > 1
    assert best_possible_seconds(50, 50, 0.1, retry_after=1.0) == pytest.approx(most + 0.1)


def test_processor_time_between_two_looks_is_interpolated() -> None:
    usage = Usage(times=[0.0, 1.0, 2.0], cpu=[0.0, 1.0, 1.5])
    assert usage.cpu_between(0.5, 1.5) == pytest.approx(0.75)
    assert usage.cpu_between(-1.0, 9.0) == pytest.approx(1.5)


def test_processor_time_of_children_is_counted(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 1: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    outcome = run(
        [sys.executable, "-c", parent],
        env={},
        cwd=tmp_path,
        output=tmp_path / "output",
        timeout=60,
    )
    assert outcome.code == 0
    assert outcome.cpu_seconds > 1
    assert outcome.usage.cpu[-1] > 0.5


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    outcome = run(command, env={}, cwd=tmp_path, output=tmp_path / "output", timeout=0.5)
    assert outcome.code is None
    assert outcome.seconds < 10


def test_a_system_that_fails_is_a_result_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text("raise SystemExit('no such model')")
    monkeypatch.setattr(systems, "PEERS", tmp_path)
    bad = replace(systems.BARE, script="bad.py", in_flight=(2,))
    (result,) = throughput([bad], 1, Load(rows=5))
    assert (result.metric, result.value) == ("requests_per_second", None)
    assert result.note == "exit code 1: no such model"


def test_a_system_that_cannot_be_installed_is_a_result_that_says_why() -> None:
    def install() -> Path:
        raise InstallError("uv: no solution found")

    bad = replace(systems.LITELLM, install=install)
    results = list(throughput([bad], 2, Load(rows=5)))
    assert {result.note for result in results} == {"not installed: uv: no solution found"}
    assert {result.case for result in results} == {"in_flight=50", "in_flight=100"}


def test_rounds_are_summed_up_by_their_median_with_the_range_of_the_rate() -> None:
    tries = [[Result("a", "c", "requests_per_second", v, "1/s")] for v in (30.0, 10.0, 20.0)]
    found = {result.metric: result.value for result in medians(tries)}
    assert found == {
        "requests_per_second": 20.0,
        "requests_per_second_low": 10.0,
        "requests_per_second_high": 30.0,
    }


def test_ratios_say_how_many_times_as_fast_ours_is() -> None:
    rates = [(OURS, "in_flight=50", 480.0), ("x", "in_flight=50", 240.0), ("n", "in_flight=1", 10)]
    results = [Result(s, c, "requests_per_second", v, "1/s") for s, c, v in rates]
    assert {r.system: r.value for r in ratios(results)} == {"x": 2.0, "n": 48.0}


def test_what_is_missing_is_null_with_a_note(tmp_path: Path) -> None:
    given = [Result("a", "c", "m", 1.0, "s"), Result("b", "c", "m", None, "s", "why")]
    write(tmp_path / "new" / "x.json", {"cores": 2}, given)
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {
        "machine": {"cores": 2},
        "results": [
            {"system": "a", "case": "c", "metric": "m", "value": 1.0, "unit": "s"},
            {
                "system": "b",
                "case": "c",
                "metric": "m",
                "value": None,
                "unit": "s",
                "note": "why",
            },
        ],
    }


def test_a_quick_run_measures_and_all_its_counts_add_up(tmp_path: Path) -> None:
    out = tmp_path / "generation.json"
    command = [sys.executable, "-m", "bench.generation", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    content = json.loads(out.read_text())
    assert set(content) == {"machine", "results"}
    assert content["machine"]["cores"] >= 1
    assert all({"system", "case", "metric", "value", "unit"} <= set(r) for r in content["results"])
    cases: dict[tuple[str, str], dict[str, float]] = {}
    for result in content["results"]:
        assert result["value"] is not None, result
        cases.setdefault((result["system"], result["case"]), {})[result["metric"]] = result["value"]
    assert set(cases) == {
        (system, case)
        for system in (OURS, "aiohttp", "boto3-threads")
        for case in ("in_flight=10", "in_flight=20")
    }
    for (system, case), numbers in cases.items():
        assert numbers["requests"] == numbers["answered"] == numbers["requests_expected"] == 200
        assert numbers["errors"] == 0
        assert numbers["max_in_flight"] <= int(case.partition("=")[2])
        assert 0 < numbers["share_of_ideal"] < 1.1
        assert 0 < numbers["cpu_per_request"] < 100
        assert f"{case}  {system}" in done.stdout
