"""Facts about what the sandbox keeps: S3 under load, and after kill -9."""

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from sandbox_server import Sandbox, running_sandbox

BUCKET = "nova-judge-sandbox"
PART = 5 * 1024**2


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path) as running:
        yield running


def body(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (1 + number % 50)


def test_the_bucket_and_the_role_are_there(own: Sandbox) -> None:
    assert own.client("sts").get_caller_identity()["Account"] == "000000000000"
    assert [b["Name"] for b in own.client("s3").list_buckets()["Buckets"]] == [BUCKET]
    role = own.client("iam").get_role(RoleName="nova-judge-execution")["Role"]["Arn"]
    assert role == "arn:aws:iam::000000000000:role/nova-judge-execution"


def test_objects_survive_kill_9_with_etag_type_and_metadata(own: Sandbox) -> None:
    s3 = own.client("s3")
    keys = ["plain", "a folder/ü & 100%.txt", "a/b//c"]
    for key in keys:
        s3.put_object(
            Bucket=BUCKET, Key=key, Body=b"x", ContentType="text/plain", Metadata={"run": "7"}
        )
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": keys[1]})
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="large")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(
                Bucket=BUCKET, Key="large", UploadId=upload, PartNumber=number, Body=bytes(PART)
            )["ETag"],
        }
        for number in (1, 2)
    ]
    s3.complete_multipart_upload(
        Bucket=BUCKET, Key="large", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    s3.put_object(Bucket=BUCKET, Key="gone", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="gone too", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="gone")
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "gone too"}]})
    s3.create_bucket(Bucket="another-bucket")
    time.sleep(2.1)  # so that a time that was not kept would show
    before = {key: s3.head_object(Bucket=BUCKET, Key=key) for key in [*keys, "copy", "large"]}

    own.kill()
    own.start()

    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert listed == sorted(before)
    for key, was in before.items():
        now = s3.head_object(Bucket=BUCKET, Key=key)
        for field in ("ETag", "ContentType", "ContentLength", "Metadata"):
            assert now[field] == was[field], (key, field)
        assert abs((now["LastModified"] - was["LastModified"]).total_seconds()) <= 1, key
    assert len(s3.list_buckets()["Buckets"]) == 2


def test_many_threads_read_back_what_they_wrote(own: Sandbox) -> None:
    s3 = own.client("s3", max_pool_connections=32)

    def work(number: int) -> bool:
        s3.put_object(Bucket=BUCKET, Key=f"k/{number}", Body=body(number))
        if number % 5 == 0:
            s3.delete_object(Bucket=BUCKET, Key=f"k/{number}")
            return True
        return s3.get_object(Bucket=BUCKET, Key=f"k/{number}")["Body"].read() == body(number)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(500)))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="k/")
    assert sum(len(page["Contents"]) for page in pages) == 400


def test_what_was_acknowledged_before_kill_9_is_there(own: Sandbox) -> None:
    s3 = own.client("s3", max_pool_connections=16)
    acknowledged: set[int] = set()
    enough = threading.Event()

    def write(start: int) -> None:
        for number in range(start, 100_000, 16):
            try:
                s3.put_object(Bucket=BUCKET, Key=f"k/{number}", Body=body(number))
            except (BotoCoreError, ClientError):
                return
            acknowledged.add(number)
            if len(acknowledged) > 300:
                enough.set()

    with ThreadPoolExecutor(16) as pool:
        for start in range(16):
            pool.submit(write, start)
        assert enough.wait(30)
        own.kill()
    own.start()
    for number in acknowledged:
        assert s3.get_object(Bucket=BUCKET, Key=f"k/{number}")["Body"].read() == body(number)
