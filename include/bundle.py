"""A run folder in, one ZIP file out: all that a run's verdict rests on, to be kept elsewhere."""

from __future__ import annotations

import hashlib
import json
from tempfile import SpooledTemporaryFile
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from include import storage
from include.storage import RunFolder

LEFT_OUT = ("browse/", "progress/")
"""What is there for the pages alone."""

MANIFEST = "manifest.json"


def write(folder: RunFolder) -> IO[bytes]:
    """Return a ZIP file, at its beginning: the folder's objects, and a manifest with their SHA-256.

    Args:
        folder: Of a run.
    """
    file = SpooledTemporaryFile(storage.IN_MEMORY)  # noqa: SIM115 - the caller's
    digests = {}
    with ZipFile(file, "w") as archive:
        for name in folder.names(""):
            if name.startswith(LEFT_OUT):
                continue
            digest = hashlib.sha256()
            with folder.open(name) as content, archive.open(_entry(name), "w") as entry:
                while chunk := content.read(storage.RANGE):
                    digest.update(chunk)
                    entry.write(chunk)
            digests[name] = digest.hexdigest()
        told = {"run_folder": folder.uri, "sha256": digests}
        archive.writestr(_entry(MANIFEST), json.dumps(told, indent=2))
    file.seek(0)
    return file


def _entry(name: str) -> ZipInfo:
    """Return an entry without a time: the same objects make the same file."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    return entry
