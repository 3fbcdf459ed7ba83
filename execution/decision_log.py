"""The decisions of a run, one after the other: as objects, or as columns of which objects are made.

A report reads columns; whoever asks about one decision gets its object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import pandas as pd

from execution.decision import Choice, Decision, Rationale
from execution.orders import Order
from foundation.arrays import Array, Instants
from sizing.binding import LIMITS

INSTANTS = ("at", "until", "booked_at")
TEXT_COLUMNS = {"symbol", "client_order_id", "binding", "side", "type", "tif", "reason", "kind"}
DECISION_COLUMNS = (
    *("at", "symbol", "mu", "sigma", "kelly", "target", "qty", "binding"),
    *("until", "held", "price", "cost"),
    *(f"plan_{name}" for name in Rationale._fields),
    *(f"shadow_{name}" for name in LIMITS),
    "equity",
)


class DecisionLog(Sequence[Decision]):
    """The decisions of a run in time order; what else says them as columns answers the same.

    rows: names of the limits on groups.
    """

    rows: tuple[str, ...] = ()

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions
        self.rows = decisions[0].rows if decisions else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Of `frame`: DECISION_COLUMNS, and the shadow price of each limit on a group."""
        return (*DECISION_COLUMNS, *(f"shadow_{name}" for name in self.rows))

    @overload
    def __getitem__(self, number: int) -> Decision: ...

    @overload
    def __getitem__(self, number: slice) -> list[Decision]: ...

    def __getitem__(self, number: int | slice) -> Decision | list[Decision]:
        if isinstance(number, slice):
            return [self.decision(k) for k in range(len(self))[number]]
        return self.decision(range(len(self))[number])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Decision]:
        return (self.decision(k) for k in range(len(self)))

    def __len__(self) -> int:
        return len(self._decisions)

    def decision(self, number: int) -> Decision:
        """The object of one."""
        return self._decisions[number]

    @property
    def at(self) -> Instants:
        """[D] their instants."""
        return np.array([decision.at for decision in self._decisions], dtype="datetime64[ns]")

    @property
    def stock_ceilings(self) -> Array:
        """[D] stock gross allowed, in multiples of equity."""
        return np.array([decision.stock_ceiling for decision in self._decisions])

    @property
    def gaps(self) -> Array:
        """[D] as of `Decision`."""
        return np.array([decision.gap for decision in self._decisions], dtype=np.float64)

    @property
    def failures(self) -> int:
        """At how many of them nothing could be sized."""
        return sum(bool(decision.failure) for decision in self._decisions)

    @property
    def orders(self) -> Sequence[tuple[np.datetime64, Order]]:
        """Every order, with the instant of its decision."""
        return [(decision.at, order) for decision in self._decisions for order in decision.orders]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """DECISION_COLUMNS, a row per symbol that decided; as `Run.decision_frame` says."""
        rows = [
            (*_choice_row(d, c), *(c.binding.get(name, 0.0) for name in self.rows))
            for d in self._decisions
            for c in d.choices
        ]
        return frame_of(self.columns, rows)

    def unsolved(self, most: int) -> list[Decision]:
        """The first of those whose problem was not solved."""
        return [decision for decision in self._decisions if decision.unsolved is not None][:most]


def _choice_row(d: Decision, c: Choice) -> tuple[Any, ...]:
    shadows = [c.binding.get(name, 0.0) for name in LIMITS]
    first = (d.at, c.symbol, c.mu, c.sigma, c.kelly, c.target, float(c.qty), c.bound_by)
    return (*first, d.until, c.held, c.price, c.change_cost, *c.rationale, *shadows, d.equity)


def frame_of(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    return frame_of_columns({name: [row[k] for row in rows] for k, name in enumerate(columns)})


def frame_of_columns(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of columns: instants, text, and numbers."""
    # pandas guesses the types of empty columns.
    data: dict[str, Any] = {}
    for name, values in columns.items():
        if name in INSTANTS:
            instants = pd.DatetimeIndex(np.array(values, dtype="datetime64[ns]"))
            data[name] = instants.tz_localize("UTC")
        else:
            data[name] = pd.Series(values, dtype="str" if name in TEXT_COLUMNS else "float64")
    return pd.DataFrame(data, columns=list(columns))
