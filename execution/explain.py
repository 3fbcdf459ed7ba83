"""Why an order exists: what was expected, what sizing made of it, what bound it, what became of it.

    python -m execution.explain RUN --order CLIENT_ORDER_ID
    python -m execution.explain RUN --symbol NVDA [--at 2024-10-01T14:30Z]

RUN is the folder of a backtest's results. --at is an instant with a zone; without it, it is that of
the symbol's last order.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("execution.explain", __doc__)

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from execution.account_lock import JOURNAL
from execution.decision import KEPT_OFF, Basis, is_kept_off, parts_text, plan_text
from execution.records import DECISION_COLUMNS, FILL_COLUMNS, ORDER_COLUMNS
from foundation.command import Parser, one_line_errors
from foundation.errors import InputError, did_you_mean, nearest_or_all
from foundation.files import refuse_unfinished
from trainingdata.instants import instant, utc_text
from trainingdata.instruments import instrument

# Runs of before there were plans and shadow prices have no columns of them, and no equity; and
# their fills do not say the row that counts them, which explains nothing.
_SINCE = ("plan_", "shadow_", "equity")
FILES = {
    "decisions": tuple(name for name in DECISION_COLUMNS if not name.startswith(_SINCE)),
    "orders": ORDER_COLUMNS,
    "fills": tuple(name for name in FILL_COLUMNS if name != "booked_at"),
}
LISTED = 5  # runs of a folder, in the refusal of the folder itself
BASIS_POINTS = 1e4


def explain(
    run: Path, *, order: str | None = None, symbol: str | None = None, at: str | None = None
) -> str:
    """The story of one order, or of the decision on a symbol at an instant, in lines.

    Without an instant it is that of the symbol's last order.

    Raises
    ------
    InputError
        for a folder that holds no whole run, or an order or decision that is not in it.
    """
    refuse_unfinished(run, "RUN")
    decisions, orders, fills = (_read(run, name) for name in FILES)
    if order is not None:
        matches = orders[orders["client_order_id"] == order]
        if matches.empty:
            raise InputError(f"--order: {run} has no order {order!r}{_orders_hint(order, orders)}")
        name = str(matches["symbol"].iloc[0])
        when = matches["at"].iloc[0]
    else:
        name = _symbol(symbol or "")
        when = _decision_instant(run, decisions, orders, name, at)
    chosen = decisions[(decisions["symbol"] == name) & (decisions["at"] == when)]
    if chosen.empty:
        hint = _instants_hint(decisions.loc[decisions["symbol"] == name, "at"], when)
        raise InputError(f"--at: {name} was not decided at {_at(when)} in {run}{hint}")
    sent = orders[(orders["symbol"] == name) & (orders["at"] == when)]
    filled = fills[fills["client_order_id"].isin(sent["client_order_id"])]
    return "\n".join([*_decision_lines(chosen.to_dict("records")[0]), *_order_lines(sent, filled)])


def _read(run: Path, name: str) -> pd.DataFrame:
    path = run / f"{name}.parquet"
    if not path.exists():
        raise InputError(f"RUN: {run} {_no_run(run, name)}")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"RUN: {path} cannot be read: {str(error).splitlines()[0]}") from None
    if lacking := [column for column in FILES[name] if column not in frame]:
        raise InputError(
            f"RUN: {path} has no column {lacking[0]!r}, as a backtest's has; name the folder of a"
            " backtest's results"
        )
    return frame


def _symbol(written: str) -> str:
    try:
        return instrument(written).symbol
    except InputError as error:
        raise InputError(f"--symbol: {str(error).removeprefix('symbols: ')}") from None


def _decision_instant(
    run: Path, decisions: pd.DataFrame, orders: pd.DataFrame, name: str, at: str | None
) -> pd.Timestamp:
    """The instant asked for; else that of the symbol's last order, else of its last decision."""
    known = sorted(set(decisions["symbol"]))
    if name not in known:
        raise InputError(
            f"--symbol: {name} was never decided in {run}{nearest_or_all(name, known)}"
        )
    if at is not None:
        return pd.Timestamp(instant(at, name="--at"), tz="UTC")
    ordered = orders[orders["symbol"] == name]
    rows = decisions[decisions["symbol"] == name] if ordered.empty else ordered
    last: pd.Timestamp = rows["at"].iloc[-1]
    return last


def _no_run(run: Path, name: str) -> str:
    """Why a path is no run's folder, and what to name instead."""
    if not run.exists():
        return "is not there; name the folder of a backtest's results"
    if run.suffix == ".sqlite" or (run / JOURNAL).exists():
        return (
            "is of a live account, and runs of a backtest are explained here; `python -m"
            " execution.live serve` shows the reasons of the account's latest orders"
        )
    if not run.is_dir():
        return "is a file; name the folder of a backtest's results"
    runs = sorted(path.parent.name for path in run.glob(f"*/{name}.parquet"))
    if runs:
        listed = ", ".join(runs[:LISTED]) + ", …" * (len(runs) > LISTED)
        count = "a run" if len(runs) == 1 else f"{len(runs)} runs"
        return f"holds {count}; name one of them: {listed}"
    return f"holds no {name}.parquet; name the folder of a backtest's results"


def _orders_hint(order: str, orders: pd.DataFrame) -> str:
    """The order that may have been meant; else one of the run's, as an example."""
    known = orders["client_order_id"].tolist()
    if not known:
        return "; nothing was ordered in it"
    return did_you_mean(order, known) or f"; its last one is {known[-1]}"


def _instants_hint(decided: pd.Series, when: pd.Timestamp) -> str:
    """The decisions on a symbol that are next to an instant."""
    before = decided[decided < when]
    after = decided[decided > when]
    if before.empty:
        return f"; its first decision is at {_at(after.iloc[0])}"
    if after.empty:
        return f"; its last decision is at {_at(before.iloc[-1])}"
    return f"; it was at {_at(before.iloc[-1])} and at {_at(after.iloc[0])}"


def _at(when: pd.Timestamp) -> str:
    return utc_text(when.to_datetime64())


def _decision_lines(row: dict[Any, Any]) -> list[str]:
    """The decision, from what was expected to the quantity."""
    hours = (row["until"] - row["at"]) / pd.Timedelta(hours=1)
    mu = row["mu"] * BASIS_POINTS
    sigma = row["sigma"] * BASIS_POINTS
    lines = [
        f"{row['symbol']}, decided {_at(row['at'])} for {hours:g} h, until {_at(row['until'])}",
        f"  expected return {mu:+.2f} bp, deviation {sigma:.2f} bp",
    ]
    basis = _basis(row)
    plan = plan_text(basis, hours).lstrip("; ")
    if plan:
        lines.append(f"  {plan}")
    # What the night alone cuts has no weight of the strategy's.
    if not np.isnan(row["kelly"]):
        parts = parts_text(basis)
        lines.append(f"  weight before any limit {row['kelly']:+.4f} of equity{parts}")
    lines.append(f"  held {row['held']:+.4f}, target {row['target']:+.4f}")
    for limit in str(row["binding"]).split("+") if row["binding"] else []:
        price = row.get(f"shadow_{limit}", np.nan)
        worth = ""
        if not np.isnan(price):
            worth = f", one more of equity there would add {price * BASIS_POINTS:.3f} bp"
        elif limit == "cost":
            worth = ": trading would cost more than it is worth"
        lines.append(f"  bound by {limit}{worth}")
    # Without a change there is no cost in the row.
    costly = row["cost"] > 0 or not row["qty"]
    if not row["binding"] and costly and is_kept_off(row["kelly"], row["target"]):
        lines.append(f"  {KEPT_OFF}")
    if row["qty"]:
        traded = abs(row["qty"]) * row["price"]
        lines.append(
            f"  quantity {row['qty']:+g} at {row['price']:,.4f} USD, reckoned to cost"
            f" {row['cost']:,.2f} USD ({row['cost'] / traded * BASIS_POINTS:.2f} bp)"
        )
    else:
        lines.append("  nothing ordered")
    return lines


def _basis(row: dict[Any, Any]) -> Basis:
    """What a decision rested on, from its row; a run of before there were plans has none."""
    values = {name: row.get(f"plan_{name}", np.nan) for name in Basis._fields}
    if np.isnan(values["worth"]):
        values["worth"] = None
    return Basis(**values)


def _order_lines(orders: pd.DataFrame, fills: pd.DataFrame) -> list[str]:
    """The orders, their reasons and their fills."""
    lines = []
    for o in orders.to_dict("records"):
        identity = o["client_order_id"]
        lines.append(f"order {identity}: {o['side']} {o['qty']:g}, {o['type']}, {o['tif']}")
        lines.append(f"  {o['reason']}")
        of_order = fills[fills["client_order_id"] == identity]
        for f in of_order.to_dict("records"):
            price = f"at {f['price']:,.4f} USD" if f["price"] > 0 else "as a fee in coin"
            fee = f"fee {f['fee']:,.4f} USD"
            lines.append(f"  filled {f['qty']:+g} {price}, {fee}, {_at(f['at'])}")
        if of_order.empty:
            lines.append("  not filled")
    return lines


def main() -> None:
    """Command line."""
    parser = Parser()
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--order")
    parser.add_argument("--symbol")
    parser.add_argument("--at")
    arguments = parser.parse_args()
    if (arguments.order is None) == (arguments.symbol is None):
        parser.error("give either --order or --symbol")
    if arguments.order is not None and arguments.at is not None:
        parser.error("--at goes with --symbol; an order has its instant")
    with one_line_errors("nothing was written"):
        text = explain(
            arguments.run.expanduser(),
            order=arguments.order,
            symbol=arguments.symbol,
            at=arguments.at,
        )
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
