"""Stops, watch and loss limits of a loop, as they are drawn, and the watch's acts."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KINDS = ("stop", "stop_limit", "trailing")
DISTANCES = ("0.3%", "0.6%", "1%", "2.5%")
# Limits at which the watch acts soon, or must not act: nothing here loses so much, or owes it.
LIMITS: Mapping[str, Sequence[str]] = {
    "daily_loss": ("0.001", "0.3", "null", "null"),
    "drawdown": ("0.002", "0.3", "null", "null"),
    "margin": ("0.4", "5", "5", "null"),
}
ACTIONS = ("halt", "reduce", "flatten")
LOSSES = (0.001, 0.01, 0.1)  # at which openings are halted
REACHED = re.compile(r"has reached watch\.(\w+), ([0-9.]+)")
OWED = 2.2  # the largest gross exposure here in multiples of what is lent overnight


@dataclass(frozen=True, slots=True)
class Guarding:
    """What protects an account, as it was drawn; rng: draws what happens to it."""

    words: tuple[str, ...]
    rng: random.Random

    @classmethod
    def drawn(cls, rng: random.Random, *, watches: bool) -> Guarding:
        """Settings; watches: whether the watch may act."""
        kind, distance = rng.choice(KINDS), rng.choice(DISTANCES)
        limits = [
            f"watch.{name}={rng.choice(values) if watches else values[1]}"
            for name, values in LIMITS.items()
        ]
        words = (
            *(f"protect.kind={kind}", f"protect.distance={distance}"),
            f"protect.cooldown={rng.choice((0, 0, 1))}",
            *(*limits, f"watch.action={rng.choice(ACTIONS)}", "watch.reduce_to=0.5"),
            f"guards.daily_loss={rng.choice(LOSSES) if watches else LOSSES[-1]}",
        )
        return cls(words, rng)


def unjustified(
    reason: str, at: np.datetime64, equities: Mapping[np.datetime64, float], capital: float
) -> bool:
    """Whether the watch acted at an instant on a loss, or on a debt, that never was.

    equities: last equity at each instant of the exchange, which began with the capital.
    """
    found = REACHED.search(reason)
    if found is None:
        return True
    limit = float(found[2])
    if found[1] == "margin":
        return limit > OWED
    past = [equities[instant] for instant in sorted(equities) if instant <= at]
    # At the instant itself orders may still have cost something.
    return not past or 1 - min(past[-2:]) / max(capital, *past) < limit - 1e-4
