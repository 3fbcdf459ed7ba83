"""One decider's way through a panel, and the frames of it that are written to files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from execution.decision import Choice, Decision, Rests
from execution.orders import Fill
from foundation.arrays import Array, Instants
from sizing.limits import CEILINGS
from trainingdata.sessions import HOUR

LIMITS = ("symbol_cap", "long_only", *CEILINGS, "financing")
EQUITY = ("at", "cash", "equity", "gross_stock", "gross_crypto", "interest", "fees", "other")
FILLS = ("at", "symbol", "qty", "price", "fee", "client_order_id")
ORDERS = ("at", "client_order_id", "symbol", "side", "qty", "type", "tif", "reason")
DECISIONS = (
    *("at", "symbol", "mu", "sigma", "kelly", "target", "qty", "binding"),
    *("until", "held", "price", "cost"),
    *(f"plan_{name}" for name in Rests._fields),
    *(f"shadow_{name}" for name in LIMITS),
)
TEXT = {"symbol", "client_order_id", "binding", "side", "type", "tif", "reason"}


class Row(NamedTuple):
    """The account after the fills of an instant, marked at the last known closes; from interest on,
    that instant's flows.

    other is signed and holds every flow of cash that is neither a fill, its fee nor interest:
    borrow and rounding of the day's fees (paid), dividends, interest on cash. coin_fees are paid in
    coin.
    """

    at: np.datetime64
    cash: float
    equity: float
    gross_stock: float
    gross_crypto: float
    interest: float
    fees: float
    other: float
    spread: float
    slippage: float
    coin_fees: float
    borrow: float
    rounding: float
    dividends: float


@dataclass(frozen=True, slots=True)
class Run:
    """One decider's decisions, fills and account rows, in time order; margin: how often the
    broker stepped in.
    """

    name: str
    decisions: list[Decision]
    fills: list[Fill]
    rows: list[Row]
    margin: dict[str, int]

    def equity(self) -> pd.DataFrame:
        """USD; a row for every instant at which a bar became known."""
        return _frame(EQUITY, [tuple(getattr(r, c) for c in EQUITY) for r in self.rows])

    def curve(self) -> tuple[Instants, Array]:
        """Instants and equity of every row, [N] each."""
        return np.array([r.at for r in self.rows]), np.array([r.equity for r in self.rows])

    def not_filled_whole(self) -> int:
        """Orders that filled in part or not at all."""
        filled: dict[str, Decimal] = {}
        for f in self.fills:
            if f.price > 0:
                filled[f.client_order_id] = filled.get(f.client_order_id, Decimal(0)) + abs(f.qty)
        return sum(
            filled.get(order.client_order_id) != order.qty
            for d in self.decisions
            for order in d.orders
        )

    def fill_frame(self) -> pd.DataFrame:
        """qty signed, price and fee in USD."""
        return _frame(
            FILLS,
            [(f.at, f.symbol, float(f.qty), f.price, f.fee, f.client_order_id) for f in self.fills],
        )

    def order_frame(self) -> pd.DataFrame:
        """Every order that was sent, and why; qty above 0."""
        return _frame(
            ORDERS,
            [
                (
                    d.at,
                    o.client_order_id,
                    o.symbol,
                    o.side,
                    float(o.qty),
                    o.type,
                    o.tif,
                    str(o.reason),
                )
                for d in self.decisions
                for o in d.orders
            ],
        )

    def decision_frame(self) -> pd.DataFrame:
        """A row per symbol that decided.

        mu and sigma as forecast up to `until`; `plan_…`: what the target rests on, as `Rests` has
        it; kelly (before any limit), held and target as weights; price in USD; cost of the change
        in USD; `shadow_…`: what one more of a limit, in equity, would add to the plan's expected
        return net of risk, 0 where it does not bind.
        """
        return _frame(DECISIONS, [_choice_row(d, c) for d in self.decisions for c in d.choices])


def rests_on_prior(run: Run) -> float | None:
    """Share of the mean position that rests on the stated premium; the rest is the forecast's. None
    where neither is anything.

    Each target counts by its size, by how long it is held until the next decision, and by what the
    plan expects of it: the premium against the forecast, both without sign.
    """
    earned = 0.0
    forecast = 0.0
    for decision in run.decisions:
        hours = float((decision.until - decision.at) / HOUR)
        for c in decision.choices:
            if np.isfinite(c.target) and np.isfinite(c.rests.earned):
                both = abs(c.rests.earned) + abs(c.rests.forecast)
                earned += hours * abs(c.target) * abs(c.rests.earned) / both if both > 0 else 0.0
                forecast += (
                    hours * abs(c.target) * abs(c.rests.forecast) / both if both > 0 else 0.0
                )
    return earned / (earned + forecast) if earned + forecast > 0 else None


def _choice_row(d: Decision, c: Choice) -> tuple[Any, ...]:
    shadows = [c.binding.get(name, 0.0) for name in LIMITS]
    known = (d.at, c.symbol, c.mu, c.sigma, c.kelly, c.target, float(c.qty), c.bound_by)
    return (*known, d.until, c.held, c.price, c.change_cost, *c.rests, *shadows)


def _frame(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Columns and types are the same when there are no rows."""
    data: dict[str, Any] = {}
    for k, name in enumerate(columns):
        values = [row[k] for row in rows]
        if name in ("at", "until"):
            data[name] = pd.DatetimeIndex(np.array(values, dtype="datetime64[ns]")).tz_localize(
                "UTC"
            )
        else:
            data[name] = pd.Series(values, dtype="str" if name in TEXT else "float64")
    return pd.DataFrame(data, columns=list(columns))


def writers_of(run: Run) -> dict[str, Callable[[Path], object]]:
    """What writes each file of a run's decisions, orders and fills, by its name."""
    frames = {
        "fills.parquet": run.fill_frame,
        "orders.parquet": run.order_frame,
        "decisions.parquet": run.decision_frame,
    }
    frames |= {"equity.parquet": run.equity} if run.rows else {}
    return {name: partial(_write_parquet, frame, run.name) for name, frame in frames.items()}


def _write_parquet(frame: Callable[[], pd.DataFrame], forecaster: str, path: Path) -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"forecaster": forecaster.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
