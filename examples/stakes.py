"""Stakes in bets that are no stocks: an option spread of two weekdays and a binary contract.

    .venv/bin/python examples/stakes.py

A spread of width 6 sold for a credit of 2.50 ties up 3.50: what it makes is counted per unit of
that collateral, trade by trade, and trades of one day stand in one row. The contract costs 0.40,
fee included, and pays 1.00 with probability 0.46 whatever the spreads do. The trades are synthetic.
"""

from __future__ import annotations

import sys

import numpy as np

from foundation.arrays import Array
from sizing import DrawdownBound, Stakes, growth_stakes

COLLATERAL = 3.5
PRICE, CHANCE = 0.40, 0.46
BOUND = DrawdownBound(alpha=0.7, beta=0.1)


def outcomes(days: int = 60) -> tuple[Array, Array]:
    """Returns [N, 3] of a morning spread, an afternoon spread and the contract; chances [N]."""
    rng = np.random.default_rng(7)
    calm = rng.random(days) < 0.72
    rows = []
    chance = []
    for is_calm in calm:
        low, high = (0.9, 1.5) if is_calm else (-3.0, -1.8)
        spreads = rng.uniform(low, high, 2) / COLLATERAL
        for contract, share in ((1 / PRICE - 1, CHANCE), (-1.0, 1 - CHANCE)):
            rows.append([*spreads, contract])
            chance.append(share / days)
    return np.array(rows), np.array(chance)


def line(name: str, stakes: Stakes) -> str:
    """Stakes in percent, growth in basis points, and how far they may be from the best."""
    percent = ", ".join(f"{100 * weight:5.2f} %" for weight in stakes.weights)
    return f"{name:<12}{percent}; growth {1e4 * stakes.growth:.1f} bp, gap {stakes.gap:.0e}\n"


def main() -> None:
    """Full growth, half of Kelly, and full growth under a bound on drawdowns."""
    returns, chance = outcomes()
    caps = {"upper": 0.25, "groups": [([1.0, 1.0, 0.0], 0.4)]}
    for name, how in (
        ("full", {}),
        ("half", {"fraction": 0.5}),
        ("drawdown", {"drawdown": BOUND}),
    ):
        sys.stdout.write(line(name, growth_stakes(returns, chance, **caps, **how)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
