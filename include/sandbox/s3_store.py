"""moto's AWS, with S3 mirrored to disk before a request is acknowledged, restored at start."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from include.sandbox.entities import write_file

ACCOUNT = "000000000000"

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def moto_app() -> Wsgi:
    """Return moto's server: S3, STS, IAM, CloudWatch Logs and the rest of AWS that it knows."""
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT  # both are read when moto is imported
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    app: Wsgi = DomainDispatcherApplication(create_backend_app)
    return app


class S3Mirror:
    """Keeps on disk what moto's S3 holds, one file per object: a line of JSON, then the body."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()

    def wrap(self, app: Wsgi) -> Wsgi:
        """Mirror what a successful S3 request has changed before its answer goes out."""

        def mirrored(
            environ: dict[str, Any], start_response: Callable[..., Any]
        ) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] in ("GET", "HEAD") or not _is_s3(environ):
                return app(environ, start_response)
            answered: list[tuple[Any, ...]] = []
            body = list(app(environ, lambda *answer: answered.append(answer)))
            if answered[-1][0].startswith("2"):
                path = environ["PATH_INFO"].encode("latin-1").decode()  # PEP 3333
                self._sync(path, environ.get("QUERY_STRING", ""))
            start_response(*answered[-1])  # not before: the headers alone acknowledge
            return body

        return mirrored

    def restore(self, *always: str) -> None:
        """Put what is on disk into moto; make the buckets that are `always` there."""
        backend = _backend()
        for name in always:
            (self._folder / name).mkdir(exist_ok=True)
        for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            if folder.name not in backend.buckets:
                backend.create_bucket(folder.name, "us-east-1")
            for file in folder.glob("*.object"):
                head, _, body = file.read_bytes().partition(b"\n")
                facts = json.loads(head)
                key = backend.put_object(
                    folder.name, facts["key"], body, etag=facts["etag"], disable_notification=True
                )
                key.set_metadata(facts["metadata"], replace=True)
                written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                key.last_modified = written.replace(tzinfo=None)  # as moto has it

    def _sync(self, path: str, query: str) -> None:
        bucket, _, key = path.lstrip("/").partition("/")
        with self._lock:
            known = _backend().buckets.get(bucket)
            folder = self._folder / bucket
            if known is None:
                shutil.rmtree(folder, ignore_errors=True)
                return
            folder.mkdir(exist_ok=True)
            if key:
                self._sync_key(folder, known, key)
            elif "delete" in query:
                for file in folder.glob("*.object"):
                    with file.open("rb") as opened:
                        name = json.loads(opened.readline())["key"]
                    self._sync_key(folder, known, name)

    def _sync_key(self, folder: Path, bucket: Any, name: str) -> None:
        file = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.object"
        key = bucket.keys.get(name)
        if key is None or not hasattr(key, "value"):
            file.unlink(missing_ok=True)
            return
        facts = {"key": name, "etag": key.etag.strip('"'), "metadata": dict(key.metadata)}
        write_file(file, json.dumps(facts).encode() + b"\n" + key.value)


def _is_s3(environ: dict[str, Any]) -> bool:
    scope = environ.get("HTTP_AUTHORIZATION", "") + environ.get("QUERY_STRING", "")
    return "/s3/aws4_request" in unquote(scope)


def keys_below(bucket: str, prefix: str) -> list[str]:
    """Return the keys below a prefix; none if there is no such bucket."""
    found = _backend().buckets.get(bucket)
    return [key for key in list(found.keys) if key.startswith(prefix)] if found else []


def _backend() -> Any:
    from moto.s3.models import s3_backends

    return s3_backends[ACCOUNT]["aws"]
