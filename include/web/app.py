"""The pages, as a FastAPI app: requests in, HTML, files or a refusal out.

Whoever asks is logged in to Airflow and may see the DAG that a page is about. Prompts and responses
take a right more (`installation.readers`): they may be confidential where verdicts are not.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException as HTTPStatusError

from include import browse, bundle, labels, overview, storage
from include.records import Change, Drawn, Judged
from include.report import KINDS
from include.storage import RunFolder
from include.web import installation, pages
from include.web.differences import marked
from include.web.installation import AirflowRun
from include.web.pages import Filter
from include.wording import as_cell, count, percent, points

log = getLogger(__name__)

HERE = Path(__file__).parent
STATIC = {"style.css": "text/css", "page.js": "text/javascript"}

POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
OF_REPORT = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox allow-same-origin allow-downloads"
)
"""Content Security Policies: of our pages, and of a report, which has its style inside."""

CHART = re.compile(r"charts/[\w.-]+\.(png|svg|csv)")
"""What whoever may see a run may download of its folder."""
TYPES = {
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "csv": "text/csv; charset=utf-8",
}

LABELS, MOST_LABELS = 100, 2_000
"""Pairs of a labelling form: so many if nothing else is said, and at most."""
NO_FORM = (
    "There is no labelling form: this evaluation keeps no texts (store_text: false) that people "
    "could read."
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What models and evaluations may be called."""

see_run = requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN)
trigger = requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN)


def see_texts(request: Request, user: GetUserDep) -> None:
    """Refuse those who may not read prompts and responses of a run.

    Raises:
        HTTPException: 403.
    """
    see_run(request, user)
    if installation.readers() == "trigger":
        trigger(request, user)


router = APIRouter()
RUN = "/runs/{dag_id}/{run_id}"


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return the style, or the script."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    return Response((HERE / "static" / name).read_bytes(), media_type=STATIC[name])


@router.get("/")
def evaluations(
    request: Request, user: GetUserDep, words: str = "", gate: str = "", sort: str = "name"
) -> Response:
    """List every evaluation with its last verdict."""
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    lines, problems, seen = [], [], set()
    for place in installation.places():
        if place.output is None:
            problems.append((place.name, place.problem))
            continue
        try:
            found = overview.read(place.output)
        except Exception as error:  # whatever is wrong with one must not hide the others
            problems.append((place.name, f"{type(error).__name__}: {error}"))
            continue
        dag_ids = {point.dag_id for each in found.values() for point in each}
        next_runs = installation.next_runs(sorted(dag_ids & readable))
        lines += pages.evaluation_lines(place.name, found, readable, next_runs)
        seen |= {(place.name, name) for name in found}
    without = [
        each
        for each in installation.planned()
        if each.dag_id in readable and (each.environment, each.evaluation) not in seen
    ]
    return page(
        request,
        "evaluations",
        lines=pages.chosen(lines, words=words, gate=gate, sort=sort),
        total=len(lines),
        problems=problems,
        without=without,
        next_runs=installation.next_runs([each.dag_id for each in without]),
        words=words,
        gate=gate,
        sort=sort,
        gates=pages.GATES,
    )


@router.get("/evaluations/{environment}/{evaluation}")
def evaluation(
    request: Request, user: GetUserDep, environment: str, evaluation: str, a: str = "", b: str = ""
) -> Response:
    """Show the runs of one evaluation, and what changed between two of them."""
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    place = next((p for p in installation.places() if p.name == environment), None)
    found = overview.read(place.output) if place and place.output else {}
    seen = [each for each in found.get(evaluation, []) if each.dag_id in readable]
    if place is None or place.output is None or not seen:
        raise HTTPException(404, f"There is no evaluation {evaluation!r} in {environment!r}.")
    candidates = {
        name: [each for each in seen if each.candidate == name]
        for name in dict.fromkeys(each.candidate for each in seen)
    }
    runs = pages.runs(seen)
    order = [each.run_id for each in runs]
    if a in order and b in order:
        a, b = sorted((a, b), key=order.index)
    return page(
        request,
        "evaluation",
        environment=environment,
        evaluation=evaluation,
        candidates=candidates,
        runs=runs,
        sparks={name: pages.spark(points) for name, points in candidates.items()},
        a=a,
        b=b,
        changes=_changes(place.output, candidates, a, b) if a and b else None,
    )


def _changes(
    output: RunFolder, candidates: dict[str, list[overview.Point]], a: str, b: str
) -> dict[str, Change | None]:
    """Return what changed for each candidate between two runs, None where it cannot be told."""
    changes: dict[str, Change | None] = {}
    for name, mine in candidates.items():
        both = [next((p for p in mine if p.run_id == run_id), None) for run_id in (a, b)]
        if None in both:
            changes[name] = None
            continue
        folders = [RunFolder(output.s3, p.run_folder) for p in both if p]
        try:
            earlier, later = (browse.Pairs(folder, name).index() for folder in folders)
        except output.s3.exceptions.NoSuchKey:
            changes[name] = None
            continue
        config = json.loads(folders[1].read(storage.CONFIG))["config"]
        changes[name] = pages.change(earlier, later, name, config)
    return changes


@router.get(RUN, dependencies=[Depends(see_run)])
def run(request: Request, user: GetUserDep, dag_id: str, run_id: str) -> Response:
    """Show how far a run is, and when it is over what it has come to."""
    known, folder = _opened(dag_id, run_id)
    summary = progress = cost = None
    if folder:
        summary = folder.read_json(storage.SUMMARY)
        if summary and not known.has_reported(summary["started_at"]):
            summary = None  # that of an earlier pass
        names = folder.names("progress/") if not summary else []
        progress = [json.loads(folder.read(name)) for name in names]
        cost = installation.cost_so_far(known) if not (summary or known.is_over) else None
    try:
        see_texts(request, user)
        texts = True
    except HTTPException:
        texts = False
    return page(
        request,
        "run",
        run=known,
        summary=summary,
        progress=progress or [],
        cost=cost,
        texts=texts,
        files=_files(folder, texts) if folder else [],
        refresh=not (known.is_over or summary),  # whoever reads a report is not to lose the place
    )


def _files(folder: RunFolder, texts: bool) -> list[str]:
    """Name what of a run can be downloaded."""
    charts = [name for name in folder.names("charts/") if CHART.fullmatch(name)]
    if not texts:
        return charts
    summary, report = folder.names(storage.SUMMARY), folder.names(storage.REPORT)
    return [*summary, *charts, *report, *(["evidence.zip"] if summary else [])]


@router.get(f"{RUN}/report", dependencies=[Depends(see_texts)])
def report(dag_id: str, run_id: str) -> Response:
    """Return the report."""
    return _file(dag_id, run_id, storage.REPORT, {"Content-Security-Policy": OF_REPORT})


@router.get(f"{RUN}/files/report.html", dependencies=[Depends(see_texts)])
def report_file(dag_id: str, run_id: str) -> Response:
    """Return the report to be kept."""
    return _file(dag_id, run_id, storage.REPORT, _attachment("report.html"))


@router.get(f"{RUN}/files/summary.json", dependencies=[Depends(see_texts)])
def summary_file(dag_id: str, run_id: str) -> Response:
    """Return the summary to be kept: errors in it may quote prompts, and models are quoted."""
    return _file(dag_id, run_id, storage.SUMMARY, _attachment("summary.json"))


@router.get(f"{RUN}/files/evidence.zip", dependencies=[Depends(see_texts)])
def evidence(dag_id: str, run_id: str) -> Response:
    """Return all that the verdict rests on, texts included, as one file to be kept."""
    _, folder = _opened(dag_id, run_id)
    if folder is None or not folder.names(storage.SUMMARY):
        raise HTTPException(404, "This run has no verdict yet, so there is no evidence.")
    headers = _attachment(f"{folder.uri.rpartition('/')[2]}.zip")
    return StreamingResponse(bundle.pieces(folder), media_type="application/zip", headers=headers)


@router.get(f"{RUN}/files/{{name:path}}", dependencies=[Depends(see_run)])
def file(dag_id: str, run_id: str, name: str) -> Response:
    """Return a chart, or its numbers, to be kept."""
    if not CHART.fullmatch(name):
        raise HTTPException(404, "There is no such file.")
    return _file(dag_id, run_id, name, _attachment(name.rpartition("/")[2]))


def _file(dag_id: str, run_id: str, name: str, headers: dict[str, str]) -> Response:
    _, folder = _opened(dag_id, run_id)
    if folder is None or name not in folder.names(name):
        raise HTTPException(404, "There is no such file.")
    kind = TYPES[name.rpartition(".")[2]]
    return Response(folder.read(name), media_type=kind, headers=headers)


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def _filter(kind: str = "", category: str = "", words: str = "", disagree: str = "") -> Filter:
    return Filter(kind, category, words, bool(disagree))


Kept = Annotated[Filter, Depends(_filter)]


@router.get(f"{RUN}/pairs.csv", dependencies=[Depends(see_texts)])
def pairs_csv(dag_id: str, run_id: str, candidate: str, kept: Kept) -> Response:
    """Return the chosen pairs as CSV, to be looked at elsewhere."""
    stored, rows = _pairs(dag_id, run_id, candidate)
    columns = ["prompt_id", "kind", "preference", "forward", "backward", "category"]
    listed = [row for row in rows if kept.takes(row)]
    found = stored.texts_of(row.place for row in listed)
    lines = []
    for row in listed:
        texts = found.get(row.place)
        told = (texts.prompt, texts.baseline, texts.candidate) if texts else ("", "", "")
        lines.append([*(getattr(row, name) for name in columns), *told])
    header = [*columns, "prompt", "baseline", "candidate"]
    return _csv(f"{candidate}-pairs.csv", header, lines)


@router.get(f"{RUN}/pairs-to-label.csv", dependencies=[Depends(see_texts)])
def labelling_form(
    dag_id: str,
    run_id: str,
    candidate: str,
    kept: Kept,
    number: Annotated[int, Query(ge=1, le=MOST_LABELS)] = LABELS,
    seed: int = 0,
) -> Response:
    """Return a form for some of the chosen pairs, in which people say what they prefer."""
    stored, rows = _pairs(dag_id, run_id, candidate)
    if not stored.has_texts():
        raise HTTPException(404, NO_FORM)
    drawn: Drawn = "chosen" if kept.query() else "random"
    about = _judged(dag_id, run_id, candidate)
    form = labels.form(
        stored, filter(kept.takes, rows), about, number=number, seed=seed, drawn=drawn
    )
    lines = [[row[name] for name in labels.COLUMNS] for row in form]
    return _csv("pairs-to-label.csv", labels.COLUMNS, lines)


def _judged(dag_id: str, run_id: str, candidate: str) -> Judged:
    """Return what labels of a comparison are about.

    Raises:
        HTTPException: 404: it has no verdict yet.
    """
    _, folder = _opened(dag_id, run_id)
    summary: Any = (folder.read_json(storage.SUMMARY) if folder else None) or {}
    for each in summary.get("comparisons", []):
        if each["candidate"] == candidate:
            provenance = summary["provenance"]
            return labels.judged(summary["evaluation"], provenance, each["baseline"], candidate)
    raise HTTPException(404, "There is no verdict yet, and so no labelling form.")


def _csv(name: str, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> Response:
    """Return a table as a file for spreadsheets."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(header)
    writer.writerows(map(as_cell, line) for line in lines)
    body = sink.getvalue().encode("utf-8-sig")
    return Response(body, media_type=TYPES["csv"], headers=_attachment(name))


@router.get(f"{RUN}/pairs/{{candidate}}", dependencies=[Depends(see_texts)])
def pairs(
    request: Request,
    dag_id: str,
    run_id: str,
    candidate: str,
    kept: Kept,
    number: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """List pairs, a page at a time."""
    stored, rows = _pairs(dag_id, run_id, candidate)
    listed = [row for row in rows if kept.takes(row)]
    last = max(1, -(-len(listed) // pages.PAGE))
    number = min(number, last)
    return page(
        request,
        "pairs",
        dag_id=dag_id,
        run_id=run_id,
        candidate=candidate,
        kept=kept,
        rows=listed[(number - 1) * pages.PAGE : number * pages.PAGE],
        listed=len(listed),
        total=len(rows),
        number=number,
        last=last,
        to_label=sum(map(labels.can_be_labelled, listed)),
        no_form=None if stored.has_texts() else NO_FORM,
        most_labels=MOST_LABELS,
        labels=LABELS,
        kinds=pages.kinds(rows),
        categories=pages.categories(rows),
    )


@router.get(f"{RUN}/pairs/{{candidate}}/{{place}}", dependencies=[Depends(see_texts)])
def pair(
    request: Request, dag_id: str, run_id: str, candidate: str, place: int, kept: Kept
) -> Response:
    """Show one pair, both responses side by side."""
    stored, rows = _pairs(dag_id, run_id, candidate)
    if not 0 <= place < len(rows):
        raise HTTPException(404, "There is no such pair.")
    texts = stored.texts(place)
    before, after = pages.neighbours([row for row in rows if kept.takes(row)], place)
    return page(
        request,
        "pair",
        dag_id=dag_id,
        run_id=run_id,
        candidate=candidate,
        kept=kept,
        row=rows[place],
        texts=texts,
        pieces=texts and marked(texts.baseline or "", texts.candidate or ""),
        score=browse.score_of(texts) if texts else None,
        before=before,
        after=after,
    )


def _pairs(
    dag_id: str, run_id: str, candidate: str
) -> tuple[browse.Pairs, Sequence[browse.IndexRow]]:
    """Open the pairs of a comparison.

    Raises:
        HTTPException: 404.
    """
    _, folder = _opened(dag_id, run_id)
    name = f"browse/{candidate}/index.parquet"
    if folder is None or not NAME.fullmatch(candidate) or name not in folder.names(name):
        raise HTTPException(404, f"This run has no pairs of {candidate!r} to show.")
    stored = browse.Pairs(folder, candidate)
    return stored, stored.index()


def _opened(dag_id: str, run_id: str) -> tuple[AirflowRun, RunFolder | None]:
    found = installation.find_run(dag_id, run_id)
    if found is None:
        raise HTTPException(404, f"There is no run {run_id!r} of {dag_id!r}.")
    return found, installation.open_folder(found)


def page(request: Request, template: str, code: int = 200, **shown: Any) -> Response:
    """Render a page; links in it begin where the app is mounted."""
    root = request.scope.get("root_path", "").rstrip("/")

    def link(*parts: object, **query: object) -> str:
        path = "/".join(quote(str(part), safe=":") for part in parts)
        asked = urlencode({key: value for key, value in query.items() if value not in ("", None)})
        return f"{root}/{path}" + (f"?{asked}" if asked else "")

    html = templates().get_template(f"{template}.html.j2").render(link=link, **shown)
    return HTMLResponse(html, status_code=code)


@cache
def templates() -> Environment:
    """Return the templates; whatever they show is escaped."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        moment=pages.moment, percent=percent, points=points, count=count, rate=pages.rate
    )
    found.globals.update(kinds_of_pairs=KINDS, asdict=asdict, refresh=False)
    return found


async def safely(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add the headers that keep a page from doing more than it should."""
    response = await call(request)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def refused(request: Request, error: Exception) -> Response:
    """Show a refusal as a page."""
    assert isinstance(error, HTTPStatusError)
    return page(request, "refused", error.status_code, status=error.status_code, why=error.detail)


async def not_understood(request: Request, error: Exception) -> Response:
    """Show a page that says which part of an address is not as it must be."""
    assert isinstance(error, RequestValidationError)
    why = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return page(request, "refused", 422, status=422, why=why)


async def out_of_reach(request: Request, error: Exception) -> Response:
    """Show a page that says why AWS did not give what it was asked for; the log says all of it."""
    log.warning("%s: %s: %s", request.url.path, type(error).__name__, error)
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if code in ("NoSuchKey", "404"):
        why = "An object of this run is gone: old runs are deleted."
        return page(request, "refused", 404, status=404, why=why)
    why = f"AWS refuses ({code})." if code else f"AWS does not answer ({type(error).__name__})."
    return page(request, "refused", 502, status=502, why=f"{why} The api-server's log says more.")


def create_app() -> FastAPI:
    """Build the app; no route of it is open to those who are not logged in."""
    app = FastAPI(
        title="Nova Judge",
        dependencies=[Depends(get_user)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.middleware("http")(safely)
    app.add_exception_handler(HTTPStatusError, refused)
    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(BotoCoreError, out_of_reach)
    app.add_exception_handler(ClientError, out_of_reach)
    app.include_router(router)
    return app
