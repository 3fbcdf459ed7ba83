"""The venue's fills and settlements booked by our rules, and how that differs from what it says.

    ledger = Ledger.opened(account)               what is held before anything is booked
    ledger = ledger.after(fills, settlements, …)  each of them once, in its order
    ledger.differences(cash, positions)           by name: nothing is booked to make them go

A deposit is a difference until somebody books it (`with_flow`). What an order's rounding carried
before the ledger was opened is not known: its rebate is a difference of at most a cent an order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from event_contracts.trading.fees import NOTHING, FeeRules
from event_contracts.trading.money import Account, Holding
from event_contracts.trading.venue_orders import VenueFill
from foundation.cents import CENT

# The rules in force in a market at an instant.
RulesOf = Callable[[str, np.datetime64], FeeRules]


@dataclass(frozen=True, slots=True)
class Settlement:
    """A market that has paid.

    market: ticker.
    yes: USD that it paid for a contract of YES; NO got the rest of a dollar.
    at: UTC, when it paid.
    """

    market: str
    yes: Decimal
    at: np.datetime64


@dataclass(frozen=True, slots=True)
class Ledger:
    """An account, and what has been booked in it.

    account: cash, contracts and carried rounding.
    booked: ids of the fills in it.
    settled: markets whose settlement is in it, and when they paid.
    traded: contracts of its fills by order.
    fees: USD charged less what the venue says that it charged, of fills where the two differ.
    """

    account: Account
    booked: frozenset[str] = frozenset()
    settled: frozenset[tuple[str, np.datetime64]] = frozenset()
    traded: Mapping[str, Decimal] = field(default_factory=dict)
    fees: tuple[tuple[str, Decimal], ...] = ()

    @classmethod
    def opened(
        cls,
        account: Account,
        fills: Iterable[VenueFill] = (),
        settlements: Iterable[Settlement] = (),
    ) -> Ledger:
        """A ledger that begins with an account, in which these are already."""
        return cls(
            account,
            frozenset(fill.fill_id for fill in fills),
            frozenset((each.market, each.at) for each in settlements),
        )

    def after(
        self,
        fills: Iterable[VenueFill],
        settlements: Iterable[Settlement],
        rules_of: RulesOf,
    ) -> Ledger:
        """The ledger with what is not yet in it, in the order in which it was.

        fills: oldest first, where they have one instant.
        """
        ledger = self
        new_fills = {each.fill_id: each for each in fills if each.fill_id not in self.booked}
        listed = tuple(settlements)
        ends = {each.market: each for each in listed}
        new_ends = [each for each in listed if (each.market, each.at) not in self.settled]
        # Of one instant trades come first: a market that has paid trades no more.
        news: list[tuple[np.datetime64, int, VenueFill | Settlement]]
        news = [(each.at, 0, each) for each in new_fills.values()]
        news += [(each.at, 1, each) for each in new_ends]
        for _, _, each in sorted(news, key=lambda row: row[:2]):
            if isinstance(each, Settlement):
                ledger = ledger._with_settlement(each)
            else:
                ledger = ledger._with_fill(each, rules_of)
                end = ends.get(each.market)
                if end is not None and (end.market, end.at) in ledger.settled:
                    # It was listed after its market had paid.
                    ledger = replace(ledger, account=ledger.account.paid(end.market, end.yes))
        return ledger

    def differences(self, cash: Decimal, positions: Mapping[str, Decimal]) -> tuple[str, ...]:
        """What the venue says that is not booked, in words; empty where both agree.

        cash: USD; less than a cent is no difference.
        positions: contracts by market, YES above 0 and NO below.
        """
        told = list(self.position_differences(positions))
        if abs(cash - self.account.cash) >= CENT:
            told.append(f"cash: ${self.account.cash} booked, ${cash} at the venue")
            told += [
                f"fill {name}: ${amount} more charged here than the venue says"
                for name, amount in self.fees
            ]
        return tuple(told)

    def position_differences(self, positions: Mapping[str, Decimal]) -> tuple[str, ...]:
        """The differences in contracts alone."""
        markets = sorted({*self.account.holdings, *positions})
        told = []
        for market in markets:
            booked = self.account.holding(market)
            stated = held(positions.get(market, NOTHING))
            if booked != stated:
                told.append(f"{market}: {_words(booked)} booked, {_words(stated)} at the venue")
        return tuple(told)

    def _with_fill(self, fill: VenueFill, rules_of: RulesOf) -> Ledger:
        # The venue knows no sale: what it fills buys a side, and a pair is paid out at once. Of a
        # sale the cash moves as much, its fee and its rounding too.
        bought = fill.fill(reduces=False)
        account, cost = self.account.booked(bought, rules_of(fill.market, fill.at))
        fees = self.fees
        if fill.fee is not None and abs(cost.net_fee - fill.fee) >= CENT:
            fees = (*fees, (fill.fill_id, cost.net_fee - fill.fee))
        traded = {
            **self.traded,
            fill.order_id: self.traded.get(fill.order_id, NOTHING) + fill.count,
        }
        booked = self.booked | {fill.fill_id}
        return replace(self, account=account, booked=booked, traded=traded, fees=fees)

    def _with_settlement(self, settlement: Settlement) -> Ledger:
        account = self.account.paid(settlement.market, settlement.yes)
        settled = self.settled | {(settlement.market, settlement.at)}
        return replace(self, account=account, settled=settled)


def held(position: Decimal) -> Holding:
    """What a position says is held: YES above 0, NO below."""
    return Holding(position, NOTHING) if position >= 0 else Holding(NOTHING, -position)


def _words(holding: Holding) -> str:
    if holding.no:
        return f"{holding.no} NO"
    return f"{holding.yes} YES" if holding.yes else "nothing"
