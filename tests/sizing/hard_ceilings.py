"""Programs whose ceilings are for no price to be passed."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing.solver.active_set import solve
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
        np.diag(risk).copy(),
        risk[None],
        lower,
        upper,
        held,
        cost,
        groups,
        room,
        np.full(count, np.inf),
        np.zeros(count, dtype=bool),
    )


def whole_risk(p: Program) -> Array:
    """R of all weights, [n, n]."""
    place = np.arange(len(p.pull))
    block, at = np.divmod(place, p.risk.shape[1])
    risk = p.risk[np.maximum.outer(block, block), at[:, None], at]
    risk[place, place] = p.variance
    return np.asarray(risk)


def solved(p: Program, **changes: Array) -> tuple[int, Array, Array]:
    """The answer to a program with changes, which stays as it is."""
    return solve(p._replace(variance=p.variance.copy(), **changes))
