"""Symbols that are not opened again for a while because their stop has filled, by the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from execution.decision.protection import ProtectionSettings, cooling_symbols
from execution.journal.activities import Activity, FillRow, read_fills_since
from execution.orders.orders import is_protective_id
from foundation.database import Database
from trainingdata.instants import DAY

LONGEST_CLOSURE_DAYS = 5  # days without a session, at most


def cooling_symbols_after(
    fills: Iterable[FillRow],
    protect: ProtectionSettings,
    now: np.datetime64,
    unrecorded: Iterable[Activity] = (),
) -> frozenset[str]:
    """Return the symbols that are not opened at `now` because their stop has filled.

    fills: fills up to `now`, oldest first.
    unrecorded: trades of protective orders that may be missing among the fills, oldest first.
    """
    if not protect.is_on:
        return frozenset()
    stopped = {fill.symbol: fill.at for fill in fills if is_protective_id(fill.client_order_id)}
    stopped |= {trade.symbol: trade.at for trade in unrecorded}
    return cooling_symbols(stopped, now, protect.cooldown)


def read_cooling_symbols(
    database: Database,
    protect: ProtectionSettings,
    now: np.datetime64,
    list_activities: Callable[[np.datetime64], Iterable[Activity]] = lambda _: (),
) -> frozenset[str]:
    """Return the symbols that are not opened at `now` because their stop has filled.

    list_activities: function that returns the activities after an instant, of which the journal
        lacks some while its loop is down.
    """
    tables = database.query("SELECT name FROM sqlite_master WHERE name IN ('fills', 'intents')")
    if not (protect.is_on and protect.cooldown) or len(tables) < 2:
        return frozenset()
    since = now - (protect.cooldown + LONGEST_CLOSURE_DAYS) * 2 * DAY
    fills = read_fills_since(database, since)
    stops = {
        name
        for (name,) in database.query(
            "SELECT venue_id FROM intents WHERE role = 'protection' AND venue_id != ''"
        )
    }
    listed = [each for each in list_activities(since) if each.venue_order_id in stops]
    return cooling_symbols_after(fills, protect, now, listed)
