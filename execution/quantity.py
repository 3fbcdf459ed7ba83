"""Quantity of one symbol to trade now, with its reason, for the account at the venue."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.brokers import create_broker_connection, open_reading_gateway
from execution.decision.belief_building import NoForecast
from execution.decision.choice import format_no_order_reason, format_reason
from execution.journal.evidence import read_evidence_state
from execution.live.account_lock import JOURNAL_FILE
from execution.live.accounts import TRADE_JOB
from execution.live.asset_check import refuse_unlisted_symbols
from execution.live.exposure import open_order_prices
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.last_trades import EmptyTradeSource
from execution.orders.venue_rules import with_venue_rules
from foundation.compose import compose_config
from foundation.errors import BrokerError, DataError, InputError
from sizing import quantity as sizing_quantity
from trainingdata.bar_files import find_bar_files
from trainingdata.bars import Bars, last_closes_by_symbol
from trainingdata.confirmation import drop_unconfirmed_bars
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.feed.market_data import MarketData
from trainingdata.history import BarsBySymbol
from trainingdata.instants import HOUR, format_utc, history_start
from trainingdata.instruments import instrument, is_crypto
from trainingdata.sessions import is_in_session

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SizedQuantity:
    """Quantity of one symbol to trade now.

    symbol: name of the symbol.
    qty: shares or units of crypto to trade; positive to buy, negative to sell.
    reason: reason for the quantity, in words.
    """

    symbol: str
    qty: Decimal
    reason: str


def get_qty(symbol: str, price: float, *overrides: str) -> Decimal:
    """Return the signed quantity to trade now, for the account and bars of the configured venue.

    price: price at which the symbol is valued, USD.
    overrides: `key=value` settings, as on the command line.

    Raises
    ------
    InputError
        for an invalid symbol, price, configuration or environment, and if the venue does not
        respond, because no account is assumed by default.
    """
    return size_quantity(symbol, price, *overrides).qty


def size_quantity(symbol: str, price: float, *overrides: str) -> SizedQuantity:
    """Return the signed quantity to trade now, and the reason for it.

    price: price at which the symbol is valued, USD.
    overrides: `key=value` settings, as on the command line.

    Raises
    ------
    InputError
        for an invalid symbol, price, configuration or environment, and if the venue does not
        respond.
    """
    symbol, is_stock = instrument(symbol).symbol, not is_crypto(symbol)
    if not (np.isfinite(price) and price > 0):
        raise InputError(f"price: {price:g} must be a finite number above 0")
    settings = LiveSettings.from_config(compose_config("live", list(overrides)))
    keys = ApiKeys.from_environment(os.environ)
    connection = create_broker_connection(settings.broker, keys)
    with open_reading_gateway(connection) as broker:
        account = broker.account()
        refuse_unlisted_symbols(broker, {symbol, *settings.tradable_symbols})
        asset = broker.assets([symbol]).get(symbol)
    now = account.as_of
    # Without a venue that accepts an order now, neither bars nor the model are loaded.
    why = account.block_reason
    if not why and asset is not None and not asset.tradable:
        why = "the venue accepts no orders for it now"
    if not why and is_stock and not is_in_session(np.array([now]))[0]:
        why = f"the market is closed at {format_utc(now)}, so no quantity can be traded now"
    if why:
        return SizedQuantity(symbol, Decimal(0), why)
    # The caller's price values the symbol and the account's prices the rest. The limit of an open
    # order is used only for symbols that are not held and have no other price.
    prices = {**open_order_prices(account, EmptyTradeSource()), **account.prices, symbol: price}
    account = replace(account, prices=prices)
    try:
        bars = _load_bars(settings, keys, symbol, account)
        bars = drop_unconfirmed_bars(
            settings.data.build_market(settings.with_quantity_increments(bars)).visible_bars()
        )
        if asset is not None:
            bars = with_venue_rules(bars, {symbol: asset}, settings.increments)
        account = _require_prices(account.with_prices(last_closes_by_symbol(bars)))
        trader = settings.build_trader(settings.forecaster.build(bars.symbols))
        if settings.sizing.earned is True:
            journal = Path(settings.folder) / connection.account_id() / JOURNAL_FILE
            trader = trader.with_evidence_state(read_evidence_state(journal, TRADE_JOB))
        belief = trader.build_symbol_belief(bars, symbol, now)
    except NoForecast as error:
        return _quantity_without_forecast(
            symbol, price, settings, _require_prices(account), str(error)
        )
    own_bars = BarsBySymbol(bars, keep=settings.sizing.history_bars)
    decision = trader.decide_from_beliefs(belief, bars, account, own_bars)
    choice = next(c for c in decision.choices if c.symbol == symbol)
    unordered = format_no_order_reason(choice, account.equity)
    lines = [unordered] if unordered else []
    lines += [rule.log_phrase for rule in decision.sizing_rules]
    lines.append(format_reason(choice, float((belief.first_period_end - now) / HOUR)))
    if decision.sizing_failure:
        log.warning("%s: Enhanced sizing failed: %s", symbol, decision.sizing_failure)
        lines.insert(0, f"Enhanced sizing failed: {decision.sizing_failure}")
    why = "; ".join(lines)
    log.info("%s: %+f: %s", symbol, choice.qty, why)
    return SizedQuantity(symbol, choice.qty, why)


def _quantity_without_forecast(
    symbol: str, price: float, settings: LiveSettings, account: AccountSnapshot, why: str
) -> SizedQuantity:
    """Return the quantity for a symbol without a forecast.

    The quantity never increases the position, unless a setting enables the legacy rule.

    why: reason why there is no forecast.
    """
    sizing = settings.sizing
    stocks = settings.timeframe_or_hourly.stock_clock
    qty = sizing_quantity.get_qty(
        symbol,
        price,
        account=account,
        moments=None,
        limits=settings.limits.with_account_leverage(account.max_leverage),
        overnight=not stocks.intraday_ceiling_applies(np.array([account.as_of]))[0],
        enhanced=sizing.enhanced,
        fallback=sizing.fallback,
        risk_multiplier=sizing.risk_multiplier,
    )
    legacy = not sizing.enhanced or sizing.fallback == "legacy"
    answer = "Legacy sizing" if legacy else "no new position is opened"
    return SizedQuantity(symbol, qty, f"Enhanced sizing failed: {why}; {answer}")


def _load_bars(
    settings: LiveSettings, keys: ApiKeys, symbol: str, account: AccountSnapshot
) -> Bars:
    """Load bars of the symbols to size, from the files in `data.dir` or else from the venue.

    They are `symbol` and the configured symbols, because they share limits and risk. If no symbol
    is configured, they are `symbol` and all symbols with a position or an open order.

    Raises `NoForecast` if there are none.
    """
    held = [name for name, quantity in account.projected_positions.items() if quantity]
    others = {instrument(name).symbol for name in settings.symbols or held}
    symbols = sorted({symbol, *others})
    timeframe, now = settings.timeframe_or_hourly, account.as_of
    if settings.data.dir:
        files = find_bar_files([Path(folder).expanduser() for folder in settings.data.dir], None)
        named = [name for name in symbols if name in files]
        if not named:
            raise NoForecast(
                f"no forecast: no bar file for {' '.join(symbols)} in"
                f" {' '.join(settings.data.dir)} (data.dir)"
            )
        return settings.data.load_panel_up_to(named, now, timeframe)
    try:
        data = MarketData(settings.broker, keys, settings.data.feed, timeframe=timeframe)
        return data.bars(symbols, history_start(now, settings.effective_history_days), now)
    except (DataError, BrokerError) as error:
        raise NoForecast(str(error)) from error


def _require_prices(account: AccountSnapshot) -> AccountSnapshot:
    """Return the account unchanged; raise `BrokerError` if a position or order has no price."""
    for symbol, quantity in account.projected_positions.items():
        if quantity and symbol not in account.prices:
            raise BrokerError(
                f"{symbol}: cannot value the open order: no position, bar or limit price is known"
            )
    return account
