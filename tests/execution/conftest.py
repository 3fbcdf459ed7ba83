from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from trainingdata.bars import Bars
from trainingdata.instruments import Kind


@dataclass
class Venue:
    """Responses of a venue on loopback. faults: path → statuses (or raw bodies) that come before
    the real answer.
    """

    now: str = "2024-03-05T17:30:20Z"
    account: dict[str, Any] = field(default_factory=dict)
    positions: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    bars: Bars | None = None
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        plain = {
            "/v2/account": self.account,
            "/v2/positions": self.positions,
            "/v2/orders": self.orders,
        }
        if path in plain:
            return plain[path]
        if path.startswith("/v2/assets/"):
            return self.assets.get(path.removeprefix("/v2/assets/"))
        if path == "/v2/clock":
            return {"timestamp": self.now, "is_open": True}
        if path in ("/v2/stocks/bars", "/v1beta3/crypto/us/bars"):
            return {"bars": self._bars(query), "next_page_token": None}
        return None

    def _bars(self, query: dict[str, list[str]]) -> dict[str, list[dict[str, Any]]]:
        """Stock hours come as two half-hours, coins as hours."""
        found: dict[str, list[dict[str, Any]]] = {}
        assert self.bars is not None
        start, end = (
            np.datetime64(pd.Timestamp(query[k][0]).tz_convert("UTC").tz_localize(None))
            for k in ("start", "end")
        )
        for name in query["symbols"][0].split(","):
            symbol = name.replace("/", "")
            if symbol not in self.bars.symbols:
                continue
            s = self.bars.symbols.index(symbol)
            rows = []
            for known, (o, h, low, c, v) in zip(*self.bars.real_bars(s), strict=True):
                began = known - np.timedelta64(1, "h")
                coin = self.bars.instruments[s].kind is Kind.CRYPTO
                if not coin and known.astype("datetime64[m]").astype(int) % 60 == 0:
                    began = known - np.timedelta64(30, "m")
                half = began + np.timedelta64(30, "m")
                whole = coin or half == known
                parts = (
                    [(began, o, h, low, c, v)]
                    if whole
                    else [(began, o, h, low, o, v / 2), (half, o, h, low, c, v / 2)]
                )
                rows += [p for p in parts if start <= p[0] <= end]
            found[name] = [
                dict(zip("tohlcv", (f"{at}Z", *numbers), strict=True)) for at, *numbers in rows
            ]
        return found


@pytest.fixture
def venue(market: Bars) -> Iterator[Venue]:
    """A venue with 100,000 USD in cash that sells the synthetic market."""
    state = Venue(
        bars=market,
        account={
            "cash": "100000",
            "non_marginable_buying_power": "100000",
            "multiplier": "4",
            "shorting_enabled": True,
        },
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            state.asked.append((self.command, parts.path))
            fault = state.faults[parts.path].pop(0) if state.faults.get(parts.path) else None
            body = (
                fault
                if isinstance(fault, str)
                else json.dumps(state.answer(parts.path, parse_qs(parts.query)))
            )
            known = self.headers.get("APCA-API-KEY-ID") == "KEYKEYKEY"
            status = fault if isinstance(fault, int) else 404 if body == "null" else 200
            self.send_response(status if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
