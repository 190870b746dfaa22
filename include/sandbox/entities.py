"""Named things on disk, one JSON file each: written before they are acknowledged."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

Entity = dict[str, Any]


def now() -> float:
    """Return the time as AWS tells it: seconds since 1970, to the millisecond."""
    return round(time.time(), 3)


class Entities:
    """All entities of one kind, by name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.lock = threading.RLock()
        self._all: dict[str, Entity] = {}
        for file in folder.glob("*.json"):
            entity = json.loads(file.read_bytes())
            self._all[entity["name"]] = entity

    def get(self, name: str) -> Entity | None:
        """Return a copy of one entity."""
        with self.lock:
            found = self._all.get(name)
            return dict(found) if found else None

    def all(self) -> list[Entity]:
        """Return copies of all entities."""
        with self.lock:
            return [dict(entity) for entity in self._all.values()]

    def put(self, entity: Entity) -> None:
        """Store an entity under its `name`; once this returns, kill -9 cannot lose it."""
        with self.lock:
            write_file(self._file(entity["name"]), json.dumps(entity).encode())
            self._all[entity["name"]] = entity

    def delete(self, name: str) -> None:
        """Forget an entity."""
        with self.lock:
            self._file(name).unlink(missing_ok=True)
            self._all.pop(name, None)

    def _file(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def write_file(path: Path, body: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing, also after kill -9."""
    draft = path.with_name(f"{path.name}.{threading.get_ident()}.draft")
    draft.write_bytes(body)
    draft.replace(path)
