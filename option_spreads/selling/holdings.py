"""Whether the venue holds what the open spreads say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from execution.option_orders import Contract
from option_spreads.selling.state import OpenSpread


def different_options(
    spreads: Iterable[OpenSpread],
    held: Mapping[Contract, int],
    concerned: Callable[[Contract], bool],
) -> list[Contract]:
    """Options concerned of which the venue holds another number than the spreads say.

    An order of unknown fate may have traded or not: anything between is what the spreads say.

    held: options at the venue, below 0 where they are owed.
    """
    least = Counter[Contract]()
    most = Counter[Contract]()
    for spread in spreads:
        for leg in spread.option_legs:
            count = spread.remaining * leg.direction
            certain = spread.stage == "open"
            least[leg.contract] += count if certain else min(count, 0)
            most[leg.contract] += count if certain else max(count, 0)
    return [
        option
        for option in {*least, *held}
        if concerned(option) and not least[option] <= held.get(option, 0) <= most[option]
    ]
