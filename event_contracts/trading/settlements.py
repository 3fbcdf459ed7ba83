"""Settlements: the payout of a market, as the venue lists it.

    stated   `value`, the payout of a YES in cents; null for scalar results and ties; else by result
    paid     `revenue`, whole cents for the final position without pairs: a pair of YES and NO was
             paid when it was made, though both counts list it

The revenue decides. A stated payout within a cent of it is exact, since the revenue is rounded. A
larger difference is alerted, and the revenue is booked. In production `value` was 0 for some
markets that paid YES (public repositories, 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import numpy as np

from event_contracts.trading.fees import NOTHING
from event_contracts.trading.fields import FirstOf
from event_contracts.trading.orders import PAYOUT
from event_contracts.trading.venue_orders import Entry, a_count, cents, fixed_point
from foundation.decimals import CENT
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import Optional, an_instant, optional, words

UNDATED = np.datetime64("NaT", "ns")


def a_payout(value: Any) -> Decimal:
    """USD of a contract's payout in cents."""
    usd = cents(value)
    if not 0 <= usd <= PAYOUT:
        raise ValueError("no payout between 0 and 100 cents")
    return usd


@dataclass(frozen=True, slots=True)
class _Row(Entry):
    """An entry of `settlements`, `GET /portfolio/settlements`."""

    market: Annotated[str, FirstOf(("ticker", words), ("market_ticker", words))]
    at: Annotated[
        np.datetime64,
        Optional("settled_time", an_instant, UNDATED, "when it was first read stands for it"),
    ]
    result: Annotated[str, Optional("market_result", words, "")]
    value: Annotated[Decimal | None, optional("value", a_payout)]
    revenue: Annotated[Decimal | None, optional("revenue", cents)]
    yes: Annotated[Decimal | None, optional("yes_count_fp", a_count)]
    no: Annotated[Decimal | None, optional("no_count_fp", a_count)]
    yes_cost: Annotated[Decimal | None, optional("yes_total_cost_dollars", fixed_point)]
    no_cost: Annotated[Decimal | None, optional("no_total_cost_dollars", fixed_point)]
    fees: Annotated[Decimal | None, optional("fee_cost", fixed_point)]

    @property
    def result_payout(self) -> Decimal | None:
        """Payout of a YES, USD, for the results `yes` and `no`; None for any other."""
        return {"yes": PAYOUT, "no": NOTHING}.get(self.result)

    @property
    def net(self) -> Decimal | None:
        """Contracts held at the end, YES above 0 and NO below."""
        return None if self.yes is None or self.no is None else self.yes - self.no

    @property
    def profit(self) -> Decimal | None:
        """Profit of the market after fees, pairs included, USD; None if a figure is missing."""
        figures = (self.revenue, self.yes, self.no, self.yes_cost, self.no_cost, self.fees)
        if any(figure is None for figure in figures):
            return None
        revenue, yes, no, yes_cost, no_cost, fees = (figure or NOTHING for figure in figures)
        return revenue + min(yes, no) * PAYOUT - yes_cost - no_cost - fees


@dataclass(frozen=True, slots=True)
class Settlement:
    """A market that has paid.

    yes: USD paid for a contract of YES; NO got the rest of a dollar.
    at: UTC, when it paid; NaT if the venue does not state it.
    result: `yes`, `no`, or the venue's word for another end.
    net: contracts paid for, YES above 0 and NO below; None if the venue does not state it.
    revenue: USD paid for them, if `yes` does not give it exactly.
    profit: USD after fees; None if the venue does not state it.
    remark: the contradiction between its figures, in words; empty if they agree.
    """

    market: str
    yes: Decimal
    at: np.datetime64
    result: str = ""
    net: Decimal | None = None
    revenue: Decimal | None = None
    profit: Decimal | None = None
    remark: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Settlement:
        """Parse an entry of the venue's list.

        Raises SenselessAnswer for an entry without a payout and without revenue and counts.
        """
        row = _Row.of(entry)
        net, paid = row.net, row.revenue
        if net is None or paid is None:
            certain = row.value if row.result_payout is None else row.result_payout
            if certain is not None:
                return cls(row.market, certain, row.at, row.result, net)
            missing = "revenue" if paid is None else "yes_count_fp or no_count_fp"
            raise SenselessAnswer(f"value and {missing} are missing")
        stated = row.result_payout if row.value is None else row.value
        remark = ""
        if stated is not None:
            due = position_payout(net, stated)
            if abs(due - paid) <= CENT:
                return cls(row.market, stated, row.at, row.result, net, profit=row.profit)
            remark = (
                f"revenue ${paid} is booked; {net} contracts at ${stated} a YES would be ${due}"
            )
        yes = _rate(net, paid) if net else stated or NOTHING
        return cls(row.market, yes, row.at, row.result, net, paid, row.profit, remark)

    def payout(self, held: Decimal) -> Decimal:
        """Return the payout of a position, USD; YES above 0 and NO below."""
        if self.revenue is not None and held == self.net:
            return self.revenue
        return position_payout(held, self.yes)


def position_payout(held: Decimal, yes: Decimal) -> Decimal:
    """Return the payout of a position, USD; yes: USD that a YES pays."""
    return held * yes if held > 0 else -held * (PAYOUT - yes)


def _rate(net: Decimal, paid: Decimal) -> Decimal:
    """Return the payout of a YES, USD, implied by what a position was paid."""
    return paid / net if net > 0 else PAYOUT + paid / net
