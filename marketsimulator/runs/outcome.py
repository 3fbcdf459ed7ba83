"""What became of an account: its equity, how much of it was at work, what it traded and paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from foundation.arrays import Array, Records
from marketsimulator.records import Run, is_trade


class Totals(NamedTuple):
    """What an account traded and paid over all its instants.

    notional: USD bought and sold.
    trades: number of fills at a price; the fee of a coin purchase, a split and
        the end of a symbol are none.
    fees: USD, as are all that follow but the last.
    coin_fees: fees of coin purchases, taken in coin, at the price of their fill.
    spread: half-spreads.
    slippage: impact included.
    interest: on the debit over night.
    borrow: on shorts over night.
    rounding: of a day's regulatory fees, up to the cent.
    dividends: received, signed.
    failures: number of decisions that the solver, or an account without equity, left unmade.
    """

    notional: float
    trades: int
    fees: float
    coin_fees: float
    spread: float
    slippage: float
    interest: float
    borrow: float
    rounding: float
    dividends: float
    failures: int

    @property
    def costs_by_kind(self) -> dict[str, float]:
        """USD of each kind of cost, positive when paid."""
        return {
            "spread": self.spread,
            "slippage": self.slippage,
            # A day's fees are rounded up to the cent in their sum: the rounding is a fee as well.
            "fees": self.fees + self.rounding,
            "coin_fees": self.coin_fees,
            "interest": self.interest,
            "borrow": self.borrow,
        }

    @property
    def costs(self) -> float:
        """USD of all kinds together."""
        return sum(self.costs_by_kind.values())


_FLOWS = ("fees", "coin_fees", "spread", "slippage", "interest", "borrow", "rounding", "dividends")


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What became of an account over T instants.

    equity: [T] USD after the fills of each.
    gross: [T] USD of positions then, without sign.
    totals: what it traded and paid.
    """

    equity: Array
    gross: Array
    totals: Totals

    @classmethod
    def of_walk(cls, account: Records) -> Outcome:
        """Of the rows [T] of a walk, as of `ACCOUNT_ROW`."""
        sums: Any = {name: float(account[name].sum()) for name in ("notional", *_FLOWS)}
        counts: Any = {name: int(account[name].sum()) for name in ("trades", "failures")}
        gross = account["stock"] + account["coins"]
        return cls(account["equity"].copy(), gross, Totals(**sums, **counts))

    @classmethod
    def of_run(cls, run: Run) -> Outcome:
        """Of a run's rows and fills."""
        flows: Any = {name: sum(getattr(row, name) for row in run.rows) for name in _FLOWS}
        trades = [fill for fill in run.fills if is_trade(fill)]
        totals = Totals(
            notional=sum(abs(float(fill.qty)) * fill.price for fill in trades),
            trades=len(trades),
            failures=run.log.failures,
            **flows,
        )
        gross = np.array([row.gross_stock + row.gross_crypto for row in run.rows])
        return cls(np.array([row.equity for row in run.rows]), gross, totals)
