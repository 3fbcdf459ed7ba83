"""What of the bars that were asked for a venue does not have, in lines."""

from __future__ import annotations

import numpy as np

from foundation.counts import counted
from trainingdata.bars import Bars
from trainingdata.instants import DAY, utc_text

LATE = 5 * DAY  # after what was asked; a history may begin on a long weekend


def history_lines(bars: Bars, asked: np.datetime64, context: int) -> list[str]:
    """Which symbols' bars begin later than asked, and which are fewer than a forecast sees.

    asked: instant from which on bars were asked for.
    context: own bars that a forecast sees.
    """
    firsts: dict[np.datetime64, list[str]] = {}
    lines = []
    for number, symbol in enumerate(bars.symbols):
        times, _ = bars.real_bars(number)
        if not len(times):
            lines.append(f"{symbol} has no bars: nothing is forecast of it.")
            continue
        if times[0] - asked > LATE:
            firsts.setdefault(times[0], []).append(symbol)
        if len(times) < context:
            lines.append(
                f"{symbol} has {counted(len(times), 'bar')}, fewer than the {context} that a"
                " forecast sees (forecaster.context_length): nothing is forecast of it before they"
                " are there."
            )
    for first, symbols in sorted(firsts.items()):
        names = ", ".join(symbols)
        lines.append(
            f"The bars of {names} begin at {utc_text(first)}, later than history_days asks for"
            f" ({utc_text(asked)})."
        )
    return lines
