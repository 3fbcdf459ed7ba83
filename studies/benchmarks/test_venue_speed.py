"""The practice venue under load, in a separate process, with the real `alpaca-py` client."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import MarketOrderRequest

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parent.parent.parent
ORDERS = 4000
CLIENTS = 4


@pytest.fixture
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "practice.alpaca_server",
        "--start",
        "2024-04-01",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(
        [*command, "fills.volume_share=null"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    server.stdout.readline()
    address = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            requests.get(f"{address}/v2/clock", headers={"APCA-API-KEY-ID": "k"}, timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.1)
    requests.post(f"{address}/control/advance", json={"to": "2024-04-02T14:30:00Z"}, timeout=30)
    yield address
    server.terminate()
    server.communicate(timeout=30)


@pytest.mark.parametrize("clients", [1, CLIENTS])
def test_practice_venue_orders_per_second(url: str, clients: int) -> None:
    def orders(number: int) -> list[float]:
        client = TradingClient("k", "s", url_override=url)
        taken = []
        for k in range(ORDERS // clients):
            side = OrderSide.BUY if k % 2 == 0 else OrderSide.SELL
            request = MarketOrderRequest(
                symbol=f"SY{'ABCD'[number]}", qty=1, side=side, time_in_force=TimeInForce.DAY
            )
            began = time.perf_counter()
            assert client.submit_order(request).status == "filled"
            taken.append(time.perf_counter() - began)
        return taken

    orders(0)
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = np.concatenate(list(pool.map(orders, range(clients))))
    rate = len(taken) / (time.perf_counter() - began)
    p99 = 1e3 * float(np.quantile(taken, 0.99))
    print(
        f"\n{clients} clients, {len(taken):,} market orders, filled: {rate:,.0f}/s, p99 {p99:.1f}"
        " ms"
    )
