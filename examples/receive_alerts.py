r"""A webhook that receives the alerts of a live job and prints them.

    .venv/bin/python examples/receive_alerts.py

It sends itself one alert, like a job with `alert_url=http://127.0.0.1:PORT`, and stops. Slack and
Discord webhooks read the same JSON without such a program.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

from foundation.notifier import Notifier

received: list[dict[str, str]] = []


class Receiver(BaseHTTPRequestHandler):
    """Handler of one alert: a JSON object with text, content and kind."""

    def do_POST(self) -> None:
        """Print the alert and answer 200; otherwise the sender retries."""
        alert = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        received.append(alert)
        sys.stdout.write(f"{alert['kind']}: {alert['text']}\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Disable the log of requests."""


def main() -> None:
    """Receive one alert on a free local port."""
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with Notifier(None, f"http://127.0.0.1:{server.server_port}") as notices:
            notices.alert("quarantine", "no price for SYC (3 held): valued at its last mark")
        server.shutdown()


if __name__ == "__main__":
    main()
