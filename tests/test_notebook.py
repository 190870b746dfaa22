"""AWS's notebook for this evaluation runs against the sandbox, from its first cell to its chart.

The notebook is read where it lies and never copied into the project. `PATCHES` is all that is
changed in it. Beside it lie our deploy script and, under the name `datasets`, six questions of
our own. Endpoint URL, region, credentials and the SDK's settings file (contract/sdk.py says why)
come from the environment.
"""

import ast
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from contract import sdk
from contract.sdk import BUCKET, HERE, ROLE, V2
from sandbox_server import ROOT, Sandbox, running_sandbox

NOTEBOOK = ROOT.parent / "shared" / "reference" / "nova_judge_notebook.txt"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NOTEBOOK.exists(), reason="the notebook is not beside the project"),
]

ENDPOINT = "qwen25-notebook"
RECIPE = ROOT / "recipes" / "nova_micro_llm_judge.yaml"


class Patch(NamedTuple):
    """One change of the notebook's text."""

    old: str
    new: str
    why: str


PATCHES = [
    Patch(
        "!pip install --upgrade sagemaker",
        "",
        "installs 3.x now, which has none of the classes that the next cell imports",
    ),
    Patch(
        "sagemaker.get_execution_role()",
        repr(ROLE),
        "a role is there inside SageMaker only; this is the sandbox's",
    ),
    Patch(
        "!python3 deploy_sm_model.py",
        f"import subprocess, sys\n"
        f"subprocess.run([sys.executable, 'deploy_sm_model.py', '{ENDPOINT}'], check=True)",
        "no notebook runs here, and the script that AWS does not ship takes the endpoint's name",
    ),
    Patch("qwen25-<endpoint_name_here>", ENDPOINT, "a placeholder"),
    Patch(
        "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
        "us.anthropic.claude-sonnet-4-6",
        "reached its end of life on Bedrock on 2026-04-28",
    ),
    Patch(
        '"temperature": temperature,\n        "top_p": top_p\n',
        '"temperature": temperature\n',
        "the successor refuses temperature beside top_p",
    ),
    Patch('your_bucket_name = ""', f'your_bucket_name = "{BUCKET}"', "a placeholder"),
    Patch("<PATH-TO-RECIPE>/recipe.yaml", str(RECIPE), "a placeholder"),
    Patch(
        '"nova-micro-gen-qa-eval-job-<DATE>"',
        "estimator.latest_training_job.name",
        "a placeholder: the SDK puts the time into the job's name",
    ),
    Patch(
        '"./output/nova-micro-llm-judge-eval-job/eval_results/'
        'results_2025-06-26T22-02-09.817675.json"',
        'str(*Path("output/nova-micro-llm-judge-eval-job/eval_results").glob("results_*.json"))',
        "a placeholder: the container puts the time into the file's name",
    ),
]

LOOK = """
# Ours, after the last cell: what is drawn in the figure that was saved.
drawn = []
for axes in fig.gcf().axes:
    drawn.append({
        "title": axes.get_title(),
        "texts": [text.get_text() for text in axes.texts],
        "bars": [[bar.get_width(), bar.get_height()] for bar in axes.patches
                 if hasattr(bar, "get_height")],
        "table": [[key, cell.get_text().get_text()] for table in axes.tables
                  for key, cell in sorted(table.get_celld().items())],
    })
with open("drawn.json", "w") as file:
    json.dump({"drawn": drawn, "job": estimator.latest_training_job.name}, file)
"""


def cells() -> list[str]:
    """Return the notebook's code cells: from `In [None]:` to the next heading or cell."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    parts = re.split(r"^In \[None\]:$", text, flags=re.MULTILINE)[1:]
    return [re.split(r"^##+ ", part, flags=re.MULTILINE)[0].strip() for part in parts]


def patched() -> str:
    program = "\n\n".join(cells())
    for patch in PATCHES:
        program = program.replace(patch.old, patch.new)
    return program


@dataclass
class Ran:
    """What the notebook left behind."""

    sandbox: Sandbox
    folder: Path
    output: str

    @property
    def looked(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "drawn.json").read_text())
        return found

    def panel(self, title: str) -> dict[str, Any]:
        (found,) = [d for d in self.looked["drawn"] if d["title"].startswith(title)]
        return found

    def results(self) -> dict[str, float]:
        """Return what the job wrote to S3, read without the notebook."""
        key = f"evaluation-results/mcaiich/llm_judge/{self.looked['job']}/output/output.tar.gz"
        body = self.sandbox.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            (name,) = [n for n in archive.getnames() if re.search(r"/results_[^/]*\.json$", n)]
            file = archive.extractfile(name)
            assert file is not None
            results: dict[str, float] = json.load(file)["results"]["all"]
        return results


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("notebook")
    for file in ("deploy_sm_model.py", "datasets.py"):
        shutil.copy(HERE / file, folder)
    (folder / "notebook.py").write_text(patched() + LOOK, encoding="utf-8")
    state = tmp_path_factory.mktemp("sandbox")
    with running_sandbox(state, sandbox_delays="endpoint=0,delete=0.2,job=0.5") as sandbox:
        done = subprocess.run(
            [str(sdk.python(V2)), "notebook.py"],
            capture_output=True,
            text=True,
            env=sdk.environ(sandbox, folder),
            cwd=folder,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield Ran(sandbox, folder, done.stdout + done.stderr)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.old[:30].strip())
def test_each_patch_finds_its_text_once_and_says_why(patch: Patch) -> None:
    assert sum(cell.count(patch.old) for cell in cells()) == 1
    assert patch.why


def test_every_cell_of_the_notebook_is_in_the_program() -> None:
    names = {
        node.name for node in ast.walk(ast.parse(patched())) if isinstance(node, ast.FunctionDef)
    }
    assert len(cells()) == NOTEBOOK.read_text(encoding="utf-8").count("In [None]:")
    assert {"generate_with_qwen25", "generate_with_claude37", "plot_llm_judge_results"} <= names


def test_both_models_answered_every_question(ran: Ran) -> None:
    key = "datasets/byo-datasets-dev/custom-llm-judge/llm_judge.jsonl"
    body = ran.sandbox.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    rows = [json.loads(line) for line in body.splitlines()]
    assert len(rows) == 6
    assert len({row["prompt"] for row in rows}) == 6
    assert b"generation failed" not in body  # the notebook writes errors as answers


def test_the_job_of_the_notebook_completed(ran: Ran) -> None:
    job = ran.sandbox.client("sagemaker").describe_training_job(TrainingJobName=ran.looked["job"])
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["HyperParameters"]["model_type"] == "amazon.nova-micro-v1:0:128k"
    results = ran.results()
    total = sum(results[key] for key in ("a_scores", "b_scores", "ties", "inference_error"))
    assert total == 12  # six pairs, each in both orders


def test_the_chart_is_written(ran: Ran) -> None:
    from matplotlib.image import imread

    picture = imread(ran.folder / "evaluation_metrics.png")
    height, width = picture.shape[:2]
    assert height > 900
    assert width > 1200
    dark = (picture[..., :3].min(axis=2) < 0.9).reshape(height, width)
    halves, thirds = (0, height // 2), (0, width // 3, 2 * width // 3)
    for top in halves:
        for left in thirds:
            assert dark[top : top + height // 2, left : left + width // 3].mean() > 0.01


def test_the_numbers_in_the_chart_are_the_jobs(ran: Ran) -> None:
    results = ran.results()
    counts = [results[key] for key in ("a_scores", "b_scores", "ties", "inference_error")]
    assert [height for _, height in ran.panel("Score Distribution")["bars"]] == counts
    (bar,) = ran.panel("B vs A Win Rate")["bars"]
    assert bar[0] == results["winrate"]
    rate, low, high = (f"{results[key]:.3f}" for key in ("winrate", "lower_rate", "upper_rate"))
    assert ran.panel("B vs A Win Rate")["texts"] == [f"{rate}\n[{low}, {high}]"]
    assert f"{results['winrate']:.1%}" in ran.panel("Win Rate Gauge")["texts"]
    table = {tuple(key): text for key, text in ran.panel("Summary Statistics")["table"]}
    assert [table[row, 1] for row in range(1, 9)] == [
        *(str(int(number)) for number in (sum(counts), *counts)),
        rate,
        low,
        high,
    ]
