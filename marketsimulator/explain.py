"""Explain an order: the decision behind it, its reason and its fills.

    python -m marketsimulator.explain RUN --order CLIENT_ORDER_ID [--full]
    python -m marketsimulator.explain RUN --symbol NVDA [--at 2024-10-01T14:30Z] [--full]

RUN is the folder of a backtest's results, or of a live account's report. --at is a timestamp with a
time zone, or a New York date, which shows all decisions of that day. Without --at, the symbol's
last order is explained, or its last decision if it had no order. --full prints whole reasons.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.explain")

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from execution.orders.orders import is_protective_id
from foundation.cli import FlagParser, Result
from foundation.errors import InputError, format_choices, format_suggestion
from foundation.formatting import format_basis_points, format_number, format_rounded_price
from marketsimulator.results.order_reasons import format_decision, short_reason
from marketsimulator.results.run_folder import RunFolder
from marketsimulator.run_result import DECISION_COLUMNS
from marketsimulator.table_columns import FILL_COLUMNS, ORDER_COLUMNS
from trainingdata.instants import format_utc, parse_instant
from trainingdata.instruments import closest_symbols, instrument

TableRow = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class DecisionExplanation:
    """A decision on a symbol, and the orders of its instant with their fills.

    decision_row: row of the decisions table; empty for a protective order sent without a decision.
    orders_with_fills: for each order, its row of the orders table and its rows of the fills table.
    """

    decision_row: TableRow
    orders_with_fills: Sequence[tuple[TableRow, pd.DataFrame]]

    def format_lines(self, *, full: bool = False) -> list[str]:
        """Return the lines of the explanation; `full` keeps reasons longer than 20 words."""
        decided = self.decision_row
        lines = _decision_lines(decided, has_order=bool(self.orders_with_fills)) if decided else []
        for row, fills in self.orders_with_fills:
            reason = row["reason"] if full else short_reason(row["reason"], decided or None)
            lines += _order_lines(row, reason, fills)
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the rows for JSON, by column of the run's tables; instants in UTC."""
        orders = [
            {**_json_row(row), "fills": [_json_row(fill) for fill in fills.to_dict("records")]}
            for row, fills in self.orders_with_fills
        ]
        return {**_json_row(self.decision_row), "orders": orders}


def _json_row(row: TableRow) -> dict[str, Any]:
    return {
        str(name): _format_utc(value) if isinstance(value, pd.Timestamp) else value
        for name, value in row.items()
    }


def explain(run: Path, *, full: bool = False, **selection: str | None) -> str:
    """Return a text that explains one order, or the decisions on a symbol.

    full: true to print complete reasons, false to cut them to 20 words.
    selection: the keyword arguments of `find_explanations`.
    """
    found = find_explanations(run, **selection)
    return "\n".join(line for each in found for line in each.format_lines(full=full))


def find_explanations(
    run: Path, *, order: str | None = None, symbol: str | None = None, at: str | None = None
) -> list[DecisionExplanation]:
    """Return the explanation of the decision behind one order, or of the decisions on a symbol.

    run: folder of a backtest's results.
    order: client_order_id of the order; None to select by symbol.
    symbol: symbol; without `at` its last order is explained, or its last decision without orders.
    at: timestamp or New York date of the decisions.
    """
    folder = RunFolder(run)
    decisions = folder.read_table(
        "decisions",
        DECISION_COLUMNS,
        optional_columns=["plan_stop_price", "plan_earned", "strategy_reason"],
    )
    orders = folder.read_table("orders", ORDER_COLUMNS)
    fills = folder.read_table("fills", FILL_COLUMNS)
    if order is not None:
        asked = orders[orders["client_order_id"] == order]
        what = f"--order: {run} has no order {order!r}; orders.parquet lists the order ids"
    else:
        name = instrument(symbol or "").symbol
        asked = decisions[decisions["symbol"] == name]
        known = sorted(set(decisions["symbol"]))
        hint = format_suggestion(closest_symbols(name, known))
        there = format_choices(known) or "nothing"
        what = f"--symbol: {run} has no decision on {name}; it has decisions on {there}{hint}"
        if at is not None and len(asked):
            what = f"--at: {run} has no decision on {name} at {at}"
            asked = asked[asked["at"].between(*_instant_range(at))]
        elif (orders["symbol"] == name).any():
            asked = orders[orders["symbol"] == name]
    found = decisions.merge(asked[["symbol", "at"]], on=["symbol", "at"]).to_dict("records")
    if not found and order is not None and is_protective_id(order) and len(asked):
        own = fills[fills["client_order_id"] == order]
        return [DecisionExplanation({}, [(asked.to_dict("records")[0], own)])]
    if not found:
        raise InputError(what)
    explanations = []
    for decided in found if at is not None else found[-1:]:
        same = (orders["symbol"] == decided["symbol"]) & (orders["at"] == decided["at"])
        with_fills = [
            (row, fills[fills["client_order_id"] == row["client_order_id"]])
            for row in orders[same].to_dict("records")
        ]
        explanations.append(DecisionExplanation(decided, with_fills))
    return explanations


def _instant_range(at: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first and last instant of a New York date; for a timestamp, that instant twice."""
    first, last = (parse_instant(at, name="--at", end_of_day=end) for end in (False, True))
    return pd.Timestamp(first), pd.Timestamp(last)


def _decision_lines(row: dict[Any, Any], *, has_order: bool) -> list[str]:
    """Describe a decision, one text per line.

    has_order: true if an order follows, which states the reason; the decision's own is left out.
    """
    hours = (row["until"] - row["at"]) / pd.Timedelta(hours=1)
    lines = [
        f"{row['symbol']}, decided at {_format_utc(row['at'])} for {hours:g} h, until"
        f" {_format_utc(row['until'])}"
    ]
    if not has_order:
        lines.append(f"  {format_decision(row)}")
    if not row["qty"]:
        return [*lines, "  no order"]
    cost = (
        f"{format_number(row['cost'])} USD"
        f" ({format_basis_points(row['cost'] / abs(row['qty'] * row['price']))})"
    )
    quantity = f"quantity {row['qty']:+g} at {format_rounded_price(row['price'])} USD"
    return [*lines, f"  {quantity}, expected cost {cost}"]


def _order_lines(order: dict[Any, Any], reason: str, fills: pd.DataFrame) -> list[str]:
    terms = f"{order['side']} {order['qty']:g}, {order['type']}, {order['tif']}"
    lines = [f"order {order['client_order_id']}: {terms}", f"  {reason}"]
    for fill in fills.to_dict("records"):
        paid = f"at {format_rounded_price(fill['price'])} USD"
        price = paid if fill["price"] > 0 else "as a fee in crypto"
        fee = f"fee {format_number(fill['fee'], 4)} USD"
        lines.append(f"  filled {fill['qty']:+g} {price}, {fee}, {_format_utc(fill['at'])}")
    return lines if len(fills) else [*lines, "  not filled"]


def _format_utc(when: pd.Timestamp) -> str:
    return format_utc(when.to_datetime64())


def parse_arguments(words: Sequence[str]) -> tuple[Namespace, None]:
    parser = FlagParser()
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--order")
    parser.add_argument("--symbol")
    parser.add_argument("--at")
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args(list(words))
    if (arguments.order is None) == (arguments.symbol is None):
        parser.error("give exactly one of --order and --symbol")
    if arguments.order is not None and arguments.at is not None:
        parser.error("--at can only be used with --symbol; an order id already determines the time")
    return arguments, None


def run(settings: Namespace) -> Result:
    folder = settings.run.expanduser()
    found = find_explanations(folder, order=settings.order, symbol=settings.symbol, at=settings.at)
    text = "\n".join(line for each in found for line in each.format_lines(full=settings.full))
    return Result([text], json_document={"decisions": [each.as_dict() for each in found]})
