"""Programs whose ceilings are for no price to be passed."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing.solver.segments import Program


def program(
    pull: Array,
    risk: Array,
    lower: Array,
    upper: Array,
    held: Array,
    cost: Array,
    groups: Array,
    room: Array,
) -> Program:
    """A program in which every group counts sizes and none has a toll."""
    count = len(room)
    return Program(
        pull,
        risk,
        lower,
        upper,
        held,
        cost,
        groups,
        room,
        np.full(count, np.inf),
        np.zeros(count, dtype=bool),
    )
