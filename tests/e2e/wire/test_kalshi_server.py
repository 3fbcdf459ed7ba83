"""`python -m practice.kalshi_server` as a user starts it."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from practice.kalshi import catalog
from practice.kalshi_server import build_exchange, build_listings
from practice.settings import KalshiVenueSettings
from tests.e2e.refused import refusal_of
from tests.event_contracts.practice import API, ORDERS, body_of, buying, signed_headers
from tests.event_contracts.recordings import Quote, write_files
from tests.support.commands import Started
from tests.support.messages import check_message

MODULE = ["-m", "practice.kalshi_server"]
BALANCE = f"{API}/portfolio/balance"


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[str, str, str]]:
    """Its address, the id and the text of its key."""
    key_file = folder / "key.pem"
    command = [*MODULE, "--key-file", str(key_file), "--port", "0", *words]
    server = Started(command, cwd=folder)
    try:
        server.wait_for_output()
        url = server.output.partition(": ")[0]
        assert url.startswith("http://127.0.0.1:"), server.output
        key_id = server.output.partition("; key ")[2].partition(",")[0]
        yield url, key_id, key_file.read_text()
    finally:
        server.kill()


def test_practice_server_accepts_the_credentials_it_prints(tmp_path: Path) -> None:
    with served(tmp_path, "--capital", "250", "synthetic=3") as (url, key_id, pem):
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        signed = signed_headers(key_id, pem, "GET", BALANCE)
        balance = requests.get(f"{url}{BALANCE}", headers=signed, timeout=30)
        assert balance.json()["balance_dollars"] == "250.0000"
        markets = requests.get(f"{url}{API}/markets", timeout=30).json()["markets"]
        assert {market["ticker"] for market in markets} == {"SIM-1", "SIM-2", "SIM-3"}
        moved = requests.post(f"{url}/control/advance", json={"steps": 2}, timeout=60).json()
        assert moved["passed"] == 2


def test_recorded_markets_open_at_their_recorded_relative_times(tmp_path: Path) -> None:
    quotes: list[Quote] = [
        (f"2025-05-01T10:{m:02}", ticker, 40 + m // 5, 45)
        for ticker, first in (("E-1-A", 0), ("E-1-B", 15))
        for m in range(first, 25, 5)
    ]
    write_files(tmp_path, quotes, {"E-1-A": 1, "E-1-B": 0})
    settings = KalshiVenueSettings(folder=str(tmp_path), interval=300)
    exchange = build_exchange(settings, build_listings(settings), np.datetime64("2026-01-01", "ns"))
    told = []
    for _ in range(4):
        listed = catalog.get_markets(exchange, {})["markets"]
        told.append({m["ticker"]: (m["status"], m["yes_bid_dollars"]) for m in listed})
        exchange.advance()
    assert told[0] == {"E-1-A": ("active", "0.4000"), "E-1-B": ("initialized", "0.0000")}
    assert told[3] == {"E-1-A": ("active", "0.4300"), "E-1-B": ("active", "0.4300")}


@pytest.mark.parametrize("speed", [60, 3600])
def test_practice_order_expiry_agrees_with_client_clock(tmp_path: Path, speed: int) -> None:
    """Regression: the venue's clock ran ahead of the client, so orders expired before they
    arrived.
    """
    words = ("--speed", str(speed), "market.steps=20000")
    with served(tmp_path, *words) as (url, key_id, pem):

        def market() -> dict[str, Any]:
            listed: list[dict[str, Any]] = requests.get(f"{url}{API}/markets", timeout=30).json()[
                "markets"
            ]
            return listed[0]

        first = market()
        length = np.datetime64(first["close_time"][:-1]) - np.datetime64(first["open_time"][:-1])
        assert abs(length / np.timedelta64(1, "s") - 20_000 * 60 / speed) < 1
        # Some ticks pass.
        sizes = {first["yes_bid_size_fp"]}
        while len(sizes) < 3:
            sizes.add(market()["yes_bid_size_fp"])
        expires = int(time.time()) + 30
        body = body_of(buying("a", "SIM-1", price="0.01"), expiration_time=expires)
        headers = signed_headers(key_id, pem, "POST", ORDERS)
        answer = requests.post(f"{url}{ORDERS}", headers=headers, json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        signed = signed_headers(key_id, pem, "GET", f"{API}/portfolio/orders")
        listed = requests.get(f"{url}{API}/portfolio/orders", headers=signed, timeout=30).json()
        [order] = listed["orders"]
        placed = np.datetime64(order["created_time"][:-1]).astype("datetime64[s]").astype(int)
        assert abs(int(placed) - time.time()) < 10
        assert order["expiration_time"].startswith(str(np.datetime64(expires, "s")))


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--key-file", "/dev/null/key.pem"], ("--key-file", "/dev/null/key.pem")),
        (["--key-file", "k" * 300], ("--key-file",)),
        (["--key-file", "~nobody at all/key.pem"], ("--key-file",)),
        (["--key-file", "key.pem", "--folder", "nowhere"], ("folder",)),
        (["--key-file", "mine.pem", "--port", "8443"], ()),
    ],
)
def test_unwritable_key_or_invalid_settings_start_no_server(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An existing key file is never overwritten."""
    monkeypatch.chdir(tmp_path)
    Path("mine.pem").write_text("a key of somebody")
    check_message(refusal_of("practice.kalshi_server", *words), *facts)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["a key of somebody"]
