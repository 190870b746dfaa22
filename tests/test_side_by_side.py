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
        one, two = (summaries(copy) for copy in copies)
        assert len(one) == len(two) == 1
        assert one != two
    finally:
        for copy in copies:
            copy.down()


def summaries(copy: Copy) -> list[str]:
    """Return the keys of the summaries in a copy's bucket."""
    objects = copy.client("s3").list_objects_v2(Bucket="nova-judge-sandbox")["Contents"]
    return [each["Key"] for each in objects if each["Key"].endswith("/summary.json")]
