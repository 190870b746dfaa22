"""A run in, the names out that it uses on AWS: slugs, digests and resource names."""

from __future__ import annotations

import hashlib
import re

from include.ownership import PREFIX

MAX_NAME = 63
"""Longest name of a SageMaker model, endpoint or training job."""


def slug(text: str, limit: int = MAX_NAME) -> str:
    """Turn any text into lower-case letters, digits and single hyphens.

    Example:
        >>> slug("manual__2026-11-24T06:00:00+00:00")
        'manual-2026-11-24t06-00-00-00-00'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")


def digest(*parts: str, length: int = 12) -> str:
    """Return the first `length` hex digits of the SHA-256 of the parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]


def run_slug(dag_id: str, run_id: str) -> str:
    """Name the folder of a run; the digest keeps apart run ids that differ only in punctuation."""
    return f"{slug(run_id, 50)}-{digest(dag_id, run_id, length=8)}"


GENERAL_DAG = "nova_llm_judge"

TAKEN = ("anchors", "history")
"""Folders below `output_s3_uri` that hold no runs: no evaluation may be called so."""


def dag_id(stem: str) -> str:
    """Name the DAG of an evaluation's file.

    Example:
        >>> dag_id("nightly run")
        'nova_llm_judge__nightly-run'
    """
    return f"{GENERAL_DAG}__" + re.sub(r"[^\w.-]+", "-", stem)


def resource_name(evaluation: str, role: str, *identity: str) -> str:
    """Name an AWS resource: readable in front, unique through the digest of its identity.

    Args:
        evaluation: Name of the evaluation.
        role: What the resource is for, for example a model's name.
        identity: Whatever makes it this resource and no other.

    Returns:
        At most 60 characters, so that an attempt's number still fits behind it.
    """
    readable = "-".join(filter(None, (slug(evaluation, 20), slug(role, 22))))
    return f"{PREFIX}{readable}-{digest(evaluation, role, *identity)}"
