"""ECR: which image a tag points to, in the registries of other accounts, as AWS's for the judge."""

from __future__ import annotations

import hashlib
from typing import Any

from include.sandbox.s3_store import ACCOUNT
from include.sandbox.shapes import check

Request = dict[str, Any]

TARGET = "AmazonEC2ContainerRegistry"


def concerns(target: str, operation: str, request: Request | None) -> bool:
    """Whether a request asks for images of another account; moto keeps our own."""
    theirs = (request or {}).get("registryId") not in (None, ACCOUNT)
    return target.startswith(TARGET) and operation == "BatchGetImage" and theirs


def batch_get_image(request: Request, version: int) -> Request:
    """Answer for repositories that hold every tag (ECR: BatchGetImage).

    Args:
        request: The operation's.
        version: Of all images: with another one a tag points to another image.
    """
    check("ecr", "BatchGetImage", request)
    registry, repository = request["registryId"], request["repositoryName"]
    images = []
    for wanted in request["imageIds"]:
        name = f"{registry}/{repository}:{wanted.get('imageTag')}@{version}"
        digest = wanted.get("imageDigest") or f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
        images.append(
            {
                "registryId": registry,
                "repositoryName": repository,
                "imageId": {**wanted, "imageDigest": digest},
                "imageManifest": "{}",
                "imageManifestMediaType": "application/vnd.docker.distribution.manifest.v2+json",
            }
        )
    return {"images": images, "failures": []}
