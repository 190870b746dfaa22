"""Facts about what a person sees in the Airflow UI and in the report, in a real browser.

Airflow is real, too: it serves from two processes, and lies below a path, as behind a proxy.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from local_copy import Copy, Outcome
from sandbox_server import ALPACA_EVAL

pytest.importorskip("fastapi")

from web_routes import addresses, has_texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
]

DAG = "nova_llm_judge"
FIRST_PAGE = "No run has come to a verdict yet"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """Airflow and the sandbox, without a run."""
    copy = Copy(tmp_path_factory.mktemp("browsed"))
    copy.environ |= {
        "AIRFLOW__API__BASE_URL": home(copy),
        "AIRFLOW__API__WORKERS": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,guest:viewer",
    }
    try:
        said, _ = copy.command("scripts.local", "up").communicate(timeout=400)
        assert "Log in" in said, said
        yield copy
    finally:
        copy.down()


def home(copy: Copy) -> str:
    return f"http://localhost:{copy.airflow_port}/team"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Any, copy: Copy) -> Any:
    """A page whose user has logged in."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(30_000)
    page.goto(f"{home(copy)}/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", copy.password("admin"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/team/")
    return page


def test_an_empty_installation_says_how_to_begin(page: Any, copy: Copy) -> None:
    shown = frame(page, f"{home(copy)}/plugin/evaluations", "")
    shown.get_by_text(FIRST_PAGE).wait_for()
    shown.get_by_text("make new-evaluation NAME=").wait_for()
    shown.get_by_role("heading", name="Without a verdict so far").wait_for()


@pytest.fixture(scope="module")
def example(copy: Copy, page: Any) -> Outcome:
    """The example evaluation, at its end."""
    return ended(copy, None)


@pytest.fixture(scope="module")
def alpaca(copy: Copy, page: Any) -> Outcome:
    """805 pairs with the preferences that AlpacaEval has published."""
    if not ALPACA_EVAL.exists():
        pytest.skip("AlpacaEval's data is not beside the project")
    baseline, candidate = (
        {"name": name, "provider": "bedrock", "model_id": name}
        for name in ("gpt4_1106_preview", "claude-2.1")
    )
    config = {
        "evaluation": "alpaca-eval",
        "dataset": {"source": str(ALPACA_EVAL), "id_field": "id"},
        "baseline": baseline,
        "candidates": [candidate],
    }
    return ended(copy, config, sandbox_recordings=str(ALPACA_EVAL))


HOSTILE = {
    "script": "<script>document.title='taken'</script><img src=x onerror=document.title=1>",
    "frame": "</p></main></body></iframe><iframe src='javascript:alert(1)'></iframe>",
    "long": "w" * 5_000,
    "rtl": "\u202e\u0645\u0631\u062d\u0628\u0627 " * 40,
    "large": "many words " * 95_000,
}


@pytest.fixture(scope="module")
def hostile(copy: Copy, page: Any) -> Outcome:
    """Responses that try to break a page."""
    prompts = [{"id": name, "prompt": f"{name}: {text[:3000]}"} for name, text in HOSTILE.items()]
    models = []
    for model in ("tame", "wild"):
        answers = [{"id": key, "response": f"{model} {text}"} for key, text in HOSTILE.items()]
        source = written(copy.folder / f"{model}.jsonl", answers)
        models.append({"name": model, "provider": "responses", "source": source})
    source = written(copy.folder / "hostile.jsonl", prompts)
    config = {
        "evaluation": "hostile",
        "dataset": {"source": source, "id_field": "id"},
        "baseline": models[0],
        "candidates": [models[1]],
        "generation": {"max_error_rate": 1},
    }
    return ended(copy, config)


def written(file: Path, rows: list[dict[str, str]]) -> str:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(file)


def ended(copy: Copy, config: dict[str, Any] | None, **settings: str) -> Outcome:
    outcome = copy.run(config, **settings)
    assert outcome.code == 0, outcome.output
    return outcome


def address(outcome: Outcome) -> str:
    return f"runs/{DAG}/{quote(outcome.summary['run_id'], safe=':')}"


def frame(page: Any, address: str, of: str) -> Any:
    """Go to a page of Airflow and return the frame in it that shows one of ours."""
    page.goto(address)
    page.wait_for_selector("iframe")
    found = page.query_selector("iframe").content_frame()
    found.wait_for_url(f"**/team/nova-judge/{of}**")
    return found


def of_run(page: Any, copy: Copy, outcome: Outcome) -> Any:
    run = f"{home(copy)}/dags/{DAG}/runs/{outcome.summary['run_id']}/plugin/nova-judge"
    return frame(page, run, "runs")


def test_the_run_shows_every_task_and_its_model(page: Any, copy: Copy, example: Outcome) -> None:
    page.goto(f"{home(copy)}/dags/{DAG}/runs/{example.summary['run_id']}")
    page.get_by_text("18 Task Instances").wait_for()
    text = page.inner_text("body")
    for word in ("resolve", "deploy", "generate", "delete", "compare.judge", "gate", "claude"):
        assert word in text, word
    assert "Failed" not in text


def test_the_form_has_sections_and_choices(page: Any, copy: Copy) -> None:
    page.goto(f"{home(copy)}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    for section in ("Run Parameters", "How it is judged", "How it runs"):
        page.get_by_role("button", name=section).wait_for()
    assert page.locator("input[value=qwen-vs-claude]").count() == 1
    offered = page.locator("datalist#list_baseline option")
    assert "qwen2.5-1.5b" in [each.get_attribute("value") for each in offered.all()]
    page.get_by_text("include/samples/prompts.jsonl").first.wait_for()  # its editor loads lazily


def test_the_report_task_leads_to_the_report(copy: Copy, example: Outcome) -> None:
    run = f"/dags/{DAG}/dagRuns/{quote(example.summary['run_id'])}"
    found = copy.airflow(f"{run}/taskInstances/report/links")["extra_links"]
    assert found["Report"].startswith(f"{home(copy)}/dags/{DAG}/runs/")
    assert found["Report"].endswith("/plugin/nova-judge")
    assert "prefix=nova-judge/qwen-vs-claude/" in found["Run folder"]


def test_the_verdict_and_the_pairs_are_shown_where_the_run_is(
    page: Any, copy: Copy, example: Outcome
) -> None:
    shown = of_run(page, copy, example)
    (comparison,) = example.summary["comparisons"]
    counts = comparison["counts"]
    shown.get_by_text(comparison["sentence"]).wait_for()
    assert f"{counts['candidate_wins']} won, {counts['baseline_wins']} lost" in shown.content()
    shown.get_by_text("Pairs that it lost").click()
    shown.get_by_text(f"{counts['baseline_wins']} of {counts['prompts']} pairs").wait_for()
    shown.locator("tbody a").first.click()
    shown.wait_for_url("**/pairs/claude/**")
    shown.locator("body").press("j")
    shown.get_by_text("Before (k)").wait_for()


def test_805_pairs_are_counted_and_paged_as_the_summary_says(
    page: Any, copy: Copy, alpaca: Outcome
) -> None:
    shown = of_run(page, copy, alpaca)
    counts = alpaca.comparison["counts"]
    assert (counts["candidate_wins"], counts["baseline_wins"], counts["ties"]) == (115, 688, 2)
    shown.get_by_text("115 won, 688 lost, 2 ties of 805 pairs").wait_for()
    shown.get_by_text("all pairs").click()
    shown.get_by_text("805 of 805 pairs, page 1 of 17").wait_for()
    for kind, number in (("won", 115), ("lost", 688)):
        shown.locator("select[name=kind]").select_option(kind)
        shown.get_by_role("button", name="Show").click()
        shown.get_by_text(f"{number} of 805 pairs").wait_for()
    assert shown.locator("tbody tr").count() == 50


@pytest.mark.parametrize("place", range(len(HOSTILE)))
@pytest.mark.parametrize("width", [1400, 360])
def test_hostile_texts_stay_texts_and_inside_the_page(
    page: Any, copy: Copy, hostile: Outcome, place: int, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    try:
        page.goto(f"{home(copy)}/nova-judge/{address(hostile)}/pairs/wild/{place}")
        text = list(HOSTILE.values())[place]
        said = page.locator(".two .said").last
        assert said.text_content() == f"wild {text}"
        assert page.title() == list(HOSTILE)[place] and page.locator("iframe, img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(f"{home(copy)}/nova-judge/{address(hostile)}/pairs/wild")
        page.get_by_text(f"{len(HOSTILE)} of {len(HOSTILE)} pairs").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        page.set_viewport_size({"width": 1400, "height": 1000})


@pytest.fixture(scope="module")
def stopped(page: Any, copy: Copy) -> dict[str, str]:
    """A run that is stopped while it asks its models, with what was seen before and after."""
    slow = {"operation": "Converse", "resource": "*", "latency_ms": 2000, "times": None}
    faults = f"http://127.0.0.1:{copy.sandbox_port}/sandbox/faults"
    assert requests.post(faults, json=slow, timeout=10).ok
    baseline, candidate = (
        {"name": name, "provider": "bedrock", "model_id": model, "limits": {"max_concurrency": 1}}
        for name, model in (
            ("micro", "us.amazon.nova-micro-v1:0"),
            ("lite", "us.amazon.nova-lite-v1:0"),
        )
    )
    dataset = {"source": "include/samples/prompts.jsonl", "id_field": "id"}
    conf = {"evaluation": "slow", "dataset": dataset, "baseline": baseline}
    conf |= {"candidates": [candidate]}
    path = f"/dags/{DAG}/dagRuns"
    run_id = copy.airflow(path, "POST", logical_date=None, conf=conf)["dag_run_id"]
    seen = {"run_id": run_id}
    try:
        shown = frame(page, f"{home(copy)}/dags/{DAG}/runs/{run_id}/plugin/nova-judge", "runs")
        shown.get_by_text("of 60 answered").first.wait_for(timeout=120_000)
        seen["running"] = shown.locator("main").inner_text()
    finally:
        requests.delete(faults, timeout=10)
        copy.airflow(f"{path}/{quote(run_id)}", "PATCH", state="failed")
    end = time.monotonic() + 60
    while copy.airflow(f"{path}/{quote(run_id)}")["state"] != "failed":
        assert time.monotonic() < end
        time.sleep(1)
    page.reload()
    shown = frame(page, f"{home(copy)}/dags/{DAG}/runs/{run_id}/plugin/nova-judge", "runs")
    seen["failed"] = shown.locator("main").inner_text()
    return seen


def test_a_run_that_goes_on_shows_its_stages_and_its_rows(stopped: dict[str, str]) -> None:
    for word in ("running", "micro, prompts 0 to 60", "in flight", "load_prompts", "success"):
        assert word in stopped["running"], word


def test_a_run_that_failed_says_so(stopped: dict[str, str]) -> None:
    assert "failed" in stopped["failed"]
    assert "This page looks again" not in stopped["failed"]


def test_the_list_of_evaluations_is_in_the_menu(page: Any, copy: Copy, example: Outcome) -> None:
    shown = frame(page, f"{home(copy)}/plugin/evaluations", "")
    rate = example.comparison["win_rate"]
    row = shown.locator("tr", has_text="qwen-vs-claude")
    assert f"{100 * rate['estimate']:.0f} % ({100 * rate['low']:.0f} % to" in row.inner_text()
    shown.get_by_role("link", name="qwen-vs-claude").click()
    shown.get_by_role("heading", name="qwen-vs-claude").wait_for()


def test_the_report_is_shown_in_the_run(page: Any, copy: Copy, example: Outcome) -> None:
    report = of_run(page, copy, example).frame_locator("iframe.report")
    report.get_by_text("simulated AWS").first.wait_for()


def test_without_rights_every_route_refuses(copy: Copy, example: Outcome) -> None:
    login = {"username": "guest", "password": copy.password("guest")}
    token = requests.post(f"{home(copy)}/auth/token", json=login, timeout=30).json()["access_token"]
    guest = {"Authorization": f"Bearer {token}"}
    found = addresses(quote(example.summary["run_id"]), "qwen-vs-claude")
    assert len([each for each in found if has_texts(each)]) >= 6
    for each in found:
        url = f"{home(copy)}/nova-judge{each}"
        assert requests.get(url, timeout=30).status_code == 401, each
        expected = 403 if has_texts(each) else 200
        assert requests.get(url, headers=guest, timeout=30).status_code == expected, each


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(
    page: Any, copy: Copy, example: Outcome, stopped: dict[str, str], scheme: str
) -> None:
    run, failed = address(example), f"runs/{DAG}/{quote(stopped['run_id'], safe=':')}"
    evaluation = "evaluations/sandbox/qwen-vs-claude"
    page.emulate_media(color_scheme=scheme)
    try:
        for each in (
            *("", evaluation, f"{evaluation}?a=1&b=2", run, failed, f"{run}/pairs/claude"),
            *(f"{run}/pairs/claude?words=nothing", f"{run}/pairs/claude/0", "no/such/page"),
        ):
            page.goto(f"{home(copy)}/nova-judge/{each}")
            assert serious(page) == [], each
        page.goto(f"file://{example.out}/report.html")
        assert serious(page) == []
    finally:
        page.emulate_media(color_scheme="light")


def serious(page: Any) -> list[str]:
    """Return what axe-core finds that keeps people from reading or using a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_the_screen_and_needs_nothing_from_outside(
    browser: Any, example: Outcome, width: int, scheme: str
) -> None:
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"file://{example.out}/report.html")
    page.get_by_text("simulated AWS").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
