"""A mail server for tests, as aiosmtpd runs it, and the way to it as Airflow takes connections."""

import json
from typing import Any


class Mailbox:
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        self.letters: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.letters.append(envelope)
        return "250 OK"


def smtp_connection(port: int) -> str:
    return json.dumps(
        {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": port,
            "extra": {"from_email": "judge@example.com", "disable_ssl": True, "disable_tls": True},
        }
    )
