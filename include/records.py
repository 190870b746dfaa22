"""The words of the pipeline as records: every stage takes some of these and returns others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "truncated", "empty", "refused", "error"]
"""What became of one request for a response. `ok` and `truncated` are usable."""

OVER_BUDGET = "OverBudget"
"""Error type of a response that was not asked for because the run's budget is spent."""

Order = Literal["forward", "backward"]
"""`forward`: the baseline in position A. `backward`: the candidate in position A."""

Verdict = Literal["A>B", "B>A", "A=B"]
"""What the judge said about positions A and B as it saw them."""

Preference = Literal["candidate", "baseline", "tie"]

ComparisonVerdict = Literal["candidate_better", "baseline_better", "inconclusive"]

Evidence = Literal["per_pair", "aggregate"]

GateOutcome = Literal["pass", "fail", "inconclusive", "none"]

RunStatus = Literal["complete", "partial", "capped", "failed"]


@dataclass(frozen=True)
class Turn:
    """One earlier message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Prompt:
    """One input that every model answers."""

    prompt_id: str
    text: str
    """What the user says; in a conversation, what the user says last."""
    system: str | None = None
    category: str | None = None
    group: str | None = None
    """Prompts of one group are not independent (one article, one template); None: its own group."""
    reference: str | None = None
    """The data set's own answer, if it has one. Never shown to the models or the judge."""
    turns: tuple[Turn, ...] = ()
    """The conversation before `text`, oldest first; empty where there is none."""

    def __post_init__(self) -> None:
        """Turn what JSON has made of the turns into turns again."""
        turns = tuple(t if isinstance(t, Turn) else Turn(**t) for t in self.turns)
        object.__setattr__(self, "turns", turns)

    @property
    def characters(self) -> int:
        """Of all that a model reads."""
        texts = (self.system or "", self.text, *(turn.text for turn in self.turns))
        return sum(map(len, texts))


@dataclass(frozen=True)
class Response:
    """One model's answer to one prompt, or the record of why there is none."""

    prompt_id: str
    model: str
    outcome: Outcome
    text: str | None
    """The model's text; None unless the outcome is `ok` or `truncated`."""
    error_type: str | None = None
    error_message: str | None = None
    attempts: int = 1
    latency_ms: float | None = None
    """Of the last attempt."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    stop_reason: str | None = None
    key: str = ""
    """Digest of all that the response depends on: artefact, parameters, template and prompt."""
    created_at: str = ""
    """ISO 8601, UTC."""
    reused_from: str | None = None
    """The run folder that it was taken from; None: this run asked for it."""

    @property
    def usable(self) -> bool:
        """Whether the judge may see it."""
        return self.outcome in ("ok", "truncated")

    @property
    def left_out(self) -> bool:
        """Whether it is missing for want of money, and says nothing about the model."""
        return self.error_type == OVER_BUDGET


PairStatus = Literal[
    "judged",
    "identical",
    "too_long",
    "baseline_failed",
    "candidate_failed",
    "both_failed",
]
"""`judged` pairs are in the judge's input; `identical` responses are a tie without asking."""


@dataclass(frozen=True)
class PairDigests:
    """SHA-256 of a pair's texts: what is left of them in a run that keeps no texts."""

    prompt: str
    baseline: str | None
    candidate: str | None


@dataclass(frozen=True)
class Pair:
    """One prompt with the responses of baseline and candidate."""

    prompt_id: str
    prompt: str
    """The text that the judge sees, the system prompt included."""
    baseline: str | None
    candidate: str | None
    status: PairStatus
    category: str | None = None
    group: str | None = None
    digests: PairDigests | None = None
    """Instead of the three texts, where they are gone; those are then empty and None."""

    @property
    def prompt_sha256(self) -> str:
        """Digest of the prompt, which outlives its text."""
        return self.digests.prompt if self.digests else sha256(self.prompt)


def sha256(text: str) -> str:
    """Return the SHA-256 of a text as hex digits; a lone surrogate in it does no harm."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Judgment:
    """One verdict of the judge about one pair in one order, or the record of why there is none."""

    prompt_id: str
    order: Order
    verdict: Verdict | None
    error: str | None = None
    order_known: bool = True
    """Whether the judge told that it was this order; else only what both came to is known."""

    @property
    def preference(self) -> Preference | None:
        """The verdict with positions turned back into roles."""
        if self.verdict is None:
            return None
        if self.verdict == "A=B":
            return "tie"
        in_a: Preference = "baseline" if self.order == "forward" else "candidate"
        in_b: Preference = "candidate" if self.order == "forward" else "baseline"
        return in_a if self.verdict == "A>B" else in_b


CriterionKind = Literal["scale", "binary"]
"""`scale`: scores from 1 to 5. `binary`: 0 or 1."""


@dataclass(frozen=True)
class Criterion:
    """One thing that a rubric judge looked at in one pair, positions turned back into roles."""

    name: str
    kind: CriterionKind | None
    weight: float | None
    description: str | None
    baseline_score: float | None
    """As the judge gave it, on the criterion's own scale."""
    candidate_score: float | None
    baseline_justification: str | None
    candidate_justification: str | None


@dataclass(frozen=True)
class RubricScore:
    """How a rubric judge scored one pair; whoever wins is still said by its judgments."""

    prompt_id: str
    baseline: float | None
    """Weighted score from 0 to 1: Nova's `weighted_score_A`."""
    candidate: float | None
    """Nova's `weighted_score_B`."""
    margin: float | None
    """Nova's `score_margin`: baseline minus candidate, so negative favours the candidate."""
    criteria: list[Criterion] = field(default_factory=list)
    justification: str | None = None
    """What the judge says about the pair as a whole."""


@dataclass(frozen=True)
class JudgeOutput:
    """What one judge job wrote: its own metrics, and the judgments where it left details."""

    metrics: dict[str, float | None]
    """The container's `results.all`, untouched; NaN as None."""
    judgments: list[Judgment] | None
    """None without details; pairs that the details do not mention have no judgments."""
    warnings: list[Notice] = field(default_factory=list)
    orders_known: bool = True
    """Whether each judgment's order is known, or only what both came to."""
    rubric: list[RubricScore] = field(default_factory=list)
    """The scores of a rubric judge, one per pair that its details mention; else empty."""


@dataclass(frozen=True)
class Notice:
    """Something that a reader of the summary must know."""

    code: str
    message: str


@dataclass(frozen=True)
class GenerationErrors:
    """Responses that could not be used, per role."""

    baseline: int
    candidate: int


@dataclass(frozen=True)
class Counts:
    """How many of what; None where aggregate evidence cannot tell."""

    prompts: int
    generation_errors: GenerationErrors
    pairs: int | None
    """Pairs with both judgments valid."""
    unresolved: int | None
    """Pairs with one judgment or none."""
    judgments: int
    """Valid judgments."""
    inference_errors: int
    candidate_wins: int | None
    baseline_wins: int | None
    ties: int | None
    """Inconsistent pairs included."""
    inconsistent: int | None


@dataclass(frozen=True)
class WinRate:
    """The candidate's share of pairs, ties counted half; no interval: bounds are None."""

    estimate: float | None
    low: float | None
    high: float | None
    confidence_level: float
    """Of this interval: with several candidates higher than the evaluation's."""
    method: str
    standard_error: float | None = None
    """Of the estimate; the largest possible one where the evidence is aggregate."""
    units: int | None = None
    """Independent prompts, pairs or groups."""
    adjusted_for: int = 1
    """How many candidates' intervals hold together with the evaluation's confidence level."""


@dataclass(frozen=True)
class Rate:
    """A share with its interval; None where it is not known, or has no interval."""

    estimate: float | None
    low: float | None
    high: float | None
    confidence_level: float
    method: str
    count: int | None
    """How many of `of` it is."""
    of: int | None


@dataclass(frozen=True)
class Reliability:
    """How far the judge can be believed; the intervals inform, the estimates are compared."""

    consistency: Rate
    """Of the pairs with both judgments, those whose two orders agree."""
    preference_for_a: Rate
    """Of the judgments that named a winner, those that named position A; fair is 0.5."""
    ties: Rate
    """Of the valid judgments, those that named no winner."""
    errors: Rate
    """Of the expected judgments, two per judged pair, those that are invalid or absent."""


@dataclass(frozen=True)
class MissingBounds:
    """The win rate if all pairs without a preference had gone to one model."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class Missing:
    """Prompts that no preference speaks for, and why; None where it cannot be told."""

    prompts: int | None
    coverage: float | None
    """Share of the prompts that the win rate rests on."""
    baseline_failed: int
    """Only the baseline's response cannot be used."""
    candidate_failed: int
    both_failed: int
    too_long: int
    no_verdict: int | None
    """The judge was asked and left one valid judgment or none."""
    asymmetry_p_value: float | None
    """Of the exact test that both models fail equally often; None where neither failed alone."""


@dataclass(frozen=True)
class Position:
    """How far the judge follows positions instead of responses."""

    consistency: float | None
    """Share of pairs whose two orders agree."""
    preference_for_a: float | None
    """Share of position A among the judgments that named a winner."""


@dataclass(frozen=True)
class OrderCount:
    """Pairs by what the judge preferred in each of their two orders."""

    forward: Preference | None
    """With the baseline in position A; None: no valid verdict."""
    backward: Preference | None
    """With the candidate in position A."""
    pairs: int


@dataclass(frozen=True)
class LengthBin:
    """Pairs whose responses differ in length by about the same factor."""

    shortest: float
    """Least ratio of lengths in it: the candidate's characters by the baseline's."""
    longest: float
    win_rate: WinRate
    pairs: int


@dataclass(frozen=True)
class LengthResult:
    """How length and preference go together; it explains nothing and decides nothing."""

    baseline: float
    """Median characters of its responses, over the pairs with a preference."""
    candidate: float
    longer_wins: Rate
    """Of the pairs with a winner and responses of different length, those that the longer won."""
    bins: list[LengthBin]
    """Equal parts of the pairs, from the candidate's shortest to its longest responses."""
    at_equal_length: WinRate | None = None
    """By a logistic model in the difference of lengths; None in summaries from before it."""


@dataclass(frozen=True)
class MarginBin:
    """Pairs by a rubric judge's margin."""

    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class CategoryResult:
    """The comparison within one category of prompts.

    Its interval is adjusted neither for the number of categories nor for that of candidates: some
    of many will exclude 0.5 by chance, so it decides nothing.
    """

    category: str
    counts: Counts
    win_rate: WinRate
    deciding: WinRate | None = None
    """Adjusted for categories and candidates (Bonferroni): what a gate by category looks at."""
    missing_bounds: MissingBounds = MissingBounds(None, None)


@dataclass(frozen=True)
class Reconciliation:
    """One of Nova's own numbers beside ours."""

    metric: str
    nova: float | None
    recomputed: float | None
    unit: Literal["judgments", "pairs", "share", "score"]
    note: str


@dataclass(frozen=True)
class CriterionResult:
    """A criterion over all pairs in which a rubric judge scored both responses by it."""

    name: str
    kind: CriterionKind | None
    """None: not told, or not the same in all pairs."""
    pairs: int
    weight: float | None
    """Mean weight."""
    baseline: float | None
    """Mean score from 0 to 1."""
    candidate: float | None
    lead: float | None = None
    """Candidate's score minus baseline's, mean over the pairs: from -1 to 1."""
    low: float | None = None
    """Of the lead's interval; None where there is none."""
    high: float | None = None


@dataclass(frozen=True)
class RubricResult:
    """Means over the scores of a rubric judge; they decide nothing."""

    pairs: int
    """Pairs with scores."""
    baseline: float | None
    """Mean weighted score from 0 to 1."""
    candidate: float | None
    margin: float | None
    """Mean of baseline minus candidate: negative favours the candidate, as in Nova's metrics."""
    criteria: list[CriterionResult]
    """Those used in most pairs; the judge writes criteria anew for every prompt."""
    criteria_omitted: int
    """How many more criteria there were."""
    margins: list[MarginBin] = field(default_factory=list)
    """How the margins spread, in bins of 0.1 around -1 to 1."""


@dataclass(frozen=True)
class LeftOut:
    """Prompts that a comparison of two runs cannot use."""

    only_earlier: int
    only_later: int
    different_prompt: int
    """The same id with another text."""
    no_preference: int
    """Shared, but without a preference in one of the runs or in both."""


@dataclass(frozen=True)
class CategoryChange:
    """What became of a candidate within one category, adjusted for categories and candidates."""

    category: str
    prompts: int
    difference: float | None
    low: float | None
    high: float | None
    confidence_level: float
    missing_bounds: MissingBounds = MissingBounds(None, None)
    """As those of the whole change."""


@dataclass(frozen=True)
class Change:
    """What became of a candidate between two runs, on the prompts that both have."""

    verdict: Literal["better", "worse", "inconclusive"]
    """The later run's candidate, as the interval of the difference says."""
    sentence: str
    prompts: int
    """Shared ones with a preference in both runs: all numbers rest on them."""
    earlier: float | None
    """The candidate's win rate on these, ties half."""
    later: float | None
    difference: float | None
    """Later minus earlier: from -1 to 1."""
    low: float | None
    high: float | None
    confidence_level: float
    method: str
    units: int
    improved: int
    """Prompts with a better preference in the later run."""
    worsened: int
    unchanged: int
    sign_test_p_value: float | None
    left_out: LeftOut
    by_category: list[CategoryChange] = field(default_factory=list)
    """Empty unless the gate looks at categories."""
    missing_bounds: MissingBounds = MissingBounds(None, None)
    """The difference if every preference that only one of the runs lacks had been the worst for the
    later run's candidate, or the best."""


@dataclass(frozen=True)
class Judged:
    """What labels are about; where one of these is another, they are stale."""

    comparison: str
    """Stands for evaluation, baseline and candidate, without naming them."""
    dataset: str | None
    """SHA-256 of the prompts; None, here and below: not known, and no other."""
    judge_image: str | None
    judge_image_digest: str | None
    recipe: str | None
    """SHA-256 of the judge's recipe."""


@dataclass(frozen=True)
class Label:
    """What people prefer in one pair."""

    prompt_id: str
    preference: Preference
    baseline: str
    """SHA-256 of the baseline's response."""
    candidate: str
    people: int = 1
    """How many labelled it."""


Drawn = Literal["random", "chosen"]
"""How the pairs to be labelled were found: only `random` ones stand for all others."""


@dataclass(frozen=True)
class Labels:
    """People's preferences in pairs of one comparison."""

    judged: Judged
    drawn: Drawn
    labels: list[Label]
    unlabelled: int
    """Rows of the form that were left empty."""


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa: agreement beyond chance. 0: none, 1: always."""

    estimate: float | None
    """None where both always say one and the same thing."""
    low: float | None
    high: float | None
    confidence_level: float
    method: str


@dataclass(frozen=True)
class ConfusionCount:
    """Pairs by what people and the judge prefer."""

    human: Preference
    judge: Preference
    pairs: int


@dataclass(frozen=True)
class CategoryAgreement:
    """People and the judge within one category of prompts; adjusted for nothing."""

    category: str
    agreement: Rate
    confusion: list[ConfusionCount]


@dataclass(frozen=True)
class HumanResult:
    """What people's labels say about the judge; it decides nothing."""

    sentence: str
    labels: int
    """Pairs with a label."""
    unlabelled: int
    """Rows of the form that were left empty."""
    drawn: Drawn
    agreement: Rate
    """Of the labelled pairs, those on which people and the judge prefer the same."""
    kappa: Kappa
    confusion: list[ConfusionCount]
    """All nine."""
    by_category: list[CategoryAgreement]
    alone: WinRate | None
    """The candidate's win rate by the labels alone; None where their pairs are not random."""
    corrected: WinRate | None
    """By labels and judge together, as people would see all pairs; None as above."""
    weight: float | None
    """How far the corrected one uses the judge, from 0 (not at all) to 1."""
    doubt: str | None
    """Why the verdict is to be doubted; None: the labels give no reason."""


@dataclass(frozen=True)
class BothPrefer:
    """Pairs by what two judges prefer."""

    first: Preference
    second: Preference
    pairs: int


@dataclass(frozen=True)
class SecondJudge:
    """What another judge says about the same pairs; it decides nothing."""

    recipe: str
    """Its model and task."""
    verdict: ComparisonVerdict
    sentence: str
    win_rate: WinRate
    agreement: Rate
    """Of the pairs with a preference of both judges, those with the same one."""
    kappa: Kappa
    table: list[BothPrefer]
    """These pairs, the commonest first."""
    opposed: list[str]
    """Prompts on which one judge prefers the candidate and the other the baseline; some of them."""
    rubric: RubricResult | None = None
    """What its scores come to, if it is a rubric judge."""


@dataclass(frozen=True)
class Comparison:
    """One candidate against the baseline."""

    baseline: str
    candidate: str
    verdict: ComparisonVerdict
    sentence: str
    evidence: Evidence
    counts: Counts
    win_rate: WinRate
    missing_bounds: MissingBounds
    sign_test_p_value: float | None
    position: Position
    detectable_effect: float | None
    """Distance from 0.5 that these pairs would show with 80 % power."""
    needed_pairs: int | None
    """Pairs that 80 % power would take at the estimated win rate."""
    by_category: list[CategoryResult]
    nova: dict[str, float | None]
    reconciliation: list[Reconciliation]
    unreliable: str | None = None
    """Why the verdict is inconclusive whatever the interval says; None: the numbers may decide."""
    rubric: RubricResult | None = None
    """What the scores of a rubric judge come to; None for a judge without a rubric."""
    reliability: Reliability | None = None
    """None in summaries of earlier versions."""
    missing: Missing | None = None
    """None in summaries of earlier versions."""
    orders: list[OrderCount] = field(default_factory=list)
    """Of the judged pairs; empty where nobody knows what was said in which order."""
    lengths: LengthResult | None = None
    """None without preferences of single pairs."""
    change: Change | None = None
    """Since the last accepted run; None where there is none to compare with."""
    second: SecondJudge | None = None
    """None without a second judge, or where one of the two left no preferences of single pairs."""
    partial: str | None = None
    """Which prompts it does not rest on, as the budget was reached; None: it rests on all."""
    human: HumanResult | None = None
    """What people's labels say about the judge; None without labels."""


@dataclass(frozen=True)
class JudgeImage:
    """The container that judged."""

    uri: str
    digest: str | None
    """Of the image that the URI's tag pointed to then; None: not known."""

    def is_another(self, than: JudgeImage) -> bool:
        """Whether it is surely not the same: a digest that is not known tells nothing."""
        known = None not in (self.digest, than.digest)
        return self.uri != than.uri or (known and self.digest != than.digest)


@dataclass(frozen=True)
class JudgeRound:
    """What the judge said about the anchor pairs at one time."""

    started_at: str
    """Of the run that asked, ISO 8601."""
    run_folder: str
    image: JudgeImage
    preferences: dict[str, Preference | None]
    """By the anchor's id, response B as the candidate's."""


JudgeVerdict = Literal["changed", "unchanged", "inconclusive"]


@dataclass(frozen=True)
class JudgeChange:
    """How differently the judge judges the anchor pairs now."""

    verdict: JudgeVerdict
    sentence: str
    anchors: int
    """Those with a preference in both rounds."""
    same: int
    """Of these, those with the same preference."""
    difference: float | None
    """Of response B's win rate: later minus earlier, from -1 to 1."""
    low: float | None
    high: float | None
    confidence_level: float
    earlier_at: str
    """When the run of the earlier round started, ISO 8601."""
    earlier_image: JudgeImage
    later_at: str
    later_image: JudgeImage


@dataclass(frozen=True)
class Screen:
    """One way in which numbers become worthless, and whether it was seen."""

    name: str
    """`canary_null`, `constant_answers`, `addresses_the_judge` and the like."""
    passed: bool | None
    """None: nothing was there to tell by."""
    text: str
    """What was seen, as a clause."""
    count: int
    """How many of `of` are as they should be."""
    of: int
    model: str | None = None
    """Whose responses it is about; None: it is about the judge."""


@dataclass(frozen=True)
class Gate:
    """What the run decides about the candidate."""

    outcome: GateOutcome
    reason: str
    threshold: float | None = None
    """The win rate that the rule asks for; None without a rule."""


@dataclass(frozen=True)
class Difference:
    """Something that was otherwise in an earlier run."""

    what: str
    earlier: str
    later: str


@dataclass(frozen=True)
class EarlierRun:
    """The run that this one is compared with."""

    run_id: str
    started_at: str
    """ISO 8601, UTC."""
    uri: str
    differences: list[Difference]
    """What else changed: part of every change, and not to be told apart from it."""


@dataclass(frozen=True)
class SummaryEnvironment:
    """Where the run happened."""

    name: str
    kind: Literal["sandbox", "aws"]
    account_id: str
    region: str


@dataclass(frozen=True)
class CostPart:
    """One thing that was paid for; the parts add up to `actual`."""

    what: str
    quantity: float
    unit: Literal["instance hours", "million tokens"]
    price: float
    """For one unit."""
    amount: float


@dataclass(frozen=True)
class Cost:
    """Money, in the currency of the price file."""

    estimated: float | None
    """Before anything was paid for; None: the run did not get there."""
    actual: float | None
    currency: str
    priced_at: str
    parts: list[CostPart] = field(default_factory=list)
    """Of `actual`."""


@dataclass(frozen=True)
class SystemPrompt:
    """Which system prompt the models got, not its text."""

    file: str | None
    """None: it is written in the evaluation."""
    version: str | None
    sha256: str | None


@dataclass(frozen=True)
class ModelSettings:
    """What a model was asked with; of the parameters, None was not sent."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: list[str] | None
    schema: Literal["messages", "inputs"]
    """`messages`: through the model's chat template; `inputs`: raw text."""
    prompt_template: str | None
    """None where the prompts are conversations."""
    messages_field: str | None
    system_prompt: SystemPrompt | None
    batch: bool


@dataclass(frozen=True)
class ResponseCounts:
    """What became of the prompts of one model; they add up to the prompts."""

    ok: int
    truncated: int
    empty: int
    refused: int
    error: int
    missing: int
    """Prompts without any record: nobody came to ask. 0 where the prompts are not known."""

    @property
    def usable(self) -> int:
        """Responses that the judge may see."""
        return self.ok + self.truncated

    @property
    def total(self) -> int:
        """All prompts."""
        return self.usable + self.empty + self.refused + self.error + self.missing


@dataclass(frozen=True)
class Latency:
    """Of the usable responses, in milliseconds, each without its earlier attempts."""

    median: float
    p95: float


@dataclass(frozen=True)
class ErrorExample:
    """One kind of response that cannot be used, and one of that kind."""

    error_type: str
    """Of an error; else the outcome."""
    count: int
    prompt_id: str
    message: str | None
    """At most 300 characters; None in a run that keeps no texts."""


@dataclass(frozen=True)
class Repetition:
    """The response that a model gave to more different prompts than any other."""

    count: int
    prompts: int
    """Different prompts with a usable response."""
    prompt_id: str
    """One of those that got it."""
    text: str | None
    """Its beginning; None in a run that keeps no texts."""


@dataclass(frozen=True)
class Occurrence:
    """How many responses are of some kind, and one of them."""

    count: int
    prompt_id: str | None
    """None where there is none."""


@dataclass(frozen=True)
class ModelSummary:
    """One model of a run: what it was asked with and what became of its responses."""

    name: str
    role: Literal["baseline", "candidate"]
    provider: str
    model_id: str | None
    settings: ModelSettings | None
    """None: its responses existed before, so nobody here knows."""
    responses: ResponseCounts
    latency_ms: Latency | None
    """None where no usable response has one."""
    input_tokens: int | None
    """Sum over all responses, reused ones included; None unless every usable one tells."""
    output_tokens: int | None
    median_characters: float | None
    """Of the usable responses."""
    median_output_tokens: float | None
    retries: int
    """Attempts beyond the first, over all prompts."""
    reused: int
    """Responses taken from earlier runs."""
    oldest: str | None
    """When the oldest of those was made. ISO 8601, UTC."""
    errors: list[ErrorExample]
    """The three commonest kinds of responses that cannot be used."""
    repetition: Repetition | None
    """None without usable responses."""
    addressing_judge: Occurrence
    """Usable responses that speak to whoever judges them."""
    cost: Cost | None = None
    """None: the run's `cost` has the parts of all models."""


@dataclass(frozen=True)
class BoardModel:
    """One model's place among all models of a run."""

    model: str
    log_strength: float
    """Its Bradley-Terry strength over the baseline's, natural logarithm, with one imagined win and
    loss per candidate, so that it is finite; the ranks rest on it."""
    win_rate: float
    """Against the baseline, as the strengths have it, nothing imagined; 0.5 for the baseline."""
    low: float | None
    """Of the win rate; all intervals and ranks hold together. None: the baseline, or one unit."""
    high: float | None
    best_rank: int
    """1 + the models that are surely stronger."""
    worst_rank: int
    """All models but those that are surely weaker."""
    not_told_from: list[str]
    """Models that it can be told neither stronger nor weaker than."""


@dataclass(frozen=True)
class BoardPairing:
    """Two models that were compared, and how that fits their strengths."""

    first: str
    second: str
    pairs: int
    """With a preference."""
    observed: float
    """The second model's win rate, ties half."""
    expected: float
    """What the strengths say it is."""
    fits: bool
    """Whether the two differ by no more than chance would have it."""


@dataclass(frozen=True)
class Board:
    """All models of a run on one scale, each with the set of ranks that it may have."""

    baseline: str
    models: list[BoardModel]
    """The strongest first."""
    pairings: list[BoardPairing]
    units: int
    """Independent prompts or groups, over all pairings."""
    confidence_level: float
    """Of all intervals and all sets of ranks together."""
    only_with_baseline: bool
    """Whether no two candidates were compared with each other."""
    method: str
    sentence: str


@dataclass(frozen=True)
class Summary:
    """The numbers of one run: summary.json."""

    schema_version: str
    status: RunStatus
    evaluation: str
    dag_id: str
    run_id: str
    started_at: str
    """ISO 8601, UTC."""
    ended_at: str
    environment: SummaryEnvironment
    provenance: dict[str, Any]
    gate: Gate
    warnings: list[Notice]
    cost: Cost | None
    artifacts: dict[str, str]
    comparisons: list[Comparison]
    models: list[ModelSummary] = field(default_factory=list)
    """The baseline first."""
    accepted: EarlierRun | None = None
    """The last accepted run before this one, which the comparisons' changes refer to."""
    judge_change: JudgeChange | None = None
    """How the judge judges the anchor pairs since then; None where no two rounds tell."""
    screens: list[Screen] = field(default_factory=list)
    """Of the judge, where canaries were asked for, and of each model's responses."""
    store_text: bool = True
    """False: the run folder keeps digests instead of texts, and the report shows no text."""
    board: Board | None = None
    """All models on one scale; None with one candidate, or without preferences of single pairs."""
