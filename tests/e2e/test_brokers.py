"""One contract of every broker: the simulator, the venue over `alpaca-py`, and somebody's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from execution.testing import BENCH_START, BrokerBench, BrokerContract
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
from tests.e2e.practice import SPAN, broker, practising

ROOT = Path(__file__).resolve().parent.parent.parent


def backtest() -> BacktestSettings:
    words = [*SPAN, "start=2024-02-20", "end=2024-02-23"]
    return BacktestSettings.from_config(compose_config("backtest", words))


class TestSimulator(BrokerContract):
    """The broker of backtests."""

    @pytest.fixture
    def bench(self) -> BrokerBench:
        settings = backtest()
        market = settings.load_market()
        simulated = settings.build_broker(market)
        here = BrokerBench(simulated, market.bars, simulated.advance)
        here.advance(BENCH_START)
        return here


class TestAlpaca(BrokerContract):
    """Alpaca, over HTTP to the practice venue."""

    @pytest.fixture
    def bench(self) -> Iterator[BrokerBench]:
        market = backtest().load_market()
        with practising() as start:
            practice = start()
            here = BrokerBench(broker(practice), market.bars, practice.venue.advance)
            here.advance(BENCH_START)
            yield here


ADAPTER = {
    "corner_shop/__init__.py": "",
    "corner_shop/broker.py": '''"""Sends what it is told to a simulated venue."""
class Account:
    def __init__(self, settings, keys): self.name = settings.name
class Shop:
    def __init__(self, venue): self.venue = venue
    def account(self): return self.venue.account()
    def now(self): return self.venue.now()
    def submit(self, orders, gate=None): return self.venue.submit(orders, gate)
    def cancel(self, ids): return self.venue.cancel(ids)
    def assets(self, symbols): return self.venue.assets(symbols)
''',
    "corner_shop/rules.py": '''"""Holds a tenth of each."""
import numpy as np
def tenth(inputs): return np.full(len(inputs.symbols), 0.1)
''',
    "corner_shop-1.0.dist-info/METADATA": "Name: corner-shop\nVersion: 1.0\n",
    "corner_shop-1.0.dist-info/entry_points.txt": """[kelly_chronos.brokers]
corner = corner_shop.broker:Account
[kelly_chronos.strategies]
tenth = corner_shop.rules:tenth
""",
    "test_shop.py": """import pytest
from corner_shop.broker import Shop
from execution.testing import BENCH_START, BrokerContract, BrokerBench
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
WORDS = ["data.start=2024-01-02", "start=2024-02-20", "end=2024-02-23", "forecaster=ewma"]
class TestShop(BrokerContract):
    @pytest.fixture
    def bench(self):
        settings = BacktestSettings.from_config(compose_config("backtest", WORDS))
        market = settings.load_market()
        venue = settings.build_broker(market)
        here = BrokerBench(Shop(venue), market.bars, venue.advance)
        here.advance(BENCH_START)
        return here
""",
}
LOOK = """
from execution.brokers import create_broker_connection
from foundation.compose import compose_config
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings
from trainingdata.feed.endpoint import BrokerSettings
print(create_broker_connection(BrokerSettings(name="corner"), None).name)
def chosen(rule):
    return BacktestSettings.from_config(compose_config("backtest", [f"sizing._target_={rule}"]))
print(chosen("tenth").sizing.strategy)
for name, what in (("cornr", lambda: create_broker_connection(BrokerSettings(name="cornr"), None)),
                   ("tent", lambda: chosen("tent"))):
    try: what()
    except InputError as error: print(error)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder as `pip install --target` leaves it."""
    for name, text in ADAPTER.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def python(shop: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{shop}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=shop, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.wire
def test_third_party_broker_plugin_passes_contract_tests(shop: Path) -> None:
    said = python(shop, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py")
    assert "6 passed" in said


@pytest.mark.wire
def test_installed_packages_are_found_by_entry_points(shop: Path) -> None:
    registered, strategy, unknown_broker, unknown_strategy = python(shop, "-c", LOOK).splitlines()
    assert (registered, strategy) == ("corner", "corner_shop.rules.tenth")
    assert unknown_broker.endswith("is not one of alpaca, corner; did you mean corner?")
    assert unknown_strategy.endswith("installed: tenth; did you mean tenth?")
