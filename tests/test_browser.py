"""Facts about what a person sees in the Airflow UI and in the report, in a real browser."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from local_copy import Copy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    copy = Copy(tmp_path_factory.mktemp("browsed"))
    try:
        copy.outcome = copy.run(None)  # type: ignore[attr-defined]
        assert copy.outcome.code == 0, copy.outcome.output  # type: ignore[attr-defined]
        yield copy
    finally:
        copy.down()


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
    file = copy.folder / "state/airflow/simple_auth_manager_passwords.json.generated"
    ((name, password),) = json.loads(file.read_text()).items()
    page.goto(f"http://localhost:{copy.airflow_port}/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    return page


def test_the_run_shows_every_task_and_its_model(page: Any, copy: Copy) -> None:
    run_id = copy.outcome.summary["run_id"]  # type: ignore[attr-defined]
    page.goto(f"http://localhost:{copy.airflow_port}/dags/nova_llm_judge/runs/{run_id}")
    page.get_by_text("18 Task Instances").wait_for()
    text = page.inner_text("body")
    for word in ("resolve", "deploy", "generate", "delete", "compare.judge", "gate", "claude"):
        assert word in text, word
    assert "Failed" not in text


def test_the_form_starts_with_the_example(page: Any, copy: Copy) -> None:
    page.goto(f"http://localhost:{copy.airflow_port}/dags/nova_llm_judge")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("Run Parameters").wait_for()
    assert page.locator("input[value=qwen-vs-claude]").count() == 1
    page.get_by_text("include/samples/prompts.jsonl").first.wait_for()  # its editor loads lazily


def frame(page: Any, address: str, of: str) -> Any:
    """Go to a page of Airflow and return the frame in it that shows one of ours."""
    page.goto(address)
    page.wait_for_selector("iframe")
    handle = page.query_selector("iframe")
    found = handle.content_frame()
    found.wait_for_url(f"**/nova-judge/{of}**")
    return found


def test_the_verdict_and_the_pairs_are_shown_where_the_run_is(page: Any, copy: Copy) -> None:
    summary = copy.outcome.summary  # type: ignore[attr-defined]
    home = f"http://localhost:{copy.airflow_port}"
    run = f"{home}/dags/nova_llm_judge/runs/{summary['run_id']}"
    shown = frame(page, f"{run}/plugin/nova-judge", "runs")
    shown.get_by_text(summary["comparisons"][0]["sentence"]).wait_for()
    counts = summary["comparisons"][0]["counts"]
    assert f"{counts['candidate_wins']} won, {counts['baseline_wins']} lost" in shown.content()
    shown.get_by_text("Pairs that it lost").click()
    shown.get_by_text(f"{counts['baseline_wins']} of {counts['prompts']} pairs").wait_for()
    shown.locator("tbody a").first.click()
    shown.wait_for_url("**/pairs/*")
    shown.locator("body").press("j")
    shown.get_by_text("Before (k)").wait_for()


def test_the_list_of_evaluations_is_in_the_menu(page: Any, copy: Copy) -> None:
    shown = frame(page, f"http://localhost:{copy.airflow_port}/plugin/evaluations", "")
    shown.get_by_role("link", name="qwen-vs-claude").click()
    shown.get_by_role("heading", name="qwen-vs-claude").wait_for()


def test_the_report_is_shown_in_the_run(page: Any, copy: Copy) -> None:
    run_id = copy.outcome.summary["run_id"]  # type: ignore[attr-defined]
    address = f"http://localhost:{copy.airflow_port}/dags/nova_llm_judge/runs/{run_id}"
    shown = frame(page, f"{address}/plugin/nova-judge", "runs")
    report = shown.frame_locator("iframe.report")
    report.get_by_text("simulated AWS").first.wait_for()


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_the_screen_and_needs_nothing_from_outside(
    browser: Any, copy: Copy, width: int, scheme: str
) -> None:
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"file://{copy.outcome.out}/report.html")  # type: ignore[attr-defined]
    page.get_by_text("simulated AWS").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
