"""Facts about the pages in the Airflow UI: who may see what, and that nothing in them is trusted.

The pages are asked over HTTP in this process; runs lie in the sandbox. What Airflow's database says
and who is logged in is given by the tests: test_browser.py has a real Airflow.
"""

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import pytest
from botocore.config import Config
from judged import LOSS, WIN, judge
from labelled import as_csv, write_run
from sandbox_server import ROOT, SESSION, Sandbox, free_port
from summaries import Page, make_comparison, make_summary
from web_routes import addresses, has_texts

from include import browse, names, overview, publish, storage, trend
from include.charts import Charts
from include.preferences import resolve_pairs
from include.records import Comparison, Pair
from include.storage import RunFolder
from scripts import labels as read_labels

fastapi = pytest.importorskip("fastapi")

from airflow.api_fastapi.core_api import security  # noqa: E402
from airflow.models import DagModel  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from include.web import app as web  # noqa: E402
from include.web import installation  # noqa: E402
from include.web.installation import AirflowRun, Place, Planned, Stage  # noqa: E402

DAG, RUN_ID = "nova_llm_judge", "manual__2026-11-25T06:00:00+00:00"
RUN = f"/runs/{DAG}/manual__2026-11-25T06:00:00%2B00:00"
HOSTILE = "</p></iframe><script>alert(1)</script><img src=x onerror=alert(1)> \u202e" + "w" * 3000


class Rights:
    """Stands for Airflow's auth manager."""

    def __init__(self) -> None:
        self.methods, self.dag_ids = {"GET", "POST"}, {DAG}

    def is_authorized_dag(self, *, method: str, details: Any, **_: Any) -> bool:
        return method in self.methods and details.id in self.dag_ids

    def get_authorized_dag_ids(self, **_: Any) -> set[str]:
        return self.dag_ids if "GET" in self.methods else set()


@pytest.fixture
def output(sandbox: Sandbox) -> RunFolder:
    return RunFolder(sandbox.client("s3"), f"s3://nova-judge-sandbox/{uuid4()}")


@pytest.fixture
def folder(output: RunFolder) -> RunFolder:
    return RunFolder(output.s3, output.at("nightly/run"))


@pytest.fixture
def known(folder: RunFolder) -> AirflowRun:
    record: Any = {"uri": folder.uri, "aws_conn_id": "aws_default"}
    started = datetime(2026, 11, 25, 6, tzinfo=UTC)
    stages = [Stage("resolve", {"success": 1}), Stage("generate", {"success": 1, "failed": 2})]
    return AirflowRun(DAG, RUN_ID, "success", started, started, record, stages)


@pytest.fixture
def rights(
    monkeypatch: pytest.MonkeyPatch, output: RunFolder, folder: RunFolder, known: AirflowRun
) -> Rights:
    """What Airflow says: one run, and a user who may do everything until the test takes it away."""
    rights = Rights()
    monkeypatch.setattr(security, "get_auth_manager", lambda: rights)
    monkeypatch.setattr(web, "get_auth_manager", lambda: rights)
    monkeypatch.setattr(DagModel, "get_team_name", lambda dag_id: None)
    monkeypatch.setattr(
        installation, "find_run", lambda d, r: known if (d, r) == (DAG, RUN_ID) else None
    )
    monkeypatch.setattr(installation, "open_folder", lambda run: folder)
    monkeypatch.setattr(installation, "places", lambda: iter([Place("sandbox", output)]))
    monkeypatch.setattr(installation, "next_runs", lambda dag_ids: {})
    monkeypatch.setattr(installation, "planned", lambda: iter(()))
    return rights


@pytest.fixture
def anybody() -> Iterator[TestClient]:
    """Somebody who is not logged in."""
    with TestClient(web.create_app()) as client:
        yield client


@pytest.fixture
def client(rights: Rights) -> Iterator[TestClient]:
    """Somebody who is logged in."""
    app = web.create_app()
    app.dependency_overrides[security.get_user] = lambda: "somebody"
    with TestClient(app) as client:
        yield client


@pytest.fixture
def finished(output: RunFolder, folder: RunFolder) -> RunFolder:
    """A run with a verdict, a report and 120 pairs, whose texts are hostile."""
    comparison = make_comparison()
    about = {"judge_image": "judge:1", "digests": {"dataset": "ab", "recipe": "cd"}}
    summary = make_summary(
        comparison, dag_id=DAG, run_id=RUN_ID, evaluation="nightly", provenance=about
    )
    folder.write(storage.SUMMARY, json.dumps(asdict(summary)))
    folder.write(storage.REPORT, "<!doctype html><p>The report</p>")
    folder.write("charts/win_rates.csv", "a,b\n")
    folder.write("config.json", '{"secret": "of nobody"}')
    pairs = [
        Pair(
            f"p{n}",
            f"Question {n}? {HOSTILE}",
            HOSTILE,
            f"={HOSTILE}",
            "judged",
            category="maths" if n % 2 else "code",
        )
        for n in range(120)
    ]
    said = [LOSS if n < 10 else WIN for n in range(120)]
    browse.write(folder, "claude", resolve_pairs(pairs, judge(pairs, said)), [])
    overview.add(output, trend.rows(summary, folder))
    return folder


ADDRESSES = addresses(RUN_ID, "nightly")


@pytest.mark.parametrize("address", ADDRESSES)
def test_nobody_sees_anything_without_a_login(anybody: TestClient, address: str) -> None:
    assert anybody.get(address).status_code == 401


RUN_PAGES = [each for each in ADDRESSES if each.startswith("/runs/")]
TEXT_PAGES = [each for each in RUN_PAGES if has_texts(each)]


@pytest.mark.parametrize("address", RUN_PAGES)
def test_nobody_sees_a_run_of_a_dag_that_is_not_theirs(
    client: TestClient, rights: Rights, finished: RunFolder, address: str
) -> None:
    rights.dag_ids = {"another"}
    answer = client.get(address)
    assert answer.status_code == 403
    assert "Question" not in answer.text and "The report" not in answer.text


def test_there_are_pages_with_texts() -> None:
    assert len(TEXT_PAGES) >= 6


@pytest.mark.parametrize("address", TEXT_PAGES)
def test_texts_take_the_right_to_trigger_or_what_is_configured(
    client: TestClient,
    rights: Rights,
    finished: RunFolder,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rights.methods = {"GET"}
    assert client.get(address).status_code == 403
    monkeypatch.setenv(installation.TEXTS, "view")
    assert client.get(address).status_code == 200


def test_who_may_not_read_texts_still_sees_the_verdict(
    client: TestClient, rights: Rights, finished: RunFolder
) -> None:
    rights.methods = {"GET"}
    answer = client.get(RUN)
    assert answer.status_code == 200
    assert "candidate better" in answer.text
    assert "/pairs/" not in answer.text and "/report" not in answer.text


def test_warnings_that_may_quote_prompts_are_only_counted_for_them(
    client: TestClient, rights: Rights, finished: RunFolder
) -> None:
    summary = json.loads(finished.read(storage.SUMMARY))
    summary["warnings"] = [{"code": "responses_extra", "message": "no prompt for 'My secret'"}]
    finished.write(storage.SUMMARY, json.dumps(summary))
    assert "My secret" in client.get(RUN).text
    rights.methods = {"GET"}
    shown = client.get(RUN).text
    assert (
        "My secret" not in shown and "1 warning, which may quote prompts: responses_extra" in shown
    )


def test_evaluations_of_dags_that_are_not_theirs_are_not_listed(
    client: TestClient, rights: Rights, finished: RunFolder
) -> None:
    assert "nightly" in client.get("/").text
    rights.dag_ids = set()
    assert "nightly" not in client.get("/").text
    assert client.get("/evaluations/sandbox/nightly").status_code == 404


def test_the_list_shows_the_numbers_of_the_summary(client: TestClient, finished: RunFolder) -> None:
    page = Page(client.get("/").text)
    summary = json.loads(finished.read(storage.SUMMARY))
    rate = summary["comparisons"][0]["win_rate"]
    assert page.says(f"{100 * rate['estimate']:.0f} % ({100 * rate['low']:.0f} % to")
    assert page.says("candidate better") and page.says("pass")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"words": "NIGHT clau"}, True),
        ({"words": "other"}, False),
        ({"gate": "fail"}, False),
        ({"gate": "pass", "sort": "cost"}, True),
        ({"sort": "nonsense"}, True),
    ],
)
def test_the_list_is_filtered_and_sorted(
    client: TestClient, finished: RunFolder, asked: dict[str, str], found: bool
) -> None:
    assert ("/evaluations/sandbox/nightly" in client.get("/", params=asked).text) is found


def test_an_environment_that_cannot_be_read_hides_no_other(
    client: TestClient, finished: RunFolder, output: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [Place("prod", None, "no connection <b>"), Place("sandbox", output)]
    monkeypatch.setattr(installation, "places", lambda: iter(there))
    text = client.get("/").text
    assert "Environment prod cannot be read: no connection &lt;b&gt;" in text
    assert "nightly" in text


def test_an_empty_installation_says_how_to_begin(client: TestClient) -> None:
    assert "make new-evaluation NAME=" in client.get("/").text


def test_an_evaluation_without_a_verdict_is_listed_with_its_next_run(
    client: TestClient, finished: RunFolder, rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [
        Planned("sandbox", "weekly", ["claude", "<b>"], "nova_llm_judge__weekly"),
        Planned("sandbox", "nightly", ["claude"], DAG),
        Planned("sandbox", "secret", ["claude"], "nova_llm_judge__secret"),
    ]
    monkeypatch.setattr(installation, "planned", lambda: iter(planned))
    at = datetime(2026, 11, 30, 6, tzinfo=UTC)
    monkeypatch.setattr(installation, "next_runs", lambda ids: dict.fromkeys(ids, at))
    rights.dag_ids = {DAG, "nova_llm_judge__weekly"}
    text = client.get("/").text
    without = text.partition("Without a verdict so far")[2]
    assert "weekly" in without and "claude, &lt;b&gt;" in without and "2026-11-30 06:00" in without
    assert "nightly" not in without and "secret" not in text


def test_the_files_of_evaluations_are_what_is_planned() -> None:
    (found,) = [each for each in installation.planned() if each.evaluation == "qwen-vs-claude"]
    assert found == Planned(
        "sandbox", "qwen-vs-claude", ["claude"], "nova_llm_judge__qwen-vs-claude"
    )


def also_ran(output: RunFolder, run_id: str, started_at: str, comparison: Comparison) -> RunFolder:
    """The folder of another run of `nightly`, which the overview knows."""
    folder = RunFolder(output.s3, output.at(f"nightly/{run_id}"))
    summary = make_summary(
        comparison, dag_id=DAG, run_id=run_id, evaluation="nightly", started_at=started_at
    )
    overview.add(output, trend.rows(summary, folder))
    return folder


def test_two_runs_are_compared_prompt_by_prompt(
    client: TestClient, finished: RunFolder, output: RunFolder
) -> None:
    other = also_ran(output, "other", "2026-01-06T06:00:00Z", make_comparison())
    pairs = [Pair(f"p{n}", f"Question {n}? {HOSTILE}", "a", "b", "judged") for n in range(120)]
    browse.write(other, "claude", resolve_pairs(pairs, judge(pairs, [LOSS] * 120)), [])
    known = {"confidence_level": 0.99, "candidates": [{"name": "claude"}, {"name": "gemma"}]}
    other.write(storage.CONFIG, json.dumps({"config": known}))
    answer = client.get("/evaluations/sandbox/nightly", params={"a": RUN_ID, "b": "other"})
    assert "claude wins 0 % of 120 shared prompts, 92 % before" in answer.text
    assert "(99.5 % interval" in answer.text and "99 % for all 2 candidates together" in answer.text
    again = client.get("/evaluations/sandbox/nightly", params={"a": RUN_ID, "b": "no such run"})
    assert "cannot be compared pair by pair" in again.text


def test_a_cleared_run_shows_its_progress_and_not_its_last_verdict(
    client: TestClient, finished: RunFolder, known: AirflowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = replace(known, state="running", stages=[Stage("report", {"success": 1})])
    monkeypatch.setattr(installation, "find_run", lambda d, r: waiting)
    shown = client.get(RUN).text
    assert "candidate better" in shown
    assert 'http-equiv="refresh"' not in shown, "whoever reads the report keeps the place"
    for anew in (
        replace(waiting, stages=[Stage("report", {"waiting": 1})]),
        replace(waiting, record={**known.record, "started_at": "2027-01-01T00:00:00+00:00"}),
    ):
        monkeypatch.setattr(installation, "find_run", lambda d, r, anew=anew: anew)
        shown = client.get(RUN).text
        assert "candidate better" not in shown and 'http-equiv="refresh"' in shown


def test_two_runs_are_compared_in_the_order_in_which_they_were(
    client: TestClient, output: RunFolder, finished: RunFolder
) -> None:
    also_ran(output, "later", "2026-01-07T06:00:00Z", make_comparison())
    for a, b in ((RUN_ID, "later"), ("later", RUN_ID)):
        shown = client.get("/evaluations/sandbox/nightly", params={"a": a, "b": b}).text
        chosen = re.findall(r'<option value="([^"]+)" selected', shown)
        assert [html.unescape(each) for each in chosen] == [RUN_ID, "later"]


def test_every_run_can_be_compared_whichever_candidates_it_had(
    client: TestClient, output: RunFolder, finished: RunFolder
) -> None:
    other = replace(make_comparison(), candidate="gemma")
    also_ran(output, "later", "2026-01-07T06:00:00Z", other)
    shown = client.get("/evaluations/sandbox/nightly").text
    chosen = re.findall(r'<option value="([^"]+)" selected', shown)
    assert [html.unescape(each) for each in chosen] == [RUN_ID, "later"]


def test_pairs_are_listed_a_page_at_a_time(client: TestClient, finished: RunFolder) -> None:
    first = client.get(f"{RUN}/pairs/claude")
    assert "120 of 120 pairs, page 1 of 3" in " ".join(first.text.split())
    assert first.text.count('<th scope="row"') == 50
    last = client.get(f"{RUN}/pairs/claude", params={"number": 3})
    assert last.text.count('<th scope="row"') == 20
    assert client.get(f"{RUN}/pairs/claude", params={"number": 0}).status_code == 422


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ({"kind": "lost"}, 10),
        ({"kind": "won", "category": "maths"}, 55),
        ({"words": "question 117?"}, 1),
        ({"disagree": "1"}, 0),
    ],
)
def test_pairs_are_filtered_and_the_csv_is_what_is_listed(
    client: TestClient, finished: RunFolder, asked: dict[str, str], listed: int
) -> None:
    text = client.get(f"{RUN}/pairs/claude", params=asked).text
    assert f"{listed} of 120 pairs" in " ".join(text.split())
    body = client.get(f"{RUN}/pairs.csv", params={"candidate": "claude", **asked}).content
    rows = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))
    assert len(rows) == listed
    assert all(row["candidate"].startswith("'=") for row in rows), "a formula in a spreadsheet"


def form(client: TestClient, **asked: Any) -> list[dict[str, str]]:
    answer = client.get(f"{RUN}/pairs-to-label.csv", params={"candidate": "claude", **asked})
    assert answer.headers["content-disposition"].startswith("attachment")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_the_labelling_form_is_a_random_sample_that_tells_no_verdict(
    client: TestClient, finished: RunFolder
) -> None:
    rows = form(client, number=40)
    assert len(rows) == 40 and rows == form(client, number=40)
    assert rows != form(client, number=40, seed=1)
    assert {row["drawn"] for row in rows} == {"random"}
    assert {row["preference"] for row in rows} == {""}
    assert {row["dataset_sha256"] for row in rows} == {"ab"}
    guarded = [row[name] for row in rows for name in ("response_1", "response_2")]
    assert not [text for text in guarded if text.startswith("=")], "a formula in a spreadsheet"
    assert "claude" not in json.dumps(rows)


def test_a_form_of_chosen_pairs_says_so_and_so_does_its_page(
    client: TestClient, finished: RunFolder
) -> None:
    rows = form(client, kind="lost")
    assert len(rows) == 10 and {row["drawn"] for row in rows} == {"chosen"}
    listed = client.get(f"{RUN}/pairs/claude", params={"kind": "lost"}).text
    assert "These pairs are chosen by a filter" in listed and 'value="lost"' in listed
    assert "drawn at random from all" in client.get(f"{RUN}/pairs/claude").text


NASTY = '=1+1"\r\n\x00;,\t\u2028\u202e'


def test_a_form_from_the_page_is_read_back_whatever_its_texts_are(
    client: TestClient, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish.charts, "draw", lambda *_: Charts([], {}))
    pairs = [
        Pair(f"p{n}", NASTY, f"{NASTY} {n} baseline", f"{n} candidate {NASTY}", "judged")
        for n in range(30)
    ]
    write_run(folder, pairs)
    rows = form(client, number=20)
    for row in rows:
        row["preference"] = "1" if "candidate" in row["response_1"] else "2"
    (tmp_path / "form.csv").write_bytes(as_csv(rows))
    _, found, summary = read_labels.add(folder, str(tmp_path / "form.csv"))
    assert [label.preference for label in found.labels] == ["candidate"] * 20
    assert summary.comparisons[0].human is not None
    assert summary.comparisons[0].human.sentence in client.get(RUN).text.replace("&#39;", "'")


@pytest.mark.parametrize("number", [0, 2001, "many"])
def test_a_form_has_so_many_pairs_and_no_more(
    client: TestClient, finished: RunFolder, number: object
) -> None:
    asked = {"candidate": "claude", "number": number}
    answer = client.get(f"{RUN}/pairs-to-label.csv", params=asked)
    assert answer.status_code == 422 and "number: " in answer.text


def test_a_run_that_keeps_no_texts_has_no_form_and_says_why(
    client: TestClient, finished: RunFolder
) -> None:
    pairs = [Pair(f"p{n}", "", None, None, "judged") for n in range(3)]
    rows = resolve_pairs(pairs, judge(pairs, [WIN] * 3))
    browse.write(finished, "claude", rows, [], with_texts=False)
    bucket, key = storage.split_uri(finished.at("browse/claude/texts.parquet"))
    finished.s3.delete_object(Bucket=bucket, Key=key)
    for address in ("pairs/claude", "pairs-to-label.csv?candidate=claude"):
        assert "keeps no texts (store_text: false)" in client.get(f"{RUN}/{address}").text
    assert "Labelling form" not in client.get(f"{RUN}/pairs/claude").text


def test_a_run_without_a_verdict_has_no_form(client: TestClient, finished: RunFolder) -> None:
    finished.write(storage.SUMMARY, json.dumps(asdict(make_summary())))
    answer = client.get(f"{RUN}/pairs-to-label.csv?candidate=claude")
    assert answer.status_code == 404 and "There is no verdict yet" in answer.text


def test_what_people_say_is_on_the_runs_page(client: TestClient, finished: RunFolder) -> None:
    summary = json.loads(finished.read(storage.SUMMARY))
    assert client.get(RUN).status_code == 200
    summary["comparisons"][0]["human"] = {"sentence": "People <b>agree</b>.", "doubt": "by chance"}
    finished.write(storage.SUMMARY, json.dumps(summary))
    assert '<p class="problem">People &lt;b&gt;agree&lt;/b&gt;.</p>' in client.get(RUN).text
    del summary["comparisons"][0]["human"]  # as older summaries
    finished.write(storage.SUMMARY, json.dumps(summary))
    assert client.get(RUN).status_code == 200


def test_a_pair_shows_both_responses_escaped_and_leads_to_the_next(
    client: TestClient, finished: RunFolder
) -> None:
    answer = client.get(f"{RUN}/pairs/claude/3", params={"kind": "lost"})
    assert "<script>alert" not in answer.text and "onerror=alert(1)&gt;" in answer.text
    page = Page(answer.text)
    assert not {"img", "iframe"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert f"{RUN}/pairs/claude/4?kind=lost" in links
    assert f"{RUN}/pairs/claude/2?kind=lost" in links
    last = Page(client.get(f"{RUN}/pairs/claude/9", params={"kind": "lost"}).text)
    assert "next" not in [value for _, name, value in last.attributes if name == "rel"]


@pytest.mark.parametrize(
    "address",
    [
        f"{RUN}/files/config.json",
        f"{RUN}/files/../config.json",
        f"{RUN}/files/charts/../config.json",
        f"{RUN}/files/charts%2F..%2Fconfig.json",
        f"{RUN}/files/prompts/000000.jsonl",
        f"{RUN}/pairs/claude%2F..%2Fclaude",
        f"{RUN}/pairs/claude/120",
        f"{RUN}/pairs/claude/-1",
        f"{RUN}/pairs/nova",
        "/static/../app.py",
        "/runs/nova_llm_judge/unknown",
    ],
)
def test_nothing_else_can_be_read(client: TestClient, finished: RunFolder, address: str) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("/no/such/page", 404, "There is nothing here"),
        (f"{RUN}/pairs/claude?number=0", 422, "number: Input should be greater"),
        (f"{RUN}/pairs/claude/first", 422, "place: Input should be a valid integer"),
    ],
)
def test_a_wrong_address_is_answered_with_a_page(
    client: TestClient, finished: RunFolder, address: str, code: int, said: str
) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (
        code,
        "text/html; charset=utf-8",
    )
    assert said in answer.text


def test_when_s3_does_not_answer_the_page_says_so(
    client: TestClient, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = RunFolder(client_of_nothing(), "s3://bucket/run")
    monkeypatch.setattr(installation, "open_folder", lambda run: nowhere)
    answer = client.get(RUN)
    assert answer.status_code == 502
    assert "AWS does not answer (EndpointConnectionError)" in answer.text


def test_an_object_that_is_gone_is_no_failure_of_aws(
    client: TestClient, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def index(self: browse.Pairs) -> Any:
        return finished.read("what/retention/has/just/deleted")

    monkeypatch.setattr(browse.Pairs, "index", index)
    answer = client.get(f"{RUN}/pairs/claude")
    assert answer.status_code == 404 and "old runs are deleted" in answer.text


def test_only_folders_of_an_environment_are_opened(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, known: AirflowRun
) -> None:
    (tmp_path / "environments").mkdir()
    text = (ROOT / "dags/environments/sandbox.yaml").read_text()
    (tmp_path / "environments/sandbox.yaml").write_text(text)
    (tmp_path / "environments/a-broken-one.yaml").write_text("a: [")
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(installation, "aws", lambda _: lambda name, **_: sandbox.client(name))

    def opened(uri: str, connection: str = "aws_sandbox") -> Any:
        record: Any = {"uri": uri, "aws_conn_id": connection}
        return installation.open_folder(replace(known, record=record))

    slug = names.run_slug(DAG, RUN_ID)
    uri = f"s3://nova-judge-sandbox/nova-judge/nightly/{slug}"
    assert opened(uri).uri == uri
    assert opened(uri, "another") is None
    for outside in ("nova-judge-sandbox/nova-judge2", "other/nova-judge"):
        assert opened(f"s3://{outside}/{slug}") is None
    another = names.run_slug("another_dag", RUN_ID)
    assert opened(uri.replace(slug, another)) is None, "XCom of one DAG leads to no other's run"


def test_progress_is_shown_though_the_cost_cannot_be_told(
    client: TestClient,
    folder: RunFolder,
    known: AirflowRun,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(installation, "find_run", lambda d, r: replace(known, state="running"))
    monkeypatch.setattr(installation, "aws", lambda _: lambda *_, **__: client_of_nothing())
    answer = client.get(RUN)
    assert answer.status_code == 200 and "so far" not in answer.text
    assert "has cost so far is not known" in caplog.text


def client_of_nothing() -> Any:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1)
    return SESSION.client("s3", endpoint_url=f"http://127.0.0.1:{free_port()}", config=config)


def test_files_are_downloads(client: TestClient, finished: RunFolder) -> None:
    text = client.get(RUN).text
    for name in ("summary.json", "charts/win_rates.csv", "report.html"):
        assert f"{RUN}/files/{name}" in text
        answer = client.get(f"{RUN}/files/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment")


def test_the_evidence_is_one_file_with_the_digest_of_each_of_its_files(
    client: TestClient, finished: RunFolder
) -> None:
    answer = client.get(f"{RUN}/files/evidence.zip")
    assert answer.headers["content-disposition"].startswith("attachment")
    with ZipFile(io.BytesIO(answer.content)) as archive:
        names = set(archive.namelist())
        manifest = json.loads(archive.read("manifest.json"))
        digests = {name: sha256(archive.read(name)).hexdigest() for name in manifest["sha256"]}
    assert names == {*digests, "manifest.json"}
    assert {"summary.json", "report.html", "config.json"} <= names
    assert not [name for name in names if name.startswith("browse/")]
    assert manifest == {"run_folder": finished.uri, "sha256": digests}


def test_a_run_without_a_verdict_has_no_evidence(client: TestClient, folder: RunFolder) -> None:
    folder.write("config.json", "{}")
    assert client.get(f"{RUN}/files/evidence.zip").status_code == 404
    assert "evidence.zip" not in client.get(RUN).text


def test_words_that_only_one_response_has_are_marked(client: TestClient, folder: RunFolder) -> None:
    pairs = [Pair("p", "Why?", "It is <b>blue</b> today.", "It is <i>red</i> today.", "judged")]
    browse.write(folder, "claude", resolve_pairs(pairs, judge(pairs, [WIN])), [])
    text = client.get(f"{RUN}/pairs/claude/0").text
    assert "It is <mark>&lt;b&gt;blue&lt;/b&gt; </mark>today." in text
    assert "It is <mark>&lt;i&gt;red&lt;/i&gt; </mark>today." in text


def test_every_page_may_do_only_what_it_needs(client: TestClient, finished: RunFolder) -> None:
    for address in (*ADDRESSES, "/no such page"):
        headers = client.get(address, params={"candidate": "claude"}).headers
        assert "default-src 'none'" in headers["content-security-policy"], address
        assert headers["x-content-type-options"] == "nosniff"
    report = client.get(f"{RUN}/report").headers["content-security-policy"]
    assert "script-src" not in report and "sandbox" in report


def test_a_run_that_goes_on_shows_its_progress_and_looks_again(
    client: TestClient, folder: RunFolder, known: AirflowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "find_run", lambda d, r: replace(known, state="running"))
    progress = {"model": "claude", "start": 0, "stop": 500, "done": 120, "failed": 3}
    progress |= {"in_flight": 16, "throttled": 4, "rows_per_second": 2.5}
    progress |= {"expected_end": "2026-11-25T07:00:00+00:00"}
    folder.write("progress/claude/000000.json", json.dumps(progress))
    monkeypatch.setattr(installation, "cost_so_far", lambda run: "1.20 USD")
    text = client.get(RUN).text
    assert "1.20 USD so far" in text
    assert 'http-equiv="refresh"' in text
    assert "120 of 500 answered, 3 failed, 2.5 a second" in text
    assert "failed (2)" in " ".join(text.split())


def test_a_run_that_failed_before_its_report_says_where_to_look(
    client: TestClient, known: AirflowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = replace(known, state="failed")
    monkeypatch.setattr(installation, "find_run", lambda d, r: failed)
    assert "the logs of its failed tasks say why" in client.get(RUN).text
    unresolved = replace(failed, record=None)
    monkeypatch.setattr(installation, "find_run", lambda d, r: unresolved)
    monkeypatch.setattr(installation, "open_folder", lambda run: None)
    assert "log of the task resolve" in client.get(RUN).text


def test_links_begin_where_the_app_is_mounted(rights: Rights, finished: RunFolder) -> None:
    app, root = web.create_app(), fastapi.FastAPI(root_path="/airflow")
    app.dependency_overrides[security.get_user] = lambda: "somebody"
    root.mount("/nova-judge", app)
    with TestClient(root) as client:
        page = Page(client.get("/airflow/nova-judge/").text)
    links = [v for _, name, v in page.attributes if name in ("href", "src")]
    assert links and all(link.startswith("/airflow/nova-judge/") for link in links)


def test_an_environment_in_another_account_is_a_problem_and_nothing_of_it_is_read(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SANDBOX", sandbox.airflow_connection())
    text = (ROOT / "dags/environments/sandbox.yaml").read_text()
    (tmp_path / "environments").mkdir()
    other = text.replace("000000000000", "111122223333")
    (tmp_path / "environments/sandbox.yaml").write_text(other)
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(tmp_path))
    (place,) = installation.places()
    assert place.output is None and "000000000000" in place.problem
