"""Fixtures that more than one module of tests uses."""

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings
from sandbox_server import Sandbox, running_sandbox

# Who starts the tests in the background has SIGINT ignored, and whatever they start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports Airflow, which writes its settings where this says.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

# The same examples in every run; HYPOTHESIS=wild looks for others.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.register_profile("wild", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS", "seeded"))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One quick sandbox for all tests that do not set it up differently."""
    delays = "endpoint=0.3,delete=0.2,job=0.3"
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), sandbox_delays=delays) as running:
        yield running


CALM = ("test_celery", "test_nights", "test_side_by_side", "test_stuck")
"""Modules that start an Airflow and do not mind if another one runs beside it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a file's tests run in one process, and those that start an Airflow one after the other.

    The latter take longest, so they come first; the calm ones come last, in whichever process has
    nothing else to do by then.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    places = {}
    for item in items:
        starts_airflow = isinstance(item, pytest.Function) and hasattr(item.module, "Copy")
        group = "airflow" if starts_airflow else item.path.stem
        if item.path.stem in CALM:
            group = "calm"
        item.add_marker(pytest.mark.xdist_group(group))
        places[item] = {"airflow": 0, "calm": 2}.get(group, 1)
    items.sort(key=lambda item: places[item])
