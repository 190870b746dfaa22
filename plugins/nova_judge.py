"""What the project adds to the Airflow UI: pages, and links from tasks."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin

from include.links import LINKS, home

PREFIX = "/nova-judge"

BASE = urlsplit(home()).path
"""Where a proxy has put Airflow, `/team` for example; the UI does not add it to what it frames."""


class Pages:
    """The pages' app, built where it is asked for: every process of Airflow loads plugins."""

    def __init__(self) -> None:
        self._app: Any = None
        self._building = threading.Lock()

    def build(self) -> None:
        """Build it, and import what its pages need."""
        with self._building:
            if self._app is None:
                import pyarrow.parquet  # noqa: F401

                from include.web.app import create_app

                self._app = create_app()
                # Else Python's collector now and then looks through all of Airflow for a second.
                gc.freeze()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI)."""
        if self._app is None:
            await asyncio.to_thread(self.build)
        await self._app(scope, receive, send)


PAGES = Pages()


class Ahead:
    """Builds the pages when the api-server starts, beside its other work (ASGI middleware)."""

    def __init__(self, app: Any) -> None:
        self._app = app
        threading.Thread(target=PAGES.build, daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand on a request."""
        await self._app(scope, receive, send)


class NovaJudgePlugin(AirflowPlugin):
    """Registers links and pages, so that the UI can show them."""

    name = "nova_judge"
    operator_extra_links: ClassVar[list[object]] = [link() for link in LINKS]
    fastapi_apps: ClassVar[list[dict[str, object]]] = [
        {"app": PAGES, "url_prefix": PREFIX, "name": "Nova Judge"}
    ]
    fastapi_root_middlewares: ClassVar[list[dict[str, object]]] = [
        {"middleware": Ahead, "name": "Nova Judge"}
    ]
    external_views: ClassVar[list[dict[str, str]]] = [
        {
            "name": "Evaluations",
            "href": f"{BASE}{PREFIX}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "evaluations",
        },
        {
            "name": "Nova Judge",
            "href": f"{BASE}{PREFIX}/runs/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "nova-judge",
        },
    ]
