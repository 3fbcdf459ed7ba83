"""What a loop waits for, in a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainingdata.instants import utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import holding_end, in_session, is_decision

NAMES = {Kind.STOCK: "stocks", Kind.CRYPTO: "coins"}


def waiting_line(due: np.datetime64, symbols: Sequence[str]) -> str:
    """When the next pass is, what may be decided then, and why not everything."""
    at = np.array([due])
    kinds = [kind for kind in NAMES if kind in {instrument(symbol).kind for symbol in symbols}]
    deciding = [kind for kind in kinds if is_decision(kind, at)[0]]
    line = f"The next pass is at {utc_text(due)}"
    if not deciding or deciding == kinds:
        return f"{line}."
    [waiting] = [kind for kind in kinds if kind not in deciding]
    shut = waiting is Kind.STOCK and not in_session(at)[0]
    again = f"again at {utc_text(holding_end(waiting, due))}"
    why = f"{NAMES[waiting]} are shut, {again}" if shut else f"{NAMES[waiting]} {again}"
    return f"{line}, {NAMES[deciding[0]]} only: {why}."
