"""A run folder in, one ZIP file out, piece by piece: all that a run's verdict rests on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from include import storage
from include.storage import RunFolder

LEFT_OUT = ("browse/", "progress/")
"""What is there for the pages alone."""

MANIFEST = "manifest.json"


def pieces(folder: RunFolder) -> Iterator[bytes]:
    """Yield a ZIP file: the folder's objects, and last a manifest with the SHA-256 of each.

    It is sent while it is made, however large the folder is; one that breaks off has no directory,
    and no program opens it.

    Args:
        folder: Of a run.
    """
    sink, digests = _Sink(), {}
    with ZipFile(sink, "w") as archive:
        for name in folder.names(""):
            if name.startswith(LEFT_OUT):
                continue
            digest = hashlib.sha256()
            with (
                folder.open(name) as content,
                archive.open(_entry(name), "w", force_zip64=True) as entry,
            ):
                while chunk := content.read(storage.RANGE):
                    digest.update(chunk)
                    entry.write(chunk)
                    yield sink.taken()
            digests[name] = digest.hexdigest()
        told = {"run_folder": folder.uri, "sha256": digests}
        archive.writestr(_entry(MANIFEST), json.dumps(told, indent=2))
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Keeps what is written until somebody takes it."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._kept.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        kept, self._kept = self._kept, []
        return b"".join(kept)


def _entry(name: str) -> ZipInfo:
    """Return an entry without a time: the same objects make the same file."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    return entry
