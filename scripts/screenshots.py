"""Write docs/images/*.png: what the running copy's Airflow UI shows, light, dark and on a phone."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3

from include import overview
from include.config_files import load_environment
from include.names import GENERAL_DAG
from include.overview import Point
from include.storage import RunFolder
from scripts.local import Api, LocalError, Place

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDE = {"width": 1400, "height": 860}
PHONE = {"width": 390, "height": 844}
SCHEMES = ("light", "dark")


def main(arguments: list[str] | None = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--evaluation", help="default: the one with the most runs")
    parser.add_argument("--form", action="store_true", help="only the form of the general DAG")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where to write them")
    options = parser.parse_args(arguments)
    try:
        place = Place.from_environment()
        options.images.mkdir(parents=True, exist_ok=True)
        if options.form:
            print(form(place, options.images / "form.png"))
            return 0
        for file in take(place, last_run(place, options.evaluation), options.images):
            print(file)
    except LocalError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def last_run(place: Place, evaluation: str | None) -> Point:
    """Return the last run that there is to show.

    Raises:
        LocalError: There is none.
    """
    session = boto3.session.Session("sandbox", "sandbox", region_name="us-east-1")
    s3 = session.client("s3", endpoint_url=place.sandbox_url)
    found = overview.read(RunFolder(s3, load_environment("sandbox").output_s3_uri))
    name = evaluation or max(found, key=lambda each: len(found[each]), default="")
    if name not in found:
        known = ", ".join(sorted(found)) or "none; make run makes one"
        raise LocalError(f"there are no runs of {name or 'any evaluation'}; there are: {known}")
    return found[name][-1]


def take(place: Place, last: Point, images: Path) -> Iterator[Path]:
    """Yield each picture's file when it is written."""
    run = f"runs/{quote(last.dag_id)}/{quote(last.run_id, safe=':')}"
    ours = f"{place.airflow_url}/nova-judge"
    for scheme in SCHEMES:
        with logged_in(place, scheme, WIDE) as page:
            page.goto(f"{place.airflow_url}/plugin/evaluations")
            framed(page).get_by_role("link", name=last.evaluation).first.wait_for()
            yield picture(page, images / f"evaluations-{scheme}.png")
            page.goto(f"{place.airflow_url}/dags/{last.dag_id}/{_tab(last.run_id)}")
            framed(page).get_by_text("Pairs that it lost").first.wait_for()
            yield picture(page, images / f"run-{scheme}.png")
            page.goto(f"{ours}/{run}/pairs/{quote(last.candidate)}?kind=lost")
            page.locator("tbody a").first.click()
            page.wait_for_url("**/pairs/*/*")
            yield picture(page, images / f"pair-{scheme}.png")
    with logged_in(place, "light", PHONE) as page:
        page.goto(f"{ours}/{run}")
        yield picture(page, images / "run-phone.png")
        page.goto(f"{ours}/evaluations/sandbox/{quote(last.evaluation)}")
        yield picture(page, images / "evaluation-phone.png")


def form(place: Place, file: Path) -> Path:
    """Take a picture of the form in which a run is triggered."""
    with logged_in(place, "light", WIDE) as page:
        page.goto(f"{place.airflow_url}/dags/{GENERAL_DAG}")
        page.get_by_role("button", name="Trigger").first.click()
        page.get_by_text("include/samples/prompts.jsonl").first.wait_for()
        return picture(page, file)


def _tab(run_id: str) -> str:
    return f"runs/{quote(run_id, safe=':')}/plugin/nova-judge"


@contextmanager
def logged_in(place: Place, scheme: Any, size: Any) -> Iterator[Any]:
    """Open a browser whose user has logged in."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise LocalError("chromium is not installed: apt-get install chromium")
    name, password = Api(place).login
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        page.goto(f"{place.airflow_url}/")
        page.fill("input[name=username]", name)
        page.fill("input[name=password]", password)
        page.keyboard.press("Enter")
        page.wait_for_url("**/")
        yield page
        browser.close()


def framed(page: Any) -> Any:
    """Return the frame in a page of Airflow that shows one of ours."""
    return page.frame_locator("iframe").first


def picture(page: Any, file: Path) -> Path:
    """Write what is to be seen when nothing moves any more."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)
    page.screenshot(path=str(file))
    return file


if __name__ == "__main__":
    raise SystemExit(main())
