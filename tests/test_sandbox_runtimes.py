"""Facts about the sandbox's models: Bedrock and the shapes of endpoint engines."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sandbox_server import Sandbox

from include.sandbox import runtimes
from include.sandbox.errors import AwsError
from include.sandbox.judge import Judge
from include.sandbox.models import Models, Recordings, stand_in
from include.sandbox.settings import JudgeDials, SettingsError

CLAUDE, QWEN = "us.anthropic.claude-sonnet-4-6", "Qwen/Qwen2.5-1.5B-Instruct"
QUESTION = "How do vaccines prepare the body for an infection?"
CONTAINER = {"Image": "huggingface-pytorch-tgi-inference", "Environment": {"HF_MODEL_ID": QWEN}}


def converse(sandbox: Sandbox, model: str, **inference: Any) -> dict[str, Any]:
    return sandbox.client("bedrock-runtime").converse(
        modelId=model,
        messages=[{"role": "user", "content": [{"text": QUESTION}]}],
        inferenceConfig=inference,
    )


def test_converse_answers_with_usage_and_stop_reason(sandbox: Sandbox) -> None:
    answer = converse(sandbox, CLAUDE, maxTokens=500, temperature=0.7)
    assert answer["output"]["message"]["content"][0]["text"] == stand_in(CLAUDE, QUESTION)
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"]["totalTokens"] > 0


def test_a_limit_on_tokens_cuts_a_stand_in_and_says_so(sandbox: Sandbox) -> None:
    answer = converse(sandbox, CLAUDE, maxTokens=5)
    assert answer["stopReason"] == "max_tokens"
    assert len(answer["output"]["message"]["content"][0]["text"].split(" ")) == 5


@pytest.mark.parametrize(
    ("model", "inference", "code", "message"),
    [
        (CLAUDE, {"temperature": 0.5, "topP": 0.9}, "ValidationException", "cannot both"),
        ("global.anthropic.claude-sonnet-5", {"temperature": 0.5}, "ValidationException", "depr"),
        (
            "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
            {},
            "ResourceNotFoundException",
            "reached the end of its life",
        ),
        ("no-such-model", {}, "ValidationException", "identifier is invalid"),
    ],
)
def test_bedrock_refuses_what_aws_refuses(
    sandbox: Sandbox, model: str, inference: dict[str, float], code: str, message: str
) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        converse(sandbox, model, **inference)
    assert caught.value.response["Error"]["Code"] == code


def test_a_stand_in_writes_about_all_that_the_user_has_said() -> None:
    said = ["Volcanoes.", "Interesting.", "Glaciers."]
    roles = ["user", "assistant", "user"]
    messages = [{"role": r, "content": text} for r, text in zip(roles, said, strict=True)]
    body = {"messages": messages, "max_tokens": 500}
    answer = runtimes.converse(Models(Recordings(None)), CLAUDE, body)
    text = answer["output"]["message"]["content"][0]["text"]
    assert text == stand_in(CLAUDE, "Volcanoes.\nGlaciers.")


def test_a_role_that_no_message_has_is_refused() -> None:
    message = {"role": "judge", "content": [{"text": "Hi"}]}
    with pytest.raises(AwsError, match="'judge' is not a role; user, assistant and system are"):
        runtimes.converse(Models(Recordings(None)), CLAUDE, {"messages": [message]})


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (
            {
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": 200,
                "messages": [{"role": "user", "content": QUESTION}],
            },
            ("content", 0, "text"),
        ),
        (
            {"messages": [{"role": "user", "content": [{"text": QUESTION}]}]},
            ("output", "message", "content", 0, "text"),
        ),
    ],
    ids=["anthropic", "nova"],
)
def test_invoke_model_speaks_both_vendors_bodies(
    sandbox: Sandbox, body: dict[str, Any], path: tuple[Any, ...]
) -> None:
    runtime = sandbox.client("bedrock-runtime")
    answer = json.loads(runtime.invoke_model(modelId=CLAUDE, body=json.dumps(body))["body"].read())
    for part in path:
        answer = answer[part]
    assert answer == stand_in(CLAUDE, QUESTION)


@pytest.mark.parametrize(
    ("image", "shape"),
    [("huggingface-pytorch-tgi-inference", list), ("djl-inference:0.33.0-lmi15.0.0", dict)],
)
def test_raw_inputs_are_answered_in_the_engines_shape(image: str, shape: type) -> None:
    container = {**CONTAINER, "Image": image}
    answer = runtimes.invoke_endpoint(Models(Recordings(None)), container, {"inputs": QUESTION})
    assert isinstance(answer, shape)


def test_tgi_puts_the_prompt_in_front_unless_it_is_asked_for_the_new_text_alone() -> None:
    container = {**CONTAINER, "Image": "huggingface-pytorch-tgi-inference"}

    def invoke(**parameters: Any) -> Any:
        body = {"inputs": QUESTION, "parameters": parameters}
        return runtimes.invoke_endpoint(Models(Recordings(None)), container, body)[0]

    (alone,) = [invoke(return_full_text=False)]
    assert invoke() == {"generated_text": QUESTION + alone["generated_text"]}
    told = invoke(return_full_text=False, details=True, max_new_tokens=3)["details"]
    assert told == {"finish_reason": "length", "generated_tokens": 3}
    with pytest.raises(AwsError, match="must be > 0"):
        invoke(top_p=1)


def test_recordings_of_one_prompt_are_put_together_and_a_wrong_row_is_named(
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": "Why?", "responses": {"a": "Because."}},
        {"prompt": "Why?", "responses": {"b": "So."}, "preference": {"b": 1.5}},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    known = Recordings(path)
    assert (known.response("Why?", "a"), known.response("Why?", "b")) == ("Because.", "So.")
    both = [
        {
            "prompt": "Why?",
            "responses": {"a": "Because.", name: f"{name}."},
            "preference": {name: n},
        }
        for name, n in (("b", 1.2), ("c", 1.8))
    ]
    path.write_text("\n".join(map(json.dumps, both)))
    assert Recordings(path).preference_for_b("Why?", "Because.", "c.") == 1.8
    other = {"prompt": "Why?", "responses": {"b": "b.", "d": "d."}, "preference": {"d": 1.9}}
    path.write_text("\n".join(map(json.dumps, [*both, other])))
    with pytest.raises(SettingsError, match="a candidate here and a baseline elsewhere"):
        Recordings(path)
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps({"prompt": "What?"}))
    with pytest.raises(SettingsError, match=r"rows\.jsonl:2: expected"):
        Recordings(path)


def test_vllm_takes_no_raw_inputs() -> None:
    with pytest.raises(AwsError, match="messages is required"):
        runtimes.invoke_endpoint(
            Models(Recordings(None)), {**CONTAINER, "Image": "vllm:0.30.0"}, {"inputs": QUESTION}
        )


def test_another_seed_gives_other_answers_of_the_same_kind() -> None:
    questions = [f"What is the {n}th rule of a good kitchen garden?" for n in range(40)]
    first, again, other = (
        [stand_in(CLAUDE, question, seed) for question in questions] for seed in (1, 1, 2)
    )
    assert first == again
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 4
    judge = Judge(Recordings(None), JudgeDials())
    said = [judge.judge(q, stand_in(QWEN, q, 1), stand_in(CLAUDE, q, 2)) for q in questions]
    assert sum(each.for_responses == ["B", "B"] for each in said) > 25


def test_the_stand_in_judge_prefers_the_abler_model_without_knowing_names() -> None:
    judge = Judge(Recordings(None), JudgeDials())
    questions = [f"{QUESTION} Case {number}, about topic {number * 7}." for number in range(300)]
    said = [judge.judge(q, stand_in(QWEN, q), stand_in(CLAUDE, q)).for_responses for q in questions]
    won = said.count(["B", "B"]) / len(said)
    split = sum(one != other for one, other in said) / len(said)
    assert 0.6 < won < 0.9
    assert 0.0 < split < 0.25


def test_the_dials_turn_the_judge() -> None:
    def shares(**dials: float) -> dict[str | None, float]:
        judge = Judge(Recordings(None), JudgeDials(**dials))  # type: ignore[arg-type]
        said = [
            verdict
            for n in range(300)
            for judged in [judge.judge(f"q{n}", "a short text", "another text")]
            for verdict in (judged.forward, judged.backward)
        ]
        return {verdict: said.count(verdict) / len(said) for verdict in set(said)}

    assert shares(position_bias=1.0) == {"A>B": 1.0}
    assert shares(position_bias=-1.0) == {"B>A": 1.0}
    assert shares(errors=1.0) == {None: 1.0}
    assert 0.2 < shares(ties=0.3)["A=B"] < 0.4
