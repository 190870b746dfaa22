"""Write dist/mwaa/: what Amazon MWAA takes, dags/, plugins.zip, requirements.txt and startup.sh."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.3.1", "3.2.1")
"""Of Airflow, that MWAA offers and the project runs on."""


def build(out: Path, version: str) -> None:
    """Write the folder anew.

    Args:
        out: The folder.
        version: Airflow's, of the MWAA environment.
    """
    shutil.rmtree(out, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.example", "sandbox.yaml")
    shutil.copytree(ROOT / "dags", out / "dags", ignore=ignored)
    source = ROOT / "infra" / "mwaa"
    requirements = (source / "requirements.txt").read_text(encoding="utf-8")
    (out / "requirements.txt").write_text(
        requirements.replace("AIRFLOW", version, 1), encoding="utf-8"
    )
    shutil.copy(source / "startup.sh", out)
    with ZipFile(out / "plugins.zip", "w") as archive:
        for path, name in _plugins():
            archive.writestr(_entry(name), path.read_bytes())


def _plugins() -> Iterator[tuple[Path, str]]:
    """Yield what goes into plugins.zip, and its name there: not the sandbox, MWAA has AWS."""
    yield ROOT / "plugins" / ".airflowignore", ".airflowignore"
    for path in sorted((ROOT / "plugins").glob("*.py")):
        yield path, path.name
    for folder in ("include", "recipes"):
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT)
            if path.is_file() and "__pycache__" not in name.parts and "sandbox" not in name.parts:
                yield path, str(name)


def _entry(name: str) -> ZipInfo:
    """Return an entry without a time: the same files make the same archive."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make mwaa", description=__doc__)
    parser.add_argument("--airflow", default=VERSIONS[0], help="of the environment (AIRFLOW=)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "mwaa", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.airflow not in VERSIONS:
        known = ", ".join(VERSIONS)
        print(f"Error: AIRFLOW={options.airflow}: expected one of {known}", file=sys.stderr)
        return 2
    build(options.out, options.airflow)
    size = (options.out / "plugins.zip").stat().st_size
    print(f"{options.out}\nplugins.zip has {size / 1024:,.0f} KiB; go on with docs/production.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
