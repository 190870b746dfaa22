"""Facts about what AWS has beside Airflow: the stack for when that is dead, the bucket's rule."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import stacks
from sandbox_server import ROOT, Sandbox

from include import ownership

TEMPLATE = ROOT / "infra" / "janitor.yaml"


def test_the_function_is_one_file_that_needs_nothing_of_the_project(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    function = stacks.janitor()["Resources"]["Janitor"]["Properties"]
    module, handler = function["Handler"].split(".")
    code = (TEMPLATE.parent / function["Code"]).resolve()
    assert code.stem == module
    shutil.copy(code, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}; print({module}.{handler}({{}}, None))"],
        cwd=tmp_path,
        env={
            "AWS_ENDPOINT_URL": sandbox.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DRY_RUN": "true",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("[")


def test_the_function_may_remove_only_what_is_tagged() -> None:
    (policy,) = stacks.janitor()["Resources"]["JanitorRole"]["Properties"]["Policies"]
    _, remove, stop = policy["PolicyDocument"]["Statement"]
    for statement in (remove, stop):
        assert statement["Condition"] == {
            "StringLike": {f"aws:ResourceTag/{ownership.RUN}": "s3://*"}
        }
    assert f"*/{ownership.PREFIX}*" in remove["Resource"]


@pytest.mark.slow
def test_cloudformation_takes_the_templates() -> None:
    uvx = Path(sys.executable).with_name("uvx")
    files = [str(file) for file in sorted(TEMPLATE.parent.glob("*.yaml"))]
    assert len(files) == 2
    subprocess.run(
        [str(uvx), "cfn-lint==1.58.0", "--ignore-checks", "W3002", "--", *files], check=True
    )


def test_the_buckets_rule_is_one_that_s3_takes_and_expires_no_current_object(
    sandbox: Sandbox,
) -> None:
    wanted = json.loads((ROOT / "infra/lifecycle.json").read_text())
    s3, bucket = sandbox.client("s3"), f"lifecycle-{uuid4()}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=wanted)
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 7
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 2
