"""The config as types: environments, models and evaluations, and what they resolve to.

These classes are the one definition: files, trigger form, JSON schemas and docs come from them.
Reading files and naming their mistakes is `config_files`' part.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from include.names import TAKEN
from include.prices import Prices
from include.strict import Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
SANDBOX_ACCOUNT = "000000000000"

SECRET_KEY = re.compile(r"TOKEN(?!S)|SECRET|PASSWORD|API_?KEY|ACCESS_?KEY", re.IGNORECASE)

Name = Annotated[str, Field(pattern=NAME)]
S3Uri = Annotated[str, Field(pattern=r"^s3://[a-z0-9.-]{3,63}(/.*)?$")]
Archive = Annotated[str, Field(pattern=r"^s3://[a-z0-9.-]{3,63}/.+\.tar\.gz$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Days = Annotated[int, Field(ge=1, le=36_500)]
Budget = Annotated[float, Field(gt=0)]


class Vpc(Strict):
    """The network that endpoints and judge jobs run in."""

    subnets: list[str] = Field(min_length=1, description="Subnet ids.")
    security_group_ids: list[str] = Field(min_length=1, description="Security group ids.")


class Environment(Strict):
    """Where a run happens."""

    name: Name = Field(description="The file's name.")
    account_id: str = Field(
        pattern=r"^\d{12}$", description="AWS account, compared with what STS says before all else."
    )
    region: str = Field(description="AWS region; the connection must have the same.")
    aws_conn_id: str = Field("aws_default", description="Airflow connection to AWS.")
    execution_role_arn: str = Field(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$",
        description="Role of endpoints and judge jobs.",
    )
    output_s3_uri: S3Uri = Field(description="Where run folders and the history go.")
    judge_image_uri: str | None = Field(
        None, description="Container of the judge; default: the one that AWS publishes."
    )
    kms_key_arn: str | None = Field(None, description="Encrypts the judge's output.")
    volume_kms_key_arn: str | None = Field(
        None,
        description="Encrypts volumes; AWS refuses it for instances with local storage, like g5.",
    )
    vpc: Vpc | None = Field(None, description="Network of endpoints and judge jobs.")
    encrypt_traffic: bool = Field(
        False, description="EnableInterContainerTrafficEncryption of judge jobs."
    )
    tags: dict[str, str] = Field(
        {},
        description="AWS tags for everything that a run creates: at most 40, of letters, digits, "
        "spaces and `_ . : / = + - @`; ASCII only where a model has batch: true.",
    )
    prices: str | None = Field(
        None,
        min_length=1,
        description="Dated price file (YAML), which `make prices` writes; null: no costs known.",
    )
    budget_usd: Budget | None = Field(
        None, description="What one run may cost; needs prices. An evaluation may say less."
    )
    notify: Annotated[list[str], Field(max_length=0)] = Field(
        [], description="Reserved; who is told how runs end stands in the evaluation: alerts."
    )
    poll_seconds: Positive = Field(30, description="Seconds between two looks at AWS.")
    keep_runs_days: Days | None = Field(
        None,
        description="Run folders are deleted so many days after their last write, all but the last "
        "accepted one of each evaluation; the history stays. null: never.",
    )

    @field_validator("output_s3_uri")
    @classmethod
    def _no_slash_at_the_end(cls, uri: str) -> str:
        return uri.rstrip("/")

    @property
    def kind(self) -> Literal["sandbox", "aws"]:
        """`sandbox` for the sandbox's own account, which no customer of AWS can have."""
        return "sandbox" if self.account_id == SANDBOX_ACCOUNT else "aws"


class Parameters(Strict):
    """Sampling parameters; what is null is not sent."""

    max_tokens: Positive | None = Field(
        None, description="Longest response, in tokens; 512 where nothing is said."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="Randomness of the responses."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Nucleus sampling; newer Claude models refuse it beside temperature."
    )
    stop: list[str] | None = Field(None, description="Texts that end a response.")


class Limits(Strict):
    """How hard a model may be asked."""

    max_concurrency: Annotated[int, Field(ge=1, le=512)] = Field(
        16, description="Requests in flight, over all tasks that ask the model at once."
    )
    start_concurrency: Annotated[int, Field(ge=1, le=512)] = Field(
        8, description="Requests in flight at the start; doubled while nothing is throttled."
    )
    requests_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Quota of requests; null: found out from what is throttled."
    )
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Quota of tokens, input and max_tokens counted when a request starts."
    )
    output_token_weight: Annotated[float, Field(ge=1)] | None = Field(
        None,
        description="How often the quota counts an output token (AWS: burndown rate); "
        "null: 5 for Claude since 3.7, else 1.",
    )


class AskedModel(Strict):
    """What all models have that a run asks."""

    name: Name = Field(description="The file's name; to be given where a model is written inline.")
    parameters: Parameters = Field(
        Parameters(), description="Over the evaluation's, key by key; null takes a key away."
    )
    limits: Limits = Field(Limits(), description="How hard the model may be asked.")

    @property
    def target(self) -> str:
        """What the provider knows it by; each provider's class says it."""
        raise NotImplementedError

    @property
    def is_there(self) -> bool:
        """Whether it can be asked before the run has deployed anything."""
        return True

    def shaping(self) -> dict[str, Any]:
        """Return what of it shapes its responses: another one, and none is used again."""
        own = self.model_dump(exclude={"name", "provider", "parameters", "limits"})
        return {"parameters": self.parameters.model_dump(exclude_none=True), **own}


class Deploy(Strict):
    """An endpoint that the run creates and deletes."""

    model_id: str | None = Field(None, description="Hugging Face id; or model_data.")
    model_data: Archive | None = Field(
        None, description="Model archive on S3 (.tar.gz); or model_id."
    )
    revision: str | None = Field(None, description="Commit or tag of model_id.")
    instance_types: list[Annotated[str, Field(pattern=r"^ml\.")]] = Field(
        min_length=1, description="Tried in order while AWS has no capacity for one."
    )
    image_uri: str | None = Field(None, description="Container; default: TGI 3.0.1.")
    environment: dict[str, str] = Field({}, description="Variables of the container.")
    container_startup_timeout: Annotated[int, Field(ge=60, le=3600)] = Field(
        900, description="Seconds that the container may take to start."
    )
    ami_version: str | None = Field(
        None, description="InferenceAmiVersion; default: AWS's, for cu130 images the one they need."
    )

    @field_validator("environment")
    @classmethod
    def _no_secrets(cls, variables: dict[str, str]) -> dict[str, str]:
        for key in filter(SECRET_KEY.search, variables):
            raise ValueError(
                f"{key} looks like a secret, and anyone who may describe the model reads its "
                "variables; bring the files of a gated model as model_data"
            )
        return variables

    @model_validator(mode="after")
    def _one_source(self) -> Deploy:
        if (self.model_id is None) == (self.model_data is None):
            raise ValueError("expected one of model_id and model_data")
        return self


HARDWARE = {"instance_types", "container_startup_timeout", "ami_version"}
"""What of a deployment does not shape responses."""


class SageMakerModel(AskedModel):
    """A model behind a SageMaker endpoint."""

    provider: Literal["sagemaker"]
    deploy: Deploy | None = Field(None, description="An endpoint for this run; or endpoint_name.")
    endpoint_name: str | None = Field(None, description="An endpoint that exists; or deploy.")
    inference_component_name: str | None = Field(
        None, description="Which of an existing endpoint's inference components answers."
    )
    schema_: Literal["messages", "inputs"] = Field(
        "messages",
        alias="schema",
        description="Chat messages, or raw text without a chat template.",
    )

    @model_validator(mode="after")
    def _one_endpoint(self) -> SageMakerModel:
        if (self.deploy is None) == (self.endpoint_name is None):
            raise ValueError("expected one of deploy and endpoint_name")
        if self.inference_component_name and self.deploy:
            raise ValueError("inference_component_name goes with endpoint_name, not with deploy")
        return self

    @property
    def target(self) -> str:
        """Model or archive that is deployed, or the endpoint that exists."""
        deployed = self.deploy and (self.deploy.model_id or self.deploy.model_data)
        return str(deployed or self.endpoint_name)

    @property
    def is_there(self) -> bool:
        """Whether the endpoint exists."""
        return self.deploy is None

    def shaping(self) -> dict[str, Any]:
        """Return it without the hardware, which shapes nothing; raw texts are new texts alone."""
        deploy = self.deploy and self.deploy.model_dump(exclude=HARDWARE)
        whole = {"return_full_text": False} if self.schema_ == "inputs" else {}
        return {**super().shaping(), "deploy": deploy, **whole}


class BedrockModel(AskedModel):
    """A model that Bedrock serves."""

    provider: Literal["bedrock"]
    model_id: str = Field(min_length=1, description="Model or inference profile id.")
    batch: bool = Field(
        False, description="Ask all prompts in one batch inference job: half the price, hours."
    )
    role_arn: str | None = Field(
        None,
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$",
        description="Role of the batch job, which Bedrock assumes; default: the environment's.",
    )

    @field_validator("model_id")
    @classmethod
    def _still_alive(cls, model_id: str) -> str:
        for part, day, successor in ENDED:
            if part in model_id:
                raise ValueError(
                    f"{model_id} reached its end of life on Bedrock on {day}; "
                    f"its successor is {successor}"
                )
        return model_id

    @property
    def target(self) -> str:
        """Its id."""
        return self.model_id

    def shaping(self) -> dict[str, Any]:
        """Return its id and parameters: how it is asked shapes nothing."""
        return {key: value for key, value in super().shaping().items() if key not in BILLING}


ENDED = (
    ("claude-3-7-sonnet-20250219", "2026-04-28", "us.anthropic.claude-sonnet-4-6"),
    ("claude-sonnet-4-20250514", "2026-10-14", "us.anthropic.claude-sonnet-4-6"),
    ("nova-premier-v1", "2026-09-14", "us.amazon.nova-pro-v1:0"),
)
"""Parts of ids that Bedrock answers with 404, since when, and what to use instead."""

BILLING = {"batch", "role_arn"}
"""What of a Bedrock model does not shape responses."""

NO_SAMPLING = re.compile(r"claude-(sonnet-[5-9]|opus-(4-[7-9]|[5-9]))")
NOT_BOTH = re.compile(r"claude-(sonnet|haiku|opus)-4-[56]")
"""Claude models that refuse sampling parameters, or temperature beside top_p."""


class ResponsesModel(Strict):
    """Responses that exist already: nothing is asked."""

    name: Name = Field(description="The file's name; to be given where a model is written inline.")
    provider: Literal["responses"]
    source: str = Field(
        min_length=1, description="File (jsonl, csv, parquet, also .gz; path or s3://)."
    )
    id_field: str | None = Field(
        None, description="Column of the prompt's id; default: the data set's id_field."
    )
    prompt_field: str | None = Field(
        None,
        description="Column of the prompt's text: rows are joined by it where there are no ids, "
        "and compared with the data set's where there are.",
    )
    response_field: str = Field("response", description="Column of the model's text.")

    @property
    def target(self) -> str:
        """The file."""
        return self.source

    def shaping(self) -> dict[str, Any]:
        """Return all of it but its name."""
        return self.model_dump(exclude={"name", "provider"})


Model = Annotated[SageMakerModel | BedrockModel | ResponsesModel, Field(discriminator="provider")]


class Dataset(Strict):
    """The prompts."""

    source: str = Field(
        min_length=1,
        description="File (jsonl, csv, parquet, also .gz; path or s3://) or Hugging Face id.",
    )
    revision: str | None = Field(None, description="Commit or tag of a Hugging Face id.")
    split: str = Field("train", description="Split of a Hugging Face id, e.g. train[:20].")
    id_field: str | None = Field(None, description="Column of unique ids; default: row numbers.")
    prompt_template: str = Field(
        "{prompt}", description="Text with {column} for each value; {{ and }} for braces."
    )
    messages_field: str | None = Field(
        None,
        description="Column of a conversation, a list of {role, content} that ends with the user; "
        "in place of prompt_template.",
    )
    system_prompt: str | None = Field(
        None, description="System prompt, a template like prompt_template."
    )
    system_prompt_file: str | None = Field(
        None, description="File (path or s3://) that holds the system prompt, word for word."
    )
    system_prompt_version: str | None = Field(
        None, description="What you call this version of system_prompt_file; shown in the report."
    )
    category_field: str | None = Field(None, description="Column to break results down by.")
    group_field: str | None = Field(
        None, description="Column of prompts that belong together; then the group is the unit."
    )
    reference_field: str | None = Field(None, description="Column of the data set's own answers.")
    limit: Positive | None = Field(None, description="How many prompts at the most.")
    select: Literal["first", "random"] = Field("first", description="Which ones, under a limit.")
    seed: int = Field(0, description="Of the random selection.")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Dataset:
        default = Dataset.model_fields["prompt_template"].default
        if self.messages_field and self.prompt_template != default:
            raise ValueError("expected one of prompt_template and messages_field")
        if self.system_prompt and self.system_prompt_file:
            raise ValueError("expected one of system_prompt and system_prompt_file")
        if self.system_prompt_version and not self.system_prompt_file:
            raise ValueError("system_prompt_version goes with system_prompt_file")
        return self


class Generation(Strict):
    """How responses are generated."""

    shard_size: Positive = Field(
        500, description="Prompts of one task; more where a run would have over 1,000 tasks."
    )
    max_error_rate: Share = Field(0.05, description="Unusable responses that a model may have.")
    reuse: Literal["none", "baseline"] = Field(
        "none", description="Whether the baseline's responses of earlier runs are taken again."
    )
    reuse_max_age_days: Days = Field(7, description="How old those may be.")
    request_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        120, description="How long one request may take; SageMaker ends it after 60 by itself."
    )
    shard_timeout_minutes: Annotated[int, Field(ge=1, le=10_080)] = Field(
        720, description="How long one task may ask; what is left is recorded as errors."
    )


class SecondJudge(Strict):
    """Another judge, which is asked about the same pairs."""

    recipe: str = Field(min_length=1, description="As judge.recipe; its task or model is another.")
    instance_type: Annotated[str, Field(pattern=r"^ml\.")] = Field(
        description="Where it runs; needs a training quota."
    )
    overrides: dict[str, Any] = Field({}, description="Keys of its recipe to change.")


class Judge(Strict):
    """The judge job."""

    recipe: str = Field(
        "nova_micro_llm_judge",
        min_length=1,
        description="A file in recipes/ without .yaml; or a path or s3:// URI of your own.",
    )
    instance_type: Annotated[str, Field(pattern=r"^ml\.")] = Field(
        "ml.g5.12xlarge", description="Where the judge runs; needs a training quota."
    )
    overrides: dict[str, Any] = Field({}, description="Keys of the recipe to change.")
    max_runtime_minutes: Annotated[int, Field(ge=1, le=1440)] | None = Field(
        None, description="Limit of the job; default: from the number of pairs."
    )
    max_pending_minutes: Annotated[int, Field(ge=30, le=40_320)] | None = Field(
        None, description="How long the job may wait for capacity; null: it fails at once."
    )
    volume_size_gb: Annotated[int, Field(ge=1, le=16_384)] = Field(
        30, description="Disk of the job, in GB."
    )
    request_form: Literal["v2", "v3"] = Field(
        "v2", description="As SageMaker SDK 2.257.7 sends the job, or as 3.27.0 does."
    )
    max_error_rate: Share = Field(
        0.05, description="Judgments that may fail; above, the verdict is inconclusive."
    )
    min_consistency: Share = Field(
        0.5, description="Pairs on which both orders must agree; below, it is inconclusive."
    )
    anchor_pairs: str | None = Field(
        None,
        min_length=1,
        description="File (path or s3://) of frozen pairs with Nova's fields prompt, response_A "
        "and response_B: judged again now and then, they tell judge drift from model drift.",
    )
    anchor_every: Positive = Field(
        10, description="After how many runs they are judged again though the image is the same."
    )
    canaries: Annotated[int, Field(ge=0, le=50)] = Field(
        0,
        description="Prompts whose responses are made into pairs with a known answer, judged in a "
        "job of their own: a judge that fails them decides nothing. 0: none; 8 are enough.",
    )
    second: SecondJudge | None = Field(
        None, description="Another judge of the same pairs; it decides nothing, and may disagree."
    )


GateRule = Literal["none", "superiority", "non_inferiority", "no_regression"]
GateAction = Literal["fail", "warn", "approve"]


class Gate(Strict):
    """What the run decides, and what then happens."""

    rule: GateRule = Field("none", description="What the candidate has to show.")
    margin: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="superiority: how far above 0.5 the win rate must be; non_inferiority: how far "
        "below it may be; no_regression: by how much it may have dropped since the accepted run.",
    )
    by_category: bool = Field(
        False, description="Whether a single category that is shown to fail fails the gate."
    )
    on_fail: GateAction = Field(
        "fail", description="What a failed gate does; approve asks a person in the Airflow UI."
    )
    on_inconclusive: GateAction = Field("warn", description="What an undecided gate does.")
    approval_hours: Annotated[float, Field(gt=0, le=720)] = Field(
        72, description="How long a person has to answer; then it counts as rejected."
    )

    @model_validator(mode="after")
    def _a_regression_has_a_size(self) -> Gate:
        if self.rule == "no_regression" and not self.margin:
            raise ValueError(
                "no_regression needs a margin above 0, the drop that is still fine; for example "
                "margin: 0.05"
            )
        return self


AlertEvent = Literal["pass", "fail", "inconclusive", "none", "capped", "failed", "stuck"]


class Alert(Strict):
    """Who is told how runs end."""

    channel: Literal["sns", "smtp", "slack"] = Field(description="The way to them.")
    to: Annotated[str, Field(min_length=1)] = Field(
        description="ARN of an SNS topic; mail addresses with commas; a Slack channel."
    )
    on: list[AlertEvent] = Field(
        ["fail", "inconclusive", "capped", "failed", "stuck"],
        min_length=1,
        description="What the gate says; capped: the budget was reached; failed: there is no "
        "verdict; stuck: there is no end.",
    )
    conn_id: str | None = Field(
        None,
        description="Airflow connection; default: the environment's, smtp_default or "
        "slack_api_default.",
    )
    stuck_after_hours: Annotated[float, Field(gt=0, le=8760)] = Field(
        24, description="After so long a run counts as stuck; in dags/evaluations/ only."
    )

    @model_validator(mode="after")
    def _topic_is_one(self) -> Alert:
        if self.channel == "sns" and not re.match(r"arn:aws[a-z-]*:sns:", self.to):
            raise ValueError(
                f"sns needs the ARN of a topic, found {self.to!r}; for example "
                "arn:aws:sns:us-east-1:123456789012:evaluations"
            )
        return self


class Schedule(Strict):
    """When a scheduled evaluation runs: at times, when assets are updated, or both."""

    cron: str | None = Field(None, description="Five fields: minute, hour, day, month, weekday.")
    timezone: str = Field("UTC", description="IANA name, e.g. Europe/Berlin.")
    assets: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="Names or URIs of Airflow assets; a run starts when all are updated."
    )
    catchup_from: date | None = Field(
        None, description="Times of cron since this day that had no run get one; null: none do."
    )
    max_active_runs: Annotated[int, Field(ge=1, le=16)] = Field(
        1, description="Runs at once: the next one waits until the last is over."
    )

    @model_validator(mode="after")
    def _there_is_a_reason_to_run(self) -> Schedule:
        if not self.cron and not self.assets:
            raise ValueError('expected cron, assets or both; for example cron: "0 6 * * 1"')
        if self.catchup_from and not self.cron:
            raise ValueError("catchup_from needs cron: assets have no times that could be missed")
        return self

    @field_validator("cron")
    @classmethod
    def _cron_is_one(cls, cron: str | None) -> str | None:
        from croniter import croniter

        if cron is None:
            return None
        if len(cron.split()) != 5 or not croniter.is_valid(cron):
            raise ValueError(f"{cron!r} is no cron expression; write for example 0 6 * * 1")
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone; write for example Europe/Berlin") from None
        return name


class Evaluation(Strict):
    """What is compared: a file in dags/evaluations/, or the conf of a run."""

    evaluation: Name = Field(description="Its name; results of one name belong together.")
    environment: Name | None = Field(
        None, description="Where; default: $NOVA_JUDGE_ENVIRONMENT, else sandbox."
    )
    schedule: Schedule | None = Field(None, description="When; files in dags/evaluations/ only.")
    dataset: Dataset = Field(description="The prompts.")
    parameters: Parameters = Field(
        Parameters(max_tokens=512), description="For every model that does not say otherwise."
    )
    baseline: Name | Model = Field(description="The model in use: a name, or a model inline.")
    candidates: list[Name | Model] = Field(
        min_length=1, max_length=100, description="The models under test."
    )
    comparison: Literal["baseline", "round_robin"] = Field(
        "baseline",
        description="Who is judged side by side: each candidate and the baseline, or also each two "
        "candidates, which places them on the board by their own pairs.",
    )
    generation: Generation = Field(Generation(), description="How responses are generated.")
    judge: Judge = Field(Judge(), description="The judge job.")
    gate: Gate = Field(Gate(), description="What the run decides.")
    alerts: list[Alert] = Field([], description="Who is told how runs end.")
    budget_usd: Budget | None = Field(
        None, description="What one run may cost; the environment's counts if it is smaller."
    )
    store_text: bool = Field(
        True,
        description="false: when a run has ended, no prompt, response or other text of it is kept, "
        "only digests and verdicts.",
    )
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="Of the interval that decides."
    )

    @field_validator("evaluation")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in TAKEN:
            raise ValueError(f"{name!r} is the folder of something else; write {name}-evaluation")
        return name

    @model_validator(mode="after")
    def _what_is_not_kept_is_not_reused(self) -> Evaluation:
        if not self.store_text and self.generation.reuse != "none":
            raise ValueError(
                "generation.reuse takes the texts of earlier runs, and with store_text: false "
                "there are none; write reuse: none"
            )
        return self


@dataclass(frozen=True)
class Pairing:
    """Two models whose responses are judged side by side by one of the judges."""

    key: str
    """Names its folders in the run: `claude` is against the baseline, `nova~claude` against the
    other candidate, `~claude` against the baseline by the second judge. No model's name has a `~`.
    """
    baseline: str
    """The model in position A of the judge's input."""
    candidate: str


ANCHORS = "_anchors"
"""Key of the judge job of the anchor pairs; no model's name begins like that."""
CANARIES = "_canaries"
"""Key of that of pairs whose answer is known."""
CANARY_PAIRS = 6
"""So many are made of one prompt's responses at the most."""

MOST_TASKS = 1000
"""Of one kind in a run; Airflow's `[core] max_map_length` is 1,024."""


def is_second(key: str) -> bool:
    """Whether a judge job's key stands for one of the second judge."""
    return key.startswith("~")


class RunConfig(Strict):
    """An evaluation with everything in it: nothing is looked up after this."""

    evaluation: Name
    environment: Environment
    dataset: Dataset
    baseline: Model
    candidates: list[Model]
    comparison: Literal["baseline", "round_robin"] = "baseline"
    generation: Generation
    judge: Judge
    gate: Gate
    alerts: list[Alert] = Field([])
    prices: Prices | None = None
    """Those that the run needs; None: there is no price file."""
    budget_usd: float | None = None
    store_text: bool = True
    confidence_level: float

    @property
    def models(self) -> list[Model]:
        """All models, the baseline first."""
        return [self.baseline, *self.candidates]

    @property
    def pairings(self) -> list[Pairing]:
        """Who is judged side by side: candidates against the baseline first, in their order."""
        names = [model.name for model in self.candidates]
        found = [Pairing(name, self.baseline.name, name) for name in names]
        if self.comparison == "round_robin":
            found += [Pairing(f"{b}~{a}", a, b) for a, b in combinations(names, 2)]
        if self.judge.second:
            found += [Pairing(f"~{name}", self.baseline.name, name) for name in names]
        return found

    def pairing(self, key: str) -> Pairing:
        """Return one of the pairings."""
        return next(each for each in self.pairings if each.key == key)

    def judge_jobs(self, prompts: int) -> dict[str, int]:
        """Return how many pairs each judge job has at the most, by its key.

        Not that of the anchors: how many there are knows only who has read them.

        Args:
            prompts: Of the run.
        """
        jobs = {each.key: prompts for each in self.pairings}
        if self.judge.canaries:
            jobs[CANARIES] = CANARY_PAIRS * min(prompts, self.judge.canaries)
        return jobs

    @property
    def judges(self) -> list[Judge]:
        """The judge and, if there is one, the second judge as if it were the only one."""
        second = self.judge.second
        alone = [self.judge.model_copy(update=dict(second) | {"second": None})] if second else []
        return [self.judge, *alone]

    def judge_of(self, key: str) -> Judge:
        """Return how the judge of a judge job is asked, by the job's key."""
        return self.judges[is_second(key)]

    @model_validator(mode="after")
    def _names_differ(self) -> RunConfig:
        names = [model.name for model in self.models]
        lowered = [name.lower() for name in names]
        twice = sorted({name for name in names if lowered.count(name.lower()) > 1})
        if twice:
            raise ValueError(f"models need different names, {', '.join(twice)} is there twice")
        return self

    @model_validator(mode="after")
    def _jobs_can_be_mapped(self) -> RunConfig:
        if len(self.pairings) > MOST_TASKS:
            raise ValueError(
                f"{len(self.candidates)} candidates are {len(self.pairings):,} judge jobs, and "
                f"Airflow maps {MOST_TASKS:,} tasks: take fewer, or comparison: baseline"
            )
        return self

    @model_validator(mode="after")
    def _sampling_is_accepted(self) -> RunConfig:
        for model in self.models:
            if isinstance(model, BedrockModel):
                _check_sampling(model)
        return self

    @model_validator(mode="after")
    def _responses_can_be_joined(self) -> RunConfig:
        for model in self.models:
            if isinstance(model, ResponsesModel) and not (
                model.id_field or model.prompt_field or self.dataset.id_field
            ):
                raise ValueError(
                    f"{model.name}: responses are joined by id or by prompt: expected id_field or "
                    "prompt_field, or dataset.id_field"
                )
        return self

    def digest(self) -> str:
        """Return the SHA-256 of everything that the config says."""
        content = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def _check_sampling(model: BedrockModel) -> None:
    given = [key for key in ("temperature", "top_p") if getattr(model.parameters, key) is not None]
    remedy = f"write `parameters: {{{given[-1] if given else ''}: null}}` on the model {model.name}"
    if given and NO_SAMPLING.search(model.model_id):
        raise ValueError(f"{model.model_id} refuses {' and '.join(given)}: {remedy}")
    if len(given) == 2 and NOT_BOTH.search(model.model_id):
        raise ValueError(f"{model.model_id} refuses temperature beside top_p: {remedy}")
