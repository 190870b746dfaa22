"""Objects on S3 in, gone for good: every version, and the parts of uploads that never ended.

A delete without a version only hides an object where the bucket keeps versions. So versions are
listed and deleted in every bucket; one that keeps none has a single one of each object, `null`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import ErasureError
from include.storage import split_uri

if TYPE_CHECKING:
    from botocore.client import BaseClient

AT_ONCE = 1000
"""Objects of one request at the most (S3: DeleteObjects)."""
SHOWN = 3
"""Refusals that an error names; the rest are counted."""


@dataclass(frozen=True)
class Stored:
    """One version of an object, or the mark that one was deleted."""

    bucket: str
    key: str
    version_id: str
    bytes: int
    """0 for a mark."""


def find(s3: BaseClient, uri: str) -> Iterator[Stored]:
    """Yield every version of what begins with a URI (S3: ListObjectVersions).

    A URI of a folder needs its slash at the end: `run-1` also begins `run-10`.
    """
    bucket, prefix = split_uri(uri)
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            yield Stored(bucket, item["Key"], item["VersionId"], item.get("Size", 0))


def erase(s3: BaseClient, stored: Sequence[Stored]) -> None:
    """Delete versions of one bucket's objects (S3: DeleteObjects); those that are gone are fine.

    Raises:
        ErasureError: S3 refuses some of them; all others are gone.
    """
    refused: list[str] = []
    for start in range(0, len(stored), AT_ONCE):
        batch = stored[start : start + AT_ONCE]
        answer = s3.delete_objects(
            Bucket=batch[0].bucket,
            Delete={
                "Objects": [{"Key": each.key, "VersionId": each.version_id} for each in batch],
                "Quiet": True,
            },
        )
        refused += [f"  {e['Key']}: {e['Code']}: {e['Message']}" for e in answer.get("Errors", ())]
    if refused:
        more = f"\n  and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise ErasureError(
            f"s3://{stored[0].bucket}: S3 refuses to delete\n"
            + "\n".join(refused[:SHOWN])
            + more
            + "\nwhat it takes is in docs/aws.md, section 3; then it is tried again"
        )


def abort_uploads(s3: BaseClient, uri: str) -> int:
    """Drop the parts of uploads that never ended below a URI; return of how many uploads.

    S3: ListMultipartUploads, AbortMultipartUpload. A killed worker leaves such parts; they are in
    no listing of objects.
    """
    bucket, prefix = split_uri(uri)
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    uploads = [
        upload
        for page in pages
        for upload in page.get("Uploads", ())
        if upload["Key"].startswith(prefix)
    ]
    for upload in uploads:
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(uploads)
