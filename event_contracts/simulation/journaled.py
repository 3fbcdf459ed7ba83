"""What an account decided, as sessions and one who plays them: the comparison is that of any other.

Every market of its journal that has settled is a session, from the first tick that was seen of it
on. It is played by itself with what the account had at its first decision, and every order that
was not rejected is sent again at its tick. Every policy's orders are sent and filled at recorded
ticks only: quotes between them are unknown. An order meets `life` recorded ticks, as the account's
orders did. A gap in which an order would end at the venue stays in the session, and nothing trades
there. Limits, fees, sizes, price style and `life` of orders come from the settings, which have to
be those that the account traded with.

What the account really came to is `Booked`: profits of its settlements, and orders that filled.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np

from event_contracts.simulation.comparison import Booked, HeldOut
from event_contracts.simulation.sessions import session_of
from event_contracts.trading.action_log import ACTION_TABLE, ActionRecords
from event_contracts.trading.actions import POSITION_SIZES, LimitOrderActionSpace
from event_contracts.trading.actor import MarketMemory
from event_contracts.trading.manager import ORDER_LIFE
from event_contracts.trading.orders import LimitOrder
from event_contracts.trading.policies import Codes, Observations
from execution.journal.order_store import intents_of
from execution.journal.schema import open_current_schema
from foundation.arrays import Array, Index, Mask
from foundation.decimals import CENT
from foundation.errors import InputError
from foundation.figures import counted


@dataclass(frozen=True, eq=False, slots=True)
class JournaledDecisions:
    """The settled markets of a journal.

    codes: what was sent on each row of each market [N, T]; HOLD where nothing was.
    cash: USD before the first decision, in whole cents.
    booked: what the account itself came to in these markets.
    """

    held_out: HeldOut
    codes: Codes = field(repr=False)
    cash: Decimal
    booked: Booked

    def policy(self, size_index: int | None = None) -> DecidedPolicy:
        """Who decides as it was decided; size_index: of every order instead of its own."""
        if size_index is None:
            return DecidedPolicy(self.codes)
        first = (self.codes - 1) // len(POSITION_SIZES) * len(POSITION_SIZES) + 1
        return DecidedPolicy(np.where(self.codes > 0, first + size_index, 0))


class DecidedPolicy:
    """The code of each row of each market [N, T], where it is allowed; else HOLD.

    It plays these markets once: a call is a row.
    """

    name = "account"

    def __init__(self, codes: Codes) -> None:
        self._rows = iter(codes.T)

    def actions(self, seen: Observations, allowed: Mask) -> Codes:
        codes = next(self._rows)
        return np.where(allowed[np.arange(len(codes)), codes], codes, 0)


def journaled_decisions(path: Path, space: LimitOrderActionSpace) -> JournaledDecisions:
    """The decisions in a journal of event contracts; space: of what its ticks are shown in."""
    # Unlike the path's own question this one has an answer for a name that no file can have.
    if not os.path.isfile(path):
        raise InputError(f"journal: {path} is no file; it is the journal.sqlite of an account")
    with open_current_schema(path) as database:
        if not database.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (ACTION_TABLE,)):
            raise InputError(f"journal: {path} has no decisions on event contracts")
        return _decisions(ActionRecords(database), space)


def _booked(records: ActionRecords, markets: Collection[str]) -> Booked:
    """Return what the journal states of the account's own orders and settlements."""
    paid = [each for each in records.paid() if each.market in markets]
    stated = {each.market: each.profit for each in paid if each.profit is not None}
    orders = [
        intent
        for intent in intents_of(records.database)
        if isinstance(intent.order, LimitOrder) and intent.order.market in markets
    ]
    return Booked(
        profit=sum(stated.values(), Decimal(0)),
        unstated=tuple(market for market in markets if market not in stated),
        orders=sum(intent.taken for intent in orders),
        filled=sum(intent.progress.filled > 0 for intent in orders),
    )


def _kept_rows(is_recorded: Mask, life: int) -> Index:
    """Return the rows of a session: recorded ones, settlement, and gaps longer than `life` rows."""
    seen = np.flatnonzero(is_recorded)
    ends = np.append(seen, len(is_recorded) - 1)
    keep = is_recorded.copy()
    keep[-1] = True
    for first, last in pairwise(ends):
        if last - first > life:
            keep[first:last] = True
    return np.flatnonzero(keep)


def _decisions(records: ActionRecords, space: LimitOrderActionSpace) -> JournaledDecisions:
    entries = records.entries()
    spans = records.spans()
    kept: dict[str, Index] = {}
    sessions: list[Array] = []
    recorded: list[Mask] = []
    for market, span in spans.items():
        ticks = records.ticks(market)
        rows = [span.row(each.at) for each in ticks]
        # Of a market that was first seen as it settled nothing was decided.
        if len(rows) < 2 or rows[-1] != span.rows - 1:
            continue
        memory = MarketMemory(span, space, began=1)
        for each in ticks:
            memory.show(each.at, each.tick)
        is_recorded = np.zeros(span.rows, dtype=bool)
        is_recorded[rows[:-1]] = True
        # The quote of a row without a tick is unknown: nothing trades there.
        for side in ("bid_size", "ask_size"):
            memory.tape[side][~is_recorded] = 0
        life = int(max(space.life * span.interval, ORDER_LIFE) // span.interval)
        kept[market] = rows[0] + _kept_rows(is_recorded[rows[0] :], life)
        sessions.append(session_of(memory.tape[kept[market]]))
        recorded.append(is_recorded[kept[market]])
    if not entries or not sessions:
        raise InputError(f"journal: {records.database.path} has no settled market that was traded")
    shape = len(sessions), max(map(len, sessions))
    may_trade = np.zeros(shape, dtype=bool)
    for place, is_recorded in enumerate(recorded):
        may_trade[place, : len(is_recorded)] = is_recorded
    codes = np.zeros(shape, np.int64)
    places = {market: place for place, market in enumerate(kept)}
    for entry in entries:
        if entry.market in places and entry.sent:
            row = np.searchsorted(kept[entry.market], spans[entry.market].row(entry.at))
            codes[places[entry.market], row] = entry.action
    events = [market.rpartition("-")[0] or market for market in kept]
    return JournaledDecisions(
        HeldOut(
            sessions=sessions,
            groups=np.unique(events, return_inverse=True)[1],
            source=f"{counted(len(sessions), 'settled market')} of {records.database.path}",
            recorded=may_trade,
        ),
        codes,
        entries[0].cash // CENT * CENT,
        _booked(records, tuple(kept)),
    )
