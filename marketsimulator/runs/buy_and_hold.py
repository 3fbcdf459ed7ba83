"""Buy and hold: the strategy every other one has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from execution.decision import Choice, Decision
from execution.orders import TERMS, Account, OrderTerms, rebalance
from execution.outlook import deciding_symbols
from sizing.quantity import whole
from trainingdata.bars import Bars


@dataclass(frozen=True, slots=True)
class BuyAndHold:
    """Equal weights of 1× in all, each symbol bought at its first decision and held."""

    terms: OrderTerms = TERMS

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """Buy what decides now and is not held yet."""
        fresh = [
            s
            for s in np.flatnonzero(deciding_symbols(bars))
            if bars.symbols[s] not in account.positions
        ]
        equity = account.equity
        if not fresh or equity <= 0:
            return None
        weight = 1 / len(bars.symbols)
        choices = []
        targets = []
        for s in fresh:
            item = bars.instruments[s]
            price = account.prices[item.symbol]
            nan = float("nan")
            quantity = whole(weight * equity / price, item.increment)
            choices.append(
                Choice(item.symbol, nan, nan, nan, 0.0, weight, quantity, price, {}, nan)
            )
            targets.append(
                (item, Decimal(0), quantity, self.terms.most(item, price), "bought once and held")
            )
        orders = rebalance("buy_and_hold", bars.now, targets)
        return Decision(bars.now, bars.now, equity, 1.0, tuple(choices), orders)
