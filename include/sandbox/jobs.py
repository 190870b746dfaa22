"""What batch and training jobs have in common: a thread each, phases, and going on after a restart.

A job is an entity; its thread moves it from phase to phase, and looks at it all the while: it may
have been stopped, have no time left, or be gone.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection

from include.sandbox.entities import Entities, Entity
from include.sandbox.errors import ContainerError

LOOK_EVERY = 0.05


class JobEnded(Exception):
    """The job is to end, or is gone; its thread has nothing more to do."""

    def __init__(self, status: str | None) -> None:
        super().__init__(status)
        self.status = status
        """What it ends as; None if it is gone."""


class Jobs(ABC):
    """Runs jobs, and takes up again those that a killed sandbox left running."""

    ended: Collection[str]
    """Statuses after which nothing comes."""
    internal: str
    """How the reason begins that is nobody's fault."""

    def __init__(self, entities: Entities) -> None:
        self.entities = entities

    def resume(self) -> None:
        """Go on with what was running."""
        for job in self.entities.all():
            if self.status(job) not in self.ended:
                self.spawn(job["name"])

    def stop(self, job: Entity) -> None:
        """Ask a job to stop; its thread sees it."""
        self.enter(job["name"], "Stopping")

    def spawn(self, name: str) -> None:
        """Give a job that is stored its thread."""
        threading.Thread(target=self._run, args=(name,), name=name, daemon=True).start()

    def _run(self, name: str) -> None:
        job = self.entities.get(name)
        assert job is not None
        try:
            self.live(job)
        except JobEnded as ended:
            if ended.status:
                self.enter(name, ended.status)
        except ContainerError as error:
            self.enter(name, "Failed", str(error))
        except Exception as error:  # a job must end, whatever happens in it
            self.enter(name, "Failed", f"{self.internal} {error!r}")

    def wait(self, name: str, until: float) -> None:
        """Let time pass.

        Raises:
            JobEnded: As `go_on`.
        """
        while time.time() < until:
            time.sleep(min(LOOK_EVERY, max(0.0, until - time.time())))
            self.go_on(name)

    def enter(self, name: str, status: str, reason: str | None = None) -> None:
        """Move a job on: nothing follows an end, only an end a stop, and nothing comes twice."""
        with self.entities.lock:
            job = self.entities.get(name)
            if job is None or self.status(job) in self.ended:
                return
            if self.status(job) == "Stopping" and status not in self.ended:
                return
            if status not in self.passed(job):  # else taken up again after a restart
                self.entities.put(self.moved(job, status, reason))

    @abstractmethod
    def live(self, job: Entity) -> None:
        """Take a job from its beginning to its end."""

    @abstractmethod
    def go_on(self, name: str) -> Entity:
        """Return the job as it is now.

        Raises:
            JobEnded: It was stopped, has no time left or is gone.
        """

    @abstractmethod
    def status(self, job: Entity) -> str:
        """Return what AWS calls its status."""

    @abstractmethod
    def passed(self, job: Entity) -> Collection[str]:
        """Return all that it has entered."""

    @abstractmethod
    def moved(self, job: Entity, status: str, reason: str | None) -> Entity:
        """Return the job in another status, with the reason if it failed."""
