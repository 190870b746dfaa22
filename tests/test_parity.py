"""Facts about what sets models apart besides their answers."""

import dataclasses

import pytest

from include import parity
from include.config import BedrockModel, Dataset, Parameters, ResponsesModel, SageMakerModel
from include.model_summary import summarize
from include.records import Notice, ResponseCounts, SystemPrompt

DATASET = Dataset(source="prompts.jsonl")
QWEN = SageMakerModel(name="qwen", provider="sagemaker", endpoint_name="e")
CLAUDE = BedrockModel(name="claude", provider="bedrock", model_id="anthropic.claude")
OLD = ResponsesModel(name="old", provider="responses", source="old.jsonl", id_field="id")


def asked(model, *, dataset=DATASET, system=None, counts=None, **parameters):
    if parameters:
        model = model.model_copy(update={"parameters": Parameters(**parameters)})
    found = summarize(
        [],
        name=model.name,
        role="candidate",
        provider=model.provider,
        model_id=None,
        settings=parity.settings(model, dataset, system),
        prompts=None,
    )
    return dataclasses.replace(found, responses=counts) if counts else found


def counts(ok=0, truncated=0, empty=0, refused=0, error=0, missing=0):
    return ResponseCounts(ok, truncated, empty, refused, error, missing)


def sentences(*models):
    notices = parity.differences(models)
    assert {notice.code for notice in notices} <= {"settings_differ"}
    return [notice.message for notice in notices]


def test_models_asked_alike_do_not_differ():
    same = {"max_tokens": 512, "temperature": 0.7, "stop": ["END"]}
    assert sentences(asked(QWEN, **same), asked(CLAUDE, **same)) == []


@pytest.mark.parametrize(
    ("baseline", "candidate", "sentence"),
    [
        (
            asked(QWEN, temperature=1),
            asked(CLAUDE, temperature=0.7),
            "claude is asked with temperature 0.7, qwen with temperature 1.0",
        ),
        (
            asked(QWEN, max_tokens=256),
            asked(CLAUDE, max_tokens=512),
            "claude is asked with max_tokens 512, qwen with max_tokens 256",
        ),
        (
            asked(QWEN, top_p=0.9),
            asked(CLAUDE),
            "claude is asked without top_p, qwen with top_p 0.9",
        ),
        (
            asked(QWEN),
            asked(CLAUDE, stop=["\n"]),
            'claude is asked with stop ["\\n"], qwen without stop',
        ),
        (
            asked(QWEN.model_copy(update={"schema_": "inputs"})),
            asked(CLAUDE),
            "claude is asked with chat messages, qwen with raw text, no chat template",
        ),
        (
            asked(QWEN),
            asked(CLAUDE.model_copy(update={"batch": True})),
            "claude is asked in one batch, qwen one by one",
        ),
    ],
)
def test_every_difference_in_settings_is_one_sentence(baseline, candidate, sentence):
    assert sentences(baseline, candidate) == [sentence]


def test_settings_of_responses_that_exist_are_not_known():
    known = "the responses of old existed before this run: what it was asked with is not known"
    assert asked(OLD).settings is None
    assert sentences(asked(QWEN, temperature=1), asked(OLD)) == [known]
    assert sentences(asked(OLD), asked(QWEN, temperature=1), asked(CLAUDE)) == [known]


def test_each_candidate_is_compared_with_the_baseline():
    other = CLAUDE.model_copy(update={"name": "other"})
    found = sentences(asked(QWEN, temperature=0), asked(CLAUDE, temperature=0), asked(other))
    assert found == ["other is asked without temperature, qwen with temperature 0.0"]


def test_the_table_marks_what_is_not_as_for_the_baseline():
    rows = {
        row.name: row
        for row in parity.table(
            [asked(QWEN, temperature=1), asked(CLAUDE, temperature=0.7), asked(OLD)]
        )
    }
    assert rows["temperature"].values == ["1.0", "0.7", "not known"]
    assert rows["temperature"].differs == [False, True, True]
    assert rows["max_tokens"].values == ["not sent", "not sent", "not known"]
    assert rows["max_tokens"].differs == [False, False, True]
    assert parity.table([]) == []


def test_a_system_prompt_is_told_by_file_version_and_digest():
    loaded = SystemPrompt("system.txt", "7", "ab" * 32)
    assert parity.system_prompt(DATASET, loaded) == loaded
    assert parity.system_prompt(DATASET, None) is None
    inline = parity.system_prompt(Dataset(source="x", system_prompt="Be kind."), None)
    # printf 'Be kind.' | sha256sum
    assert inline.sha256.startswith("5499befb38dbf3fc")
    (row,) = [r for r in parity.table([asked(QWEN, system=loaded)]) if r.name == "system prompt"]
    assert row.values == ["system.txt, version 7, sha256 abababababab"]


def test_conversations_have_no_prompt_template():
    found = asked(QWEN, dataset=Dataset(source="x", messages_field="chat")).settings
    assert (found.prompt_template, found.messages_field) == (None, "chat")
    assert asked(QWEN).settings.prompt_template == "{prompt}"


def test_a_model_that_is_cut_off_more_often_is_named():
    models = asked(QWEN, counts=counts(98, 2)), asked(CLAUDE, counts=counts(80, 20))
    assert parity.asymmetries(models) == [
        Notice(
            "truncated_more",
            "20 % of the responses of claude are cut off before their end, 2 % of qwen's",
        )
    ]
    assert parity.asymmetries(models[::-1]) == parity.asymmetries(models)


def test_whether_existing_responses_were_cut_off_is_not_known():
    models = asked(QWEN, counts=counts(50, 50)), asked(OLD, counts=counts(100))
    assert parity.asymmetries(models) == []


def test_a_model_that_fails_more_often_is_named():
    models = asked(QWEN, counts=counts(90, 0, 3, 3, 4, 5)), asked(CLAUDE, counts=counts(100))
    (notice,) = parity.asymmetries(models)
    assert notice.code == "failed_more"
    assert notice.message.startswith("10 % of the responses of qwen cannot be used, 0 % of claude")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (counts(4, 2), counts(6)),  # fisher_exact([[2, 4], [0, 6]]): p = .45
        (counts(92, 8), counts(99, 1)),  # p = .035
        (counts(9_600, 400), counts(10_000)),  # 4 points: beyond chance, but small
        (counts(), counts(10)),
    ],
)
def test_chance_and_small_differences_are_not_told(one, other):
    assert parity.asymmetries([asked(QWEN, counts=one), asked(CLAUDE, counts=other)]) == []


def test_eight_points_of_a_thousand_are_told():
    one, other = counts(920, 80), counts(990, 10)  # fisher_exact: p = 3e-15
    (notice,) = parity.asymmetries([asked(QWEN, counts=one), asked(CLAUDE, counts=other)])
    assert notice.code == "truncated_more"
