"""A practice server on loopback for a test: its address, its venue, what it was asked; and what
is sent to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import MarketOrderRequest

from execution.alpaca.broker import AlpacaBroker
from execution.decision.decision import Decision
from execution.decision.trader import Trader
from execution.journal.decisions import DecisionJournal
from execution.journal.events import EventLog
from execution.journal.order_store import OrderStore
from execution.live.accounts import TRADE_JOB
from execution.live.batch import build_finished_cycle, record_batch_outcome, record_decision_batch
from execution.live.cycle import AccountProtocol, Cycle, run_decision_cycle
from execution.live.resumption import resume_batches
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import place_orders
from execution.orders.gate import AllowAllGate, OrderGate
from execution.orders.orders import Order
from foundation.compose import compose_config
from practice.alpaca.stocks import Venue
from practice.alpaca_server import AlpacaServer, warm_up_venue
from practice.settings import PracticeSettings
from tests.support.connections import open_for_test
from tests.support.passing import HURRIED
from tests.support.served import serving
from trainingdata.bars import OHLCV_FIELDS, Bars
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.market_data import MarketData
from trainingdata.market import Market

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = ApiKeys("KEYKEYKEY", "SECRETSECRET")
OPENING = "2024-02-20T15:30:00Z"
SPAN = (  # an oracle that trades at every decision
    *("data.start=2024-01-02", "data.end=2024-03-08", "trials=null"),
    *("forecaster=oracle", "forecaster.calibrated=false", "sizing.holding=next"),
)


@dataclass
class Practice:
    """A running server: its address, its venue, what it was asked."""

    url: str
    venue: Venue
    posts: list[str]

    def advance(self, to: str | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = requests.post(
            f"{self.url}/control/advance", json={"to": to} if to else {}, timeout=120
        ).json()
        return answer

    def pass_seconds(self, seconds: float) -> None:
        """Let seconds pass between two instants."""
        told = {"seconds": seconds}
        assert requests.post(f"{self.url}/control/pass", json=told, timeout=30).ok

    def fail(self, **fault: Any) -> None:
        assert (
            requests.post(f"{self.url}/control/faults", json=fault, timeout=30).status_code == 200
        )

    def clear_faults(self) -> None:
        assert requests.delete(f"{self.url}/control/faults", timeout=30).status_code == 200

    def halt(self, symbol: str, halted: bool = True) -> None:
        """No trading in a symbol, or trading again."""
        told: Any = {"symbol": symbol, "halted": halted}
        assert requests.post(f"{self.url}/control/assets", json=told, timeout=30).ok

    def land(self) -> None:
        """What was held up on its way reaches the venue."""
        assert requests.post(f"{self.url}/control/land", timeout=30).status_code == 200


Start = Callable[..., Practice]


@cache
def _settings_and_market(words: tuple[str, ...]) -> tuple[PracticeSettings, Market]:
    """The settings of a server and its market, which no test changes."""
    settings = PracticeSettings.from_config(
        compose_config("venue", [*SPAN, "start=2024-02-20", "end=2024-02-23", *words])
    )
    market = settings.load_market()
    if not _settings_and_market.cache_info().currsize:
        warm_up_venue(settings, market)
    return settings, market


@contextmanager
def practising(*, wired: bool = False) -> Iterator[Start]:
    """Starts servers on the synthetic market, which stop when the test ends.

    wired: whether requests of this process to them take a socket.
    """

    def start(
        *words: str, speed: float | None = None, bars: Callable[[Bars], Bars] = lambda bars: bars
    ) -> Practice:
        settings, market = _settings_and_market(words)
        server = AlpacaServer(Venue(settings, market.with_bars(bars(market.bars))), speed)
        posts: list[str] = []

        def note(method: str, path: str, body: str) -> None:
            if (method, path) == ("POST", "/v2/orders"):
                posts.append(body)

        return Practice(served.serve_venue(server, note), server.venue, posts)

    with serving(wired=wired) as served:
        yield start


def write_bars(bars: Bars, folder: Path, symbols: Sequence[str]) -> Path:
    """Real bars of some symbols in files, all of their days."""
    folder.mkdir()
    for s, item in enumerate(bars.instruments):
        if item.symbol in symbols:
            times, values = bars.bars_of_symbol(s)
            starts = pd.DatetimeIndex(bars.clock(item.kind).starts_by_end(times)).tz_localize("UTC")
            frame = pd.DataFrame(values, columns=list(OHLCV_FIELDS)).assign(timestamp=starts)
            frame.to_csv(folder / f"{item.symbol}.csv", index=False)
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What a command has of an account: its keys, and places of its own to write to."""
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret}
    places = {"PATH": "", "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    return {**keys, **places, **more}


def at_the_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Commands run in a folder, with the account's keys."""
    monkeypatch.chdir(folder)
    for name, value in environment(folder).items():
        if name != "PATH":
            monkeypatch.setenv(name, value)


def trading(here: Practice) -> TradingClient:
    return TradingClient(KEYS.key, KEYS.secret, url_override=here.url)


def broker(here: Practice, patience: float = 0.0, book: OrderStore | None = None) -> AlpacaBroker:
    settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
    return AlpacaBroker(
        settings, KEYS, patience=patience, time=HURRIED, book=book or forgotten()[1]
    )


def buy(symbol: str = "SYA", qty: float = 10, **more: Any) -> MarketOrderRequest:
    coin = symbol.endswith("USD")
    force = TimeInForce.GTC if coin else TimeInForce.DAY
    return MarketOrderRequest(
        symbol=symbol, qty=qty, side=OrderSide.BUY, time_in_force=force, **more
    )


def order(name: str, symbol: str = "SYA", side: Any = "buy", qty: str = "10", **more: Any) -> Order:
    return Order(name, symbol, side, Decimal(qty), "test", **more)


class PricedGate(AllowAllGate):
    """A gate that allows every order and knows prices, USD by symbol."""

    def __init__(self, prices: Mapping[str, float]) -> None:
        self.prices = prices


class Ungated:
    """An account that nothing is compared with, and whose orders nothing denies."""

    def reconcile(self) -> None:
        pass

    def build_gate(self, account: AccountSnapshot, symbols: Iterable[str]) -> OrderGate:
        del symbols
        return PricedGate(account.prices)


UNGATED = Ungated()


def resume(
    mine: AlpacaBroker, journal: DecisionJournal, book: OrderStore, tradable: Collection[str]
) -> None:
    """Send what is left of earlier decisions."""
    for batch in resume_batches(mine, journal, book, tradable, UNGATED):
        with record_batch_outcome(batch, journal):
            place_orders(mine, batch.orders, batch.cancelled_quantities, batch.gate)


def forgotten() -> tuple[DecisionJournal, OrderStore]:
    """A journal of no file, and its orders."""
    database = open_for_test()
    book = OrderStore(database)
    return DecisionJournal(database, EventLog(database), book, TRADE_JOB), book


@cache
def _live_settings(words: tuple[str, ...]) -> LiveSettings:
    return LiveSettings.from_config(compose_config("live", list(words)))


def live_settings(here: Practice, *words: str, **more: Any) -> LiveSettings:
    """Settings of configs/live.yaml for a server.

    more: what is another value in every test. Hydra takes a quarter of a second for words that it
        has not seen yet.
    """
    settings = _live_settings(words)
    reached = replace(settings.broker, url_override=here.url)
    return replace(settings, broker=reached, **more)


@dataclass
class Live:
    """What the live entry point composes for a practice server: `words` are settings of
    configs/live.yaml.
    """

    settings: LiveSettings
    feed: BarFeed
    trader: Trader

    @classmethod
    def at(cls, here: Practice, *words: str, patience: float = 0.0, **more: Any) -> Live:
        settings = live_settings(here, *SPAN[3:], f"bar_wait_seconds={patience}", *words, **more)
        bars = here.venue.market.bars
        trader = settings.build_trader(settings.forecaster.build(bars.symbols))
        if "oracle" in trader.forecaster.name:
            trader = trader.with_beliefs(Market(bars, here.venue.index))
        symbols = settings.symbols or bars.symbols
        adjustment, timeframe = settings.data.adjustment, settings.timeframe_or_hourly
        data = MarketData(settings.broker, KEYS, "iex", adjustment, timeframe)
        return cls(
            settings, BarFeed(data, symbols, settings.effective_history_days, patience), trader
        )

    def through(self, here: Practice, **more: Any) -> list[Decision]:
        """The decisions of one cycle after the other to the end of what the venue plays."""
        decisions = []
        journal, book = forgotten()
        mine = broker(here, book=book)
        while True:
            resume(mine, journal, book, self.settings.tradable_symbols)
            cycle = self.cycle(mine, journal, **more)
            decisions += [cycle.decision] if cycle.decision is not None else []
            if here.venue.is_over:
                return decisions
            here.advance()

    def decide(self, mine: AlpacaBroker, **more: Any) -> Cycle:
        """One cycle that sends nothing."""
        return run_decision_cycle(mine, self.feed, self.trader, self.settings, **more)

    def cycle(
        self,
        mine: AlpacaBroker,
        journal: DecisionJournal | None = None,
        live: AccountProtocol = UNGATED,
        **more: Any,
    ) -> Cycle:
        """One cycle that sends its orders; journal: none forgets what it decided."""
        kept = forgotten()[0] if journal is None else journal
        seconds = self.settings.decision_valid_seconds
        for is_last in (False, True):
            decided = self.decide(mine, journal=kept, **more)
            batch = record_decision_batch(decided, kept, live, seconds, is_last_attempt=is_last)
            with record_batch_outcome(batch, kept):
                batch.fills, batch.unsent_reasons = place_orders(
                    mine, batch.orders, batch.cancelled_quantities, batch.gate
                )
            if not batch.is_withdrawn:
                break
        return build_finished_cycle(batch)
