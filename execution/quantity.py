"""The quantity of one symbol to trade now, and why, for the account of the configured venue.

    python -m execution.quantity NVDA 150 [--json] [key=value …]

Settings are those of configs/live.yaml: `broker.url_override=URL`, `data.dir=[DIR]` for bars from
files instead of the venue's. Keys come from APCA_API_KEY_ID and APCA_API_SECRET_KEY. It reads; it
sends nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.alpaca.broker import AlpacaBroker
from execution.broker import Asset
from execution.decision import keep_unsolved, reason
from execution.orders import Account
from execution.outlook import NoForecast
from execution.settings import LiveSettings
from execution.venue_rules import BLOCKED, allowed
from foundation.command import Parser, log_to_file, one_line
from foundation.compose import composed
from foundation.errors import BrokerError, DataError, InputError
from sizing import quantity as sizing_quantity
from sizing.kelly import SizingProblem
from trainingdata.bars import Bars, closes_of, find_files, read_bars
from trainingdata.feed.endpoint import Keys
from trainingdata.feed.market_data import MarketData
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import DAY, HOUR, in_session, stays_open, utc_text

log = logging.getLogger(__name__)

Fetch = Callable[[Sequence[str], np.datetime64], Bars]  # bars of symbols, as known at an instant


@dataclass(frozen=True, slots=True)
class Sized:
    """qty: signed quantity to trade now. why: in words. unsolved: the problem of a solver that
    failed.
    """

    symbol: str
    qty: Decimal
    why: str
    unsolved: SizingProblem | None = None


def get_qty(symbol: str, price: float, *overrides: str) -> Decimal:
    """The signed quantity to trade now, for the account and bars of the configured venue.

    overrides: `key=value` words, as on the command line.

    Raises
    ------
    InputError
        for a symbol, price, configuration or environment that cannot be used, and a venue that does
        not answer: an account is never invented.
    """
    return sized(symbol, price, *overrides).qty


def sized(symbol: str, price: float, *overrides: str) -> Sized:
    """`get_qty` with its reason."""
    item = instrument(symbol)
    if not (np.isfinite(price) and price > 0):
        raise InputError(f"price: {price} is not above 0")
    settings = LiveSettings.of(composed("live", list(overrides)))
    keys = Keys.of(os.environ)
    broker = AlpacaBroker(settings.broker, keys)
    account = broker.account()
    asset = broker.assets([item.symbol]).get(item.symbol)
    if account.blocked:
        return Sized(item.symbol, Decimal(0), BLOCKED)
    if asset is not None and not asset.tradable:
        return Sized(item.symbol, Decimal(0), "the venue takes no orders for it now")
    return decide(item.symbol, price, settings, account, _fetch(settings, keys), asset)


def decide(
    symbol: str,
    price: float,
    settings: LiveSettings,
    account: Account,
    fetch: Fetch,
    asset: Asset | None = None,
) -> Sized:
    """The quantity for an account at its own instant, the symbol valued at this price; `fetch`
    brings the bars.

    asset: what the venue allows with it, where it says so.
    """
    now = account.as_of
    item = instrument(symbol)
    if item.kind is Kind.STOCK and not in_session(np.array([now]))[0]:
        return Sized(
            symbol, Decimal(0), f"its market is shut at {utc_text(now)}; nothing can be traded now"
        )
    account = replace(account, prices={**_waiting_prices(account), **account.prices, symbol: price})
    held = (s for s, q in account.exposure.items() if q)
    wanted = {
        symbol,
        *((instrument(s).symbol for s in settings.symbols) if settings.symbols else held),
    }
    try:
        bars = settings.seen(settings.counted(fetch(sorted(wanted), now)))
        if asset is not None:
            venues = settings.increments == "broker"
            own = (
                allowed(i, asset, increments=venues) if i.symbol == symbol else i
                for i in bars.instruments
            )
            bars = replace(bars, instruments=tuple(own))
        account = _checked(account.priced(closes_of(bars)))
        trader = settings.trader(settings.forecaster.build(bars.symbols))
        belief = trader.outlook(bars, symbol, now)
    except NoForecast as error:
        return _without_forecast(symbol, price, settings, _checked(account), str(error))
    decision = trader.act(bars, account, belief)
    choice = next(c for c in decision.choices if c.symbol == symbol)
    if decision.failure:
        log.warning("%s: Enhanced sizing failed: %s", symbol, decision.failure)
    lines = [f"Enhanced sizing failed: {decision.failure}"] if decision.failure else []
    lines += [line.split(":")[0] for line in decision.sized] + [
        reason(choice, float((belief.until - now) / HOUR))
    ]
    log.info("%s: %+f: %s", symbol, choice.qty, "; ".join(lines))
    return Sized(symbol, choice.qty, "; ".join(lines), decision.unsolved)


def _without_forecast(
    symbol: str, price: float, settings: LiveSettings, account: Account, why: str
) -> Sized:
    """No new risk, or what the legacy rule says where it is asked to answer."""
    rules = settings.sizing
    qty = sizing_quantity.get_qty(
        symbol,
        price,
        account=account,
        moments=None,
        limits=settings.limits.within(account.leverage),
        overnight=not stays_open(account.as_of),
        enhanced=rules.enhanced,
        fallback=rules.fallback,
        risk_multiplier=rules.risk_multiplier,
    )
    asked = not rules.enhanced or rules.fallback == "legacy"
    return Sized(
        symbol,
        qty,
        f"Enhanced sizing failed: {why}" + ("; Legacy sizing" if asked else "; no new risk"),
    )


def _fetch(settings: LiveSettings, keys: Keys) -> Fetch:
    """Bars from the files of `data.dir`, or the venue's own."""
    folders = [Path(folder).expanduser() for folder in settings.data.dir]

    def from_files(symbols: Sequence[str], now: np.datetime64) -> Bars:
        there = find_files(folders, None)
        missing = [s for s in symbols if s not in there]
        if missing:
            log.warning(
                "no bars in data.dir of %s: counts for the limits, without a forecast",
                " ".join(missing),
            )
        if len(missing) == len(symbols):
            raise NoForecast(
                f"no forecast: no file of {' '.join(symbols)} in {' '.join(map(str, folders))}"
            )
        return read_bars(folders, [s for s in symbols if s in there], end=now)

    def from_venue(symbols: Sequence[str], now: np.datetime64) -> Bars:
        try:
            data = MarketData(settings.broker, keys, settings.data.feed)
            return data.bars(symbols, now - settings.history_days * DAY, now)
        except (DataError, BrokerError) as error:
            raise NoForecast(str(error)) from error

    return from_files if folders else from_venue


def _waiting_prices(account: Account) -> dict[str, float]:
    """Limits and stops of open orders, for symbols that are not held and have no other price."""
    priced = (
        (order.symbol, order.limit_price or order.stop_price) for order in account.open_orders
    )
    return {symbol: price for symbol, price in priced if price is not None}


def _checked(account: Account) -> Account:
    """The account, once everything in it has a price."""
    unpriced = [s for s, q in account.exposure.items() if q and s not in account.prices]
    if unpriced:
        raise BrokerError(
            f"{unpriced[0]}: an open order, but no position, bar or limit says what it is worth"
        )
    return account


def main() -> None:
    """Command line."""
    parser = Parser(
        description="The quantity of one symbol to trade now, and why. "
        "Reads the account; sends nothing."
    )
    parser.add_argument("symbol")
    parser.add_argument("price", type=float, help="USD")
    parser.add_argument("--json", action="store_true", help='{"symbol", "qty", "why"}')
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="any setting of configs/live.yaml"
    )
    given = parser.parse_intermixed_args()
    parser.refuse_others(given.overrides)
    with one_line("nothing was sent"):
        log_to_file("quantity")
        answer = sized(given.symbol, given.price, *given.overrides)
        if answer.unsolved is not None:
            keep_unsolved(answer.unsolved)
    if given.json:
        qty = int(answer.qty) if answer.qty == int(answer.qty) else float(answer.qty)
        sys.stdout.write(
            json.dumps({"symbol": answer.symbol, "qty": qty, "why": answer.why}) + "\n"
        )
        return
    sys.stdout.write(f"{answer.symbol} {answer.qty:+f}: {answer.why}\n")


if __name__ == "__main__":
    main()
