"""Both SDKs do all cases against one sandbox; the sandbox says what came in."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from contract import sdk
from contract.cases import ENDPOINTS, INPUT, JOBS, Endpoint, Job, Json
from contract.sdk import BUCKET
from sandbox_server import Sandbox, running_sandbox

QUICK = "endpoint=0.2,delete=0.2,job=0.3"
QUOTAS = ",".join(
    f"{instance_type} for {usage}=100"
    for instance_type, usage in (
        ("ml.g5.2xlarge", "endpoint usage"),
        ("ml.g5.12xlarge", "training job usage"),
        ("ml.p5.48xlarge", "training job usage"),
    )
)
PAIR = {"prompt": "What is the tide?", "response_A": "Water.", "response_B": "The sea's rhythm."}


def requests(url: str, operation: str = "") -> list[Json]:
    """Return the requests that reached a sandbox, of one operation or of all."""
    with urlopen(f"{url}/sandbox/requests?operation={operation}", timeout=30) as answer:
        kept: list[Json] = json.load(answer)["requests"]
    return kept


def arrived(sandbox: Sandbox, operation: str, key: str, name: str) -> Json:
    """Return the body of the one request of an operation whose `key` is `name`, as it came in."""
    (found,) = [row for row in requests(sandbox.url, operation) if row["body"][key] == name]
    assert found["status"] == 200
    body: Json = found["body"]
    return body


def endpoint_requests(sandbox: Sandbox, name: str) -> Json:
    """Return the bodies that created the endpoint of a name, its config and its model."""
    asked = {"CreateModel": "ModelName", "CreateEndpointConfig": "EndpointConfigName"}
    asked |= {"CreateEndpoint": "EndpointName"}
    return {op: arrived(sandbox, op, key, name) for op, key in asked.items()}


class Driven:
    """What the SDKs sent; each SDK does all its cases at once, when the first is asked for."""

    def __init__(self, sandbox: Sandbox, home: Path) -> None:
        self.sandbox, self._home = sandbox, home
        self._outcomes: dict[str, dict[str, dict[str, str]]] = {}

    def name(self, case: Job | Endpoint) -> str:
        """Return how the SDK named the job or endpoint of a case."""
        if case.sdk not in self._outcomes:
            cases = [*JOBS, *ENDPOINTS]
            scenarios = {each.key: each.scenario() for each in cases if each.sdk == case.sdk}
            self._outcomes[case.sdk] = sdk.drive(case.sdk, self.sandbox, scenarios, self._home)
        outcome = self._outcomes[case.sdk][case.key]
        assert "error" not in outcome, outcome["error"]
        return outcome["name"]

    def requests(self) -> list[Json]:
        return requests(self.sandbox.url)

    def job(self, case: Job) -> Json:
        return arrived(self.sandbox, "CreateTrainingJob", "TrainingJobName", self.name(case))

    def endpoint(self, case: Endpoint) -> Json:
        return endpoint_requests(self.sandbox, self.name(case))


@contextmanager
def driving(folder: Path) -> Iterator[Driven]:
    """Run a sandbox for the SDKs, with state and their home below a folder."""
    home = folder / "home"
    home.mkdir()
    settings = {"sandbox_delays": QUICK, "sandbox_quotas": QUOTAS}
    with running_sandbox(folder / "sandbox", **settings) as sandbox:
        body = f"{json.dumps(PAIR)}\n"
        sandbox.client("s3").put_object(Bucket=BUCKET, Key=INPUT.split("/", 3)[3], Body=body)
        yield Driven(sandbox, home)
