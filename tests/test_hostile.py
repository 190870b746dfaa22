"""Facts about hostile input: every case of `hostile/` ends in a sentence, and nowhere else."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import judged
import pytest
import yaml
from hostile import Case, archives, datasets, evaluations, forms, models, recipe_files, responses
from hostile import yaml_texts as texts
from judged import WIN, judge
from summaries import Page, make_summary

from include import examples, judge_output, labels, preferences, recipes
from include.config import Dataset, ResponsesModel
from include.config_files import load_environment, load_model, read_config, resolve_config
from include.existing_responses import open_responses
from include.pairs import judge_input, make_pairs
from include.prompts import open_prompts
from include.records import JudgeOutput, Pair, Prompt, Response
from include.report import ReportPairs, render, report_pair
from scripts import evaluations as evaluation_command
from scripts import plan as plan_command
from scripts import render as render_command

ROOT = Path(__file__).parent.parent
LONGEST = 25_000
"""Characters of a message: twenty lines of a thousand, and some more."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, another one for temporary files; whatever is written in either is seen."""
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield tmp_path / "given"
    assert list(here.iterdir()) == [] and list(temporary.iterdir()) == []


def check(case: Case, do: Callable[[], Any]) -> Any:
    """See that a case ends as it should; return what comes of it."""
    if case.error is None:
        return do()
    with pytest.raises(case.error) as caught:
        do()
    check_message(case, str(caught.value))
    return None


def check_message(case: Case, message: str) -> None:
    assert [word for word in case.words if word not in message] == [], message[:2000]
    assert len(message) < LONGEST and not CONTROL.search(message)
    message.encode()


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def content(given: Any) -> bytes:
    found = given() if callable(given) else given
    return found.encode() if isinstance(found, str) else found


def write(path: Path, given: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(given))
    return path


# config


@each(texts.CASES)
def test_a_text_that_is_no_config_says_so(case: Case, place: Path) -> None:
    check(case, lambda: read_config(write(place / "x.yaml", case.given)))


@each([*evaluations.CASES, *evaluations.WHOLE])
def test_an_evaluation_that_cannot_be_meant_is_refused_by_its_key(case: Case) -> None:
    whole = case in evaluations.WHOLE
    given = case.given if whole else {**evaluations.BASE, **case.given}
    config = check(case, lambda: resolve_config(given, environ={}))
    if config:
        json.dumps(config.model_dump(mode="json", by_alias=True), allow_nan=False)


@each(models.MODELS)
def test_a_model_that_cannot_be_meant_is_refused_by_its_key(case: Case, place: Path) -> None:
    write(place / "models/m.yaml", yaml.safe_dump(case.given, sort_keys=False))
    check(case, lambda: load_model("m", {"NOVA_JUDGE_CONFIG_DIR": str(place)}))


@each(models.ENVIRONMENTS)
def test_an_environment_that_cannot_be_meant_is_refused_by_its_key(case: Case, place: Path) -> None:
    given = {**case.given, **{k: v for k, v in models.ENVIRONMENT.items() if k not in case.given}}
    write(place / "environments/e.yaml", yaml.safe_dump(given, sort_keys=False))
    environ = {"NOVA_JUDGE_CONFIG_DIR": str(place)}
    conf = {**evaluations.BASE, "environment": "e", "candidates": [evaluations.limits()]}

    def do() -> None:
        load_environment("e", environ)
        resolve_config(conf, environ)

    check(case, do)


@each(recipe_files.FILES)
def test_a_file_that_is_no_recipe_says_so(case: Case, place: Path) -> None:
    path = write(place / "mine.yaml", case.given)
    check(case, lambda: recipes.load(str(path)))


@each(recipe_files.NAMES)
def test_a_recipe_of_no_such_name_is_refused(case: Case) -> None:
    check(case, lambda: recipes.load(case.given))


@each(recipe_files.OVERRIDES)
def test_an_override_that_cannot_be_applied_is_refused(case: Case) -> None:
    check(case, lambda: recipes.load("nova_micro_llm_judge", case.given))


# prompts and responses


def read_prompts(place: Path, case: Case) -> list[Prompt]:
    name, body, keys = case.given
    absent = body == b"" and not name.startswith("p.")
    source = str(place / name) if absent else str(write(place / name, body))
    with open_prompts(Dataset(source=source, **keys)) as found:
        return list(found)


@each(datasets.CASES)
def test_a_data_set_that_cannot_be_used_names_file_and_row(case: Case, place: Path) -> None:
    prompts = check(case, lambda: read_prompts(place, case))
    assert prompts is None or len(prompts) >= 1


def test_a_row_of_ten_megabytes_is_a_prompt_that_the_judge_is_not_asked_about(place: Path) -> None:
    body = datasets.lines({"prompt": "x" * 10_000_000})
    (prompt,) = read_prompts(place, Case("", ("p.jsonl", body, {})))
    answers = {prompt.prompt_id: Response(prompt.prompt_id, "m", "ok", "a")}
    others = {prompt.prompt_id: Response(prompt.prompt_id, "n", "ok", "b")}
    (pair,) = make_pairs([prompt], answers, others)
    assert pair.status == "too_long" and judge_input([pair]) == b""


@pytest.mark.parametrize("size", [100, 10_000])
def test_lines_and_lists_that_fill_the_memory_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("include.rows.LONGEST_LINE", 1000)
    monkeypatch.setattr("include.rows.LONGEST_LIST", 1000)
    small = json.dumps({"prompt": "x" * size})
    words = ("this line has more than 1,000 bytes",)
    if size < 1000:
        words = ("a JSON list is read as a whole", "write one object per line into a .jsonl file")
    body = "[" + ",\n".join([small] * 20) + "]"
    bomb = datasets.no("a bomb", "p.json", body.encode(), "p.json", *words)
    check(bomb, lambda: read_prompts(place, bomb))


@each(responses.CASES)
def test_responses_that_cannot_be_used_name_file_and_row(case: Case, place: Path) -> None:
    name, body, keys = case.given
    source = str(write(place / name, body))
    model = ResponsesModel(name="old", provider="responses", source=source, **keys)

    def do() -> list[Response]:
        with open_responses(model, Dataset(source="p.jsonl", id_field="id")) as found:
            return list(found.answer([Prompt("1", "What?")]))

    answers = check(case, do)
    assert answers is None or [answer.outcome for answer in answers] == ["ok"]


@each(forms.CASES)
def test_a_form_that_nobody_can_have_filled_in_names_row_and_column(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, body = case.given
    write(place / name, body)
    monkeypatch.chdir(place)
    pairs = preferences.resolve_pairs([forms.PAIR], judge([forms.PAIR], [WIN]))
    known = {"claude": forms.ABOUT}
    found = check(case, lambda: labels.read(name, None, known, lambda _: pairs))
    assert found is None or [label.preference for label in found[1].labels] == ["baseline"]


# the judge's archive


def count(output: JudgeOutput, pairs: list[Pair]) -> str:
    """Take a judge's output through the statistics to the report's page, which is returned."""
    comparison = judged.count(pairs, output)
    json.dumps(asdict(comparison), allow_nan=False)
    rate, counts = comparison.win_rate, comparison.counts
    assert rate.estimate is None or 0 <= rate.estimate <= 1
    assert rate.low is None or 0 <= rate.low <= rate.estimate <= rate.high <= 1
    assert counts.judgments >= 0 and counts.inference_errors >= 0
    resolved = preferences.resolve_pairs(pairs, output.judgments or [])
    shown = [
        ReportPairs(sample.kind, [report_pair(pair) for pair in sample.pairs], sample.total)
        for sample in examples.pick(resolved)
    ]
    return render(make_summary(comparison), drawings=[], examples=shown)


def read_archive(place: Path, given: Any, pairs: list[Pair] = archives.PAIRS) -> JudgeOutput:
    with write(place / "output.tar.gz", given).open("rb") as file:
        return judge_output.read(file, pairs)


@each(archives.ARCHIVES)
def test_an_archive_is_read_or_refused_and_nothing_of_it_reaches_the_disk(
    case: Case, place: Path
) -> None:
    output = check(case, lambda: read_archive(place, case.given))
    if output:
        assert output.metrics == archives.METRICS
        assert [path.name for path in place.parent.rglob("*results*")] == []


@each(archives.BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_output, "MAX_ARCHIVE_BYTES", 8 * 2**20)
    monkeypatch.setattr(judge_output, "MAX_RESULTS_BYTES", 2 * 2**20)
    monkeypatch.setattr(judge_output, "MAX_ROWS", 200_000)
    output = check(case, lambda: read_archive(place, case.given))
    if output:
        leaves_the_counts_to_speak(case, output)


@each(archives.UNREADABLE)
def test_details_that_cannot_be_read_leave_the_counts_to_speak(case: Case, place: Path) -> None:
    leaves_the_counts_to_speak(case, read_archive(place, case.given))


def leaves_the_counts_to_speak(case: Case, output: JudgeOutput) -> None:
    assert (output.judgments, output.metrics) == (None, archives.METRICS)
    (notice,) = output.warnings
    assert notice.code == "details_unreadable"
    check_message(case, notice.message)


@each([*archives.RESULTS_JSON, *archives.TABLES])
def test_what_a_judge_wrote_is_counted_or_refused(case: Case, place: Path) -> None:
    output = check(case, lambda: read_archive(place, case.given))
    if output:
        json.dumps(asdict(output), allow_nan=False)
        assert Page(count(output, archives.PAIRS)).open == []


@pytest.mark.parametrize("what", datasets.TEXTS)
def test_a_text_that_means_something_to_somebody_is_a_text_to_us(what: str, place: Path) -> None:
    text = datasets.TEXTS[what]
    rows = datasets.lines(*({"prompt": f"{text} {n}", "topic": "x"} for n in range(3)))
    prompts = read_prompts(place, Case("", ("p.jsonl", rows, {})))
    assert [prompt.text for prompt in prompts] == [f"{text} {n}" for n in range(3)]
    ids = [prompt.prompt_id for prompt in prompts]
    old, new = (
        {name: Response(name, model, "ok", f"{text} of {model}") for name in ids}
        for model in ("qwen", "claude")
    )
    pairs = make_pairs(prompts, old, new)
    sent = [json.loads(line) for line in judge_input(pairs).splitlines()]
    assert sent[0] == {
        "prompt": f"{text} 0",
        "response_A": f"{text} of qwen",
        "response_B": f"{text} of claude",
    }
    said = {"forward_output": f"{text} [[B>A]]", "backward_output": f"{text} [[A>B]]"}
    if "\ud83d" in text:  # parquet holds no half characters, so no judge can write one
        said = {"forward_output": "[[B>A]]", "backward_output": "[[A>B]]"}
    output = read_archive(place, archives.rows([archives.row(p, said) for p in pairs]), pairs)
    assert [j.preference for j in output.judgments or []] == ["candidate"] * 6
    page = Page(count(output, pairs))
    assert page.open == [] and "script" not in page.tags


# commands


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files that come with the project."""
    shutil.copytree(ROOT / "dags", place / "dags")
    monkeypatch.setenv("NOVA_JUDGE_CONFIG_DIR", str(place / "dags"))
    return place / "dags"


COMMANDS = {"render": render_command.main, "plan": plan_command.main}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_every_text_that_is_no_config(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in texts.CASES:
        path = write(place / "x.yaml", case.given)
        monkeypatch.setattr(sys, "argv", [command, "--config", str(path)])
        assert COMMANDS[command]() != 0, case.name
        said = capsys.readouterr()
        assert said.out == "" and said.err.startswith("Error: "), case.name
        assert case.error is None or all(word in said.err for word in case.words), said.err


def test_all_files_are_checked_whatever_one_of_them_holds(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, case in enumerate(texts.CASES):
        write(home / f"evaluations/bad-{number}.yaml", case.given)
        write(home / f"models/bad-{number}.yaml", case.given)
    (home / "evaluations" / os.fsdecode(b"\xff\x1b.yaml")).write_text("a: 1")
    monkeypatch.setattr(sys, "argv", ["check", "check"])
    assert evaluation_command.main() == 1
    said = capsys.readouterr().out
    assert "refused  evaluations/\\udcff\\x1b.yaml" in said
    assert said.count("refused  evaluations/bad-") == len(texts.CASES)
    assert said.count("refused  models/bad-") == len(texts.CASES)
    assert re.search(r"ok +evaluations/qwen-vs-claude.yaml", said)


SUMMARIES: dict[str, Any] = {
    "nothing": b"",
    "no UTF-8": b"\xff",
    "no summary": b"{}",
    "a list": b"[]",
    "100,000 brackets": b"[" * 100_000,
    "comparisons of nothing": {"comparisons": None},
    "a comparison of nothing": {"comparisons": [None]},
    "a comparison that lacks all": {"comparisons": [{}]},
    "no comparison": {"comparisons": []},
    "a number of 5,000 digits": b'{"comparisons": %s}' % (b"9" * 5000),
}


@pytest.mark.parametrize("what", SUMMARIES)
def test_a_file_that_is_no_summary_of_a_run_says_so(
    what: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = SUMMARIES[what]
    body = json.dumps(given).encode() if isinstance(given, dict) else given
    path = write(place / "summary.json", body)
    monkeypatch.setattr(sys, "argv", ["plan", "--run", str(path)])
    assert plan_command.main() != 0
    said = capsys.readouterr().err
    assert re.match(r"Error: .*summary.json( is no summary.json of a run|: the run has no)", said)


HARMS: dict[str, Any] = {
    "a bomb": texts.bomb("[{}]"),
    "a name that is too long": yaml.safe_dump(
        {**evaluations.BASE, "dataset": {"source": "x" * 5000 + ".jsonl"}}
    ),
    "colours": '"\\e[31mx": 1',
}


@pytest.mark.parametrize("module", ["scripts.render", "scripts.plan"])
@pytest.mark.parametrize("what", HARMS)
def test_a_command_ends_with_a_sentence_and_its_exit_code(
    what: str, module: str, place: Path
) -> None:
    path = write(place / "x.yaml", HARMS[what])
    done = subprocess.run(
        [sys.executable, "-m", module, "--config", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    if what == "a name that is too long" and module == "scripts.render":
        assert done.returncode == 0  # it does not look for the prompts
        return
    assert done.returncode in (1, 2) and done.stderr.startswith("Error: ")
