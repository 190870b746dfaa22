"""`python -m include.sandbox`: serve the local AWS until it is stopped."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

from include.sandbox.openai_backend import check
from include.sandbox.settings import SettingsError, read


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m include.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--state", type=Path, default=Path(".local/sandbox"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = read(os.environ, arguments.state)
        if settings.openai:
            check(settings.openai)
    except SettingsError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((arguments.host, arguments.port))
    except OSError as error:
        sys.stderr.write(f"Error: port {arguments.port} cannot be used: {error.strerror}\n")
        return 2

    import uvicorn

    from include.sandbox.server import build

    port = listening.getsockname()[1]
    try:
        app = build(settings, f"http://127.0.0.1:{port}")
    except SettingsError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=75)
    uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
