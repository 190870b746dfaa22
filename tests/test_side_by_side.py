"""Facts about two copies of the project on one machine."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_copy import Copy

pytestmark = pytest.mark.slow


def test_two_copies_run_side_by_side(tmp_path: Path) -> None:
    copies = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        copies.append(Copy(tmp_path / name))
    try:
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(lambda copy: copy.run(None), copies))
        assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
        buckets = [
            copy.client("s3").list_objects_v2(Bucket="nova-judge-sandbox") for copy in copies
        ]
        assert buckets[0]["Contents"][0]["Key"] != buckets[1]["Contents"][0]["Key"]
    finally:
        for copy in copies:
            copy.down()
