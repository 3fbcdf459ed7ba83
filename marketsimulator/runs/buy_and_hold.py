"""Buy and hold: the strategy every other one has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from execution.decision.choice import Choice
from execution.decision.decision import Decision, decision_of_choices
from execution.decision.outlook import deciding_symbols
from execution.decision.rebalancing import rebalance
from execution.orders.orders import TERMS, Account, OrderTerms
from sizing.quantity import truncate_to_increment
from trainingdata.bars import Bars


@dataclass(frozen=True, slots=True)
class BuyAndHold:
    """Equal weights of 1× in all, each symbol bought at its first decision and held."""

    terms: OrderTerms = TERMS

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """Buy what decides now and is not held yet."""
        deciding = np.flatnonzero(deciding_symbols(bars))
        missing = [s for s in deciding if bars.symbols[s] not in account.positions]
        equity = account.equity
        if not missing or equity <= 0:
            return None
        weight = 1 / len(bars.symbols)
        # Nothing is expected and nothing binds: what a choice says of that has no value.
        nan = float("nan")
        choices = []
        items = []
        largest = []
        for s in missing:
            item = bars.instruments[s]
            price = account.prices[item.symbol]
            quantity = truncate_to_increment(weight * equity / price, item.increment)
            too_small = float(quantity) * price < self.terms.least_values(bars.crypto)[s]
            if not quantity or too_small:
                continue
            choices.append(
                Choice(item.symbol, nan, nan, nan, 0.0, weight, quantity, price, {}, nan)
            )
            items.append(item)
            largest.append(self.terms.largest_quantity(item, price))
        if not choices:
            return None
        orders = rebalance(
            "buy_and_hold",
            bars.now,
            items,
            [Decimal(0)] * len(items),
            [choice.qty for choice in choices],
            largest,
            ["bought once and held"] * len(items),
            bars.timeframe,
        )
        return decision_of_choices(bars.now, bars.now, equity, 1.0, choices, orders)
