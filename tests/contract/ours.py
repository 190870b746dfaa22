"""A case in, the request that our code makes of it out, and where it may differ from the SDK's."""

from contract.cases import INPUT, OUTPUT, TAGS, V2_CANNOT, Endpoint, Job, Json
from contract.compare import ABSENT, Differences
from contract.sdk import BUCKET, ROLE, V2

from include import deploy, judge, recipes
from include.config import Environment, Judge, SageMakerModel


def environment(changes: Json) -> Environment:
    return Environment.model_validate(
        {
            "name": "sandbox",
            "account_id": "000000000000",
            "region": "us-east-1",
            "execution_role_arn": ROLE,
            "output_s3_uri": f"s3://{BUCKET}/nova",
            **changes,
        }
    )


def our_job(case: Job, theirs: Json) -> Json:
    """Build our request for the names, the recipe's address and the time limit that they chose."""
    options = Judge.model_validate(case.judge())
    limit = theirs["StoppingCondition"]["MaxRuntimeInSeconds"]
    if options.max_runtime_minutes:
        limit = judge.max_runtime_seconds(1, options.max_runtime_minutes)
    return judge.training_job(
        environment(case.environment()),
        options,
        recipes.load(options.recipe, options.overrides),
        name=theirs["TrainingJobName"],
        input_uri=INPUT,
        recipe_uri=recipe_uri(case, theirs),
        output_uri=OUTPUT,
        max_runtime=limit,
        tags=TAGS if "tags" in case.options else [],
    )


def recipe_uri(case: Job, theirs: Json) -> str:
    (channel,) = [c for c in theirs["InputDataConfig"] if c["ChannelName"] == "recipe"]
    uri: str = channel["DataSource"]["S3DataSource"]["S3Uri"]
    file = theirs["HyperParameters"]["sagemaker_recipe_local_path"].rpartition("/")[2]
    return f"{uri}/{file}" if case.sdk == V2 else uri


def our_endpoint(case: Endpoint) -> Json:
    model = SageMakerModel.model_validate(
        {"name": "qwen", "provider": "sagemaker", "schema": "inputs", "deploy": case.deploy}
    )
    requests = deploy.requests(environment(case.environment), model, name=case.key, tags=TAGS)
    created = {"EndpointName": case.key, "EndpointConfigName": case.key, "Tags": requests["Tags"]}
    (config,) = requests["EndpointConfigs"]
    return {
        "CreateModel": requests["Model"],
        "CreateEndpointConfig": config,
        "CreateEndpoint": created,
    }


def known(case: Job | Endpoint) -> Differences:
    """Return the differences that have a reason."""
    if isinstance(case, Endpoint):
        return {path: (ABSENT, value) for path, value in case.theirs_alone.items()}
    found: Differences = {}
    if "tags" not in case.options:
        found["Tags"] = ([], ABSENT)  # our runs always have tags
    if case.channel == "InputData":
        # The SDK repeats AlgorithmSpecification.TrainingInputMode for a plain S3 URI.
        found["InputDataConfig[0].InputMode"] = (ABSENT, "File")
    if case.sdk == V2:
        for option in case.options:
            missing = V2_CANNOT.get(option, {})
            found |= {path: (value, ABSENT) for path, value in missing.items()}
    return found
