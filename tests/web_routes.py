"""The routes of the pages in the Airflow UI, as the app itself lists them."""

from fastapi.routing import APIRoute

from include.web.app import create_app

WITH_TEXTS = ("/pairs", "/report", "/evidence", "/summary.json")
"""Words in the addresses of pages that show prompts or responses."""


CHART = "charts/win_rates.csv"


def addresses(run_id: str, evaluation: str, candidate: str = "claude") -> list[str]:
    """Return an address of every route that the app has, filled in for one run."""
    filled = {"dag_id": "nova_llm_judge", "run_id": run_id, "candidate": candidate, "place": "0"}
    filled |= {"environment": "sandbox", "evaluation": evaluation, "name": CHART}
    routes = [route for route in create_app().routes if isinstance(route, APIRoute)]
    found = [route.path.replace(":path", "").format(**filled) for route in routes]
    return [
        each.replace(f"/static/{CHART}", "/static/page.js").replace(
            ".csv", f".csv?candidate={candidate}"
        )
        for each in found
    ]


def has_texts(address: str) -> bool:
    """Whether a page shows prompts or responses."""
    return any(word in address for word in WITH_TEXTS)
