"""What every sandbox holds from the start: the bucket, the role and whom the caller is."""

from __future__ import annotations

import json
from typing import Any

from include.sandbox.s3_store import ACCOUNT

BUCKET = "nova-judge-sandbox"
ROLE = "nova-judge-execution"
CALLER = "moto"
"""Whom moto's GetCallerIdentity names for credentials that it does not know."""


def _allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


TRUST = _policy(
    {
        "Effect": "Allow",
        "Principal": {"Service": ["sagemaker.amazonaws.com", "bedrock.amazonaws.com"]},
        "Action": "sts:AssumeRole",
    }
)
OWN_BUCKET = _policy(
    _allow(
        ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
        [f"arn:aws:s3:::{BUCKET}/*"],
    ),
    _allow(["s3:ListBucket", "s3:GetBucketLocation"], [f"arn:aws:s3:::{BUCKET}"]),
    _allow(
        [
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "logs:DescribeLogStreams",
            "cloudwatch:PutMetricData",
            "ecr:GetAuthorizationToken",
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage",
            "bedrock:InvokeModel",
        ],
        ["*"],
    ),
)
"""What the role of Nova's jobs and of batch jobs needs; the managed policy adds more buckets."""

SAGEMAKER_POLICY = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"


def make_identities() -> None:
    """Make the role of every environment, and the user that unknown credentials belong to."""
    from moto.iam.models import iam_backends

    iam = iam_backends[ACCOUNT]["aws"]
    iam.create_role(ROLE, TRUST, "/", None, "The sandbox's role", [], "3600")
    iam.put_role_policy(ROLE, "sandbox-bucket", OWN_BUCKET)
    iam.attach_role_policy(SAGEMAKER_POLICY, ROLE)
    iam.create_user(None, CALLER)
    iam.put_user_policy(CALLER, "everything", _policy(_allow(["*"], ["*"])))
