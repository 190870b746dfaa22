"""lm-eval: a generate_until task over a local file, asked through local-chat-completions."""

import json
import sys
from pathlib import Path

import lm_eval  # type: ignore[import-not-found]
from lm_eval.tasks import TaskManager  # type: ignore[import-not-found]

TASK = """\
task: bench
dataset_path: json
dataset_kwargs:
  data_files:
    test: {prompts}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{prompt_id}}}}"
generation_kwargs:
  until: ["<end>"]
  max_gen_toks: 512
  temperature: 0.7
  do_sample: true
metric_list:
  - metric: exact_match
"""


def main(url: str, prompts: Path, in_flight: int) -> None:
    """Ask every prompt, `in_flight` at once."""
    tasks = Path("tasks")
    tasks.mkdir(exist_ok=True)
    (tasks / "bench.yaml").write_text(TASK.format(prompts=prompts))
    settings = {
        "model": "bench",
        "base_url": f"{url}/v1/chat/completions",
        "num_concurrent": in_flight,
    }
    outcome = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args=settings,
        tasks=["bench"],
        task_manager=TaskManager(include_path=str(tasks)),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    rows = outcome["samples"]["bench"]
    answered = sum(bool(row["resps"][0][0]) for row in rows)
    counts = {"answered": answered, "errors": len(rows) - answered}
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3]))
