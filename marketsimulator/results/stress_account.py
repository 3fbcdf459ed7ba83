"""The book of an account at the venue, which is read and left as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.alpaca.fields import Position
from execution.alpaca.holdings import holdings_of
from execution.option_orders import (
    Contract,
    contract_of,
    expiring_together,
    is_option,
    least_worth,
)
from execution.orders import Account
from foundation.cents import to_cents, usd_text
from foundation.counts import counted
from foundation.errors import InputError
from marketsimulator.results.stress_book import HeldBook
from marketsimulator.settings import BacktestSettings
from trainingdata.bar_files import find_files
from trainingdata.bars import FIELDS, Bars, panel
from trainingdata.confirmation import confirmed
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.fields import entries
from trainingdata.instants import utc_text
from trainingdata.instruments import Instrument, instrument


def account_book(broker: BrokerSettings, keys: Keys, settings: BacktestSettings) -> HeldBook:
    """The book that an account at the venue holds now.

    settings: whose `data.dir` names bars of the symbols; without it there are none.

    Raises
    ------
    InputError
        for an account without positions, and a venue that does not answer.
    """
    account = AlpacaBroker(broker, keys).account()
    connection = VenueConnection(broker, keys)
    with connection.translated_errors("the positions"):
        positions = entries(connection.client.get_all_positions())
        risk, note = option_risk(positions)
    held = sorted(symbol for symbol, quantity in account.positions.items() if quantity)
    if not held:
        where = "with options alone" if note else "nothing is held"
        raise InputError(f"account: {where}, so there is no position to put under stress")
    instruments = tuple(instrument(symbol) for symbol in held)
    bars = _bars(settings, instruments, account.as_of)
    book = HeldBook(
        at=account.as_of,
        source=f"{'paper account' if broker.paper else 'account'} at {utc_text(account.as_of)}",
        instruments=instruments,
        quantities=np.array([float(account.positions[symbol]) for symbol in held]),
        marks=np.array([account.prices[symbol] for symbol in held]),
        cash=account.cash,
        proceeds=np.zeros(len(held)),
        bars=bars,
        known=bars,
        option_risk=risk,
    )
    shorts = np.maximum(-book.values, 0.0) * ~book.crypto
    # The venue says what all shorts together were sold for: each has its share by what it is worth.
    share = account.short_proceeds / shorts.sum() if shorts.any() else 0.0
    return replace(book, proceeds=np.rint(shorts * share * 1e6) / 1e6, notes=_notes(
        account, note, book))  # fmt: skip


def _notes(account: Account, options: str, book: HeldBook) -> tuple[str, ...]:
    notes = [options] if options else []
    if account.open_orders:
        count = counted(len(account.open_orders), "open order")
        notes.append(f"{count} of the account: what they would still trade is left out.")
    if not book.has_volumes:
        notes.append(
            "No bars say how much of each symbol trades, so nothing bounds a liquidation;"
            " data.dir=[DIR] names some."
        )
    return tuple(notes)


def _bars(
    settings: BacktestSettings, instruments: Sequence[Instrument], now: np.datetime64
) -> Bars | None:
    """The bars of files that were known now, without any of a symbol that has no file."""
    if not settings.data.dir:
        return None
    files = find_files([Path(folder).expanduser() for folder in settings.data.dir], None)
    symbols = [item.symbol for item in instruments if item.symbol in files]
    if not symbols:
        return None
    bars = confirmed(settings.view(settings.data.bars_up_to(symbols, now)))
    real = {symbol: bars.real_bars(s) for s, symbol in enumerate(bars.symbols)}
    nothing = (np.empty(0, dtype="datetime64[ns]"), np.empty((0, len(FIELDS))))
    tables = [(item, *real.get(item.symbol, nothing)) for item in instruments]
    return panel(tables, bars.source)


def option_risk(positions: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """USD that the options among positions can lose at most by their expiry, and that in words.

    It is what they count in an account's cash less the least that they can pay, each root and day
    by itself.

    Raises
    ------
    InputError
        for calls that were sold without a call against each: what they lose has no bound.
    """
    held: dict[Contract, Decimal] = defaultdict(Decimal)
    for row in positions:
        name = Position.symbol.of(row)
        if is_option(name):
            held[contract_of(name)] += Position.qty.of(row)
    if not held:
        return 0.0, ""
    least = Decimal(0)
    for together in expiring_together(held):
        worth = least_worth(together)
        if worth is None:
            root = next(iter(together)).root
            raise InputError(
                f"account: calls on {root} were sold without as many bought: what they can lose has"
                " no bound"
            )
        least += worth
    holdings = holdings_of(positions)
    counted_in_cash = min(holdings.owed, holdings.options) - holdings.owed
    risk = max(counted_in_cash - float(least), 0.0)
    text = (
        f"Open options count as lost: {usd_text(to_cents(risk))} is the most that they can lose by"
        " their expiry, in every scenario."
    )
    return risk, text
