"""Why an order exists: what was expected, what sizing made of it, what bound it, what became of it.

    python -m execution.explain RUN --order CLIENT_ORDER_ID
    python -m execution.explain RUN --symbol NVDA [--at 2024-10-01T14:30Z]

RUN is the folder of a backtest's results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from execution.decision import Rests, planned
from foundation.command import Parser, one_line
from foundation.errors import InputError
from trainingdata.instruments import instrument
from trainingdata.sessions import instant

FILES = ("decisions", "orders", "fills")
BASIS_POINTS = 1e4


def explain(
    run: Path, *, order: str | None = None, symbol: str | None = None, at: str | None = None
) -> str:
    """The story of one order, or of the decision on a symbol at an instant (its last order, if none
    is given), in lines.

    Raises
    ------
    InputError
        for a folder that holds no run, or an order or decision that is not in it.
    """
    decisions, orders, fills = (_read(run, name) for name in FILES)
    if order is not None:
        found = orders[orders["client_order_id"] == order]
        if found.empty:
            raise InputError(f"--order: {run} has no order {order!r}")
        name = str(found["symbol"].iloc[0])
        when = found["at"].iloc[0]
    else:
        name = instrument(symbol or "").symbol
        when = _when(run, decisions, orders, name, at)
    chosen = decisions[(decisions["symbol"] == name) & (decisions["at"] == when)]
    if chosen.empty:
        raise InputError(f"--at: {name} was not decided at {when:%Y-%m-%dT%H:%MZ} in {run}")
    sent = orders[(orders["symbol"] == name) & (orders["at"] == when)]
    filled = fills[fills["client_order_id"].isin(sent["client_order_id"])]
    return "\n".join([*_decided(chosen.to_dict("records")[0]), *_sent(sent, filled)])


def _read(run: Path, name: str) -> pd.DataFrame:
    path = run / f"{name}.parquet"
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(
            f"RUN: {run} holds no {name}.parquet; name the folder of a backtest's results"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"RUN: {path} cannot be read: {str(error).splitlines()[0]}") from None


def _when(
    run: Path, decisions: pd.DataFrame, orders: pd.DataFrame, name: str, at: str | None
) -> pd.Timestamp:
    """The instant asked for; else that of the symbol's last order, else of its last decision."""
    if at is not None:
        return pd.Timestamp(instant(at, name="--at"), tz="UTC")
    for frame in (orders, decisions):
        own = frame[frame["symbol"] == name]
        if not own.empty:
            last: pd.Timestamp = own["at"].iloc[-1]
            return last
    raise InputError(f"--symbol: {name} was never decided in {run}")


def _decided(c: dict[Any, Any]) -> list[str]:
    """The decision, from what was expected to the quantity."""
    hours = (c["until"] - c["at"]) / pd.Timedelta(hours=1)
    lines = [
        f"{c['symbol']}, decided {c['at']:%Y-%m-%dT%H:%MZ} for {hours:g} h, until"
        f" {c['until']:%Y-%m-%dT%H:%MZ}",
        f"  expected return {c['mu'] * BASIS_POINTS:+.2f} bp, deviation"
        f" {c['sigma'] * BASIS_POINTS:.2f} bp",
        *([f"  {words}"] if (words := planned(_rests(c), hours).lstrip("; ")) else []),
        f"  weight before any limit {c['kelly']:+.4f} of equity",
        f"  held {c['held']:+.4f}, target {c['target']:+.4f}",
    ]
    for limit in str(c["binding"]).split("+") if c["binding"] else []:
        price = c.get(f"shadow_{limit}", np.nan)
        worth = (
            f", one more of equity there would add {price * BASIS_POINTS:.3f} bp"
            if price == price
            else ""
        )
        lines.append(f"  bound by {limit}{worth}")
    change = (
        f"  quantity {c['qty']:+g} at {c['price']:,.4f} USD, reckoned to cost {c['cost']:,.2f} USD"
    )
    return [*lines, change if c["qty"] else "  nothing ordered"]


def _rests(c: dict[Any, Any]) -> Rests:
    """What a decision rested on, from its row; a run of before there were plans has none."""
    found = {name: c.get(f"plan_{name}", np.nan) for name in Rests._fields}
    return Rests(**{**found, "worth": None if found["worth"] != found["worth"] else found["worth"]})


def _sent(sent: pd.DataFrame, filled: pd.DataFrame) -> list[str]:
    """The orders, their reasons and their fills."""
    lines = []
    for o in sent.to_dict("records"):
        lines += [
            f"order {o['client_order_id']}: {o['side']} {o['qty']:g}, {o['type']}, {o['tif']}",
            f"  {o['reason']}",
        ]
        own = filled[filled["client_order_id"] == o["client_order_id"]]
        for f in own.to_dict("records"):
            price = f"at {f['price']:,.4f} USD" if f["price"] > 0 else "as a fee in coin"
            lines.append(
                f"  filled {f['qty']:+g} {price}, fee {f['fee']:,.4f} USD,"
                f" {f['at']:%Y-%m-%dT%H:%MZ}"
            )
        if own.empty:
            lines.append("  not filled")
    return lines


def main() -> None:
    """Command line."""
    parser = Parser(description="Why an order exists, from the files of a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a backtest's results")
    parser.add_argument("--order", metavar="CLIENT_ORDER_ID")
    parser.add_argument("--symbol")
    parser.add_argument("--at", help="instant with a zone; none: of the symbol's last order")
    given = parser.parse_args()
    if (given.order is None) == (given.symbol is None):
        parser.error("give either --order or --symbol")
    with one_line("nothing was written"):
        text = explain(given.run.expanduser(), order=given.order, symbol=given.symbol, at=given.at)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
