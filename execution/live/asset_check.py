"""Checks that the venue lists the configured symbols, before any decision."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from execution.brokers import Gateway
from execution.journal.decisions import DecisionJournal
from execution.journal.events import EventLog
from execution.journal.order_store import OrderStore
from execution.journal.schema import open_journal_for_reading
from execution.live.accounts import TRADE_JOB
from foundation.database import DatabaseFailed
from foundation.errors import BrokerError, InputError, format_suggestion
from trainingdata.instruments import closest_symbols, format_non_usd_pair_error

log = logging.getLogger("live")


def refuse_unlisted_symbols(gateway: Gateway, symbols: Iterable[str]) -> None:
    """Raise an error if the venue does not list one of the symbols.

    The message names the first unlisted symbol and the most similar listed one.

    Raises
    ------
    InputError
        for a symbol that the venue does not list.
    BrokerError
        if the venue does not respond.
    """
    if unlisted := _unlisted(gateway, symbols):
        raise _unlisted_error(gateway, unlisted[0])


def refuse_misspelt_symbols(gateway: Gateway, symbols: Iterable[str], journal: Path) -> None:
    """Raise an error for a symbol that the venue does not list and that was never decided on.

    An unlisted symbol on which the loop decided before has been delisted since. The loop then
    continues with the other symbols. If the venue does not respond, nothing is refused, because
    each cycle queries the venue again.

    journal: path of the account's journal; the file may not exist.

    Raises
    ------
    InputError
        for an unlisted symbol without an earlier decision.
    """
    try:
        unlisted = _unlisted(gateway, symbols)
        decided = _decided_symbols(journal) if unlisted else frozenset[str]()
        for symbol in unlisted:
            if symbol not in decided:
                raise _unlisted_error(gateway, symbol)
            log.warning("%s: the venue no longer lists this asset", symbol)
    except BrokerError as error:
        log.warning("cannot check that the venue lists all symbols: %s", error)


def _unlisted(gateway: Gateway, symbols: Iterable[str]) -> list[str]:
    """Return the symbols for which the venue has no asset, sorted."""
    wanted = sorted(symbols)
    listed = gateway.assets(wanted)
    # A list has active assets only: a missing symbol is queried by itself, as it may be inactive.
    return [each for each in wanted if each not in listed and not gateway.assets([each])]


def _unlisted_error(gateway: Gateway, symbol: str) -> InputError:
    if reason := format_non_usd_pair_error(symbol):
        return InputError(f"symbols: {reason}")
    hint = format_suggestion(closest_symbols(symbol, gateway.listed_symbols()))
    return InputError(f"symbols: {symbol} is not listed by the venue{hint}")


def _decided_symbols(journal: Path) -> frozenset[str]:
    """Return the symbols of the last decisions in a journal; none if it cannot be read."""
    try:
        with open_journal_for_reading(journal) as database:
            decisions = DecisionJournal(
                database, EventLog(database), OrderStore(database), TRADE_JOB
            )
            return frozenset(row.choice.symbol for row in decisions.latest_choice_by_symbol())
    except DatabaseFailed:
        return frozenset()
