"""A rule of one's own: a function of its inputs, of whose answer one thing is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy

import numpy as np

from foundation.arrays import Array, first_row
from foundation.errors import InputError, in_one_line
from foundation.plugin import TARGET, user_code
from sizing.inputs import SizingInputs
from sizing.kelly import SolverFailed
from trainingdata.instants import utc_text

SLOT = "sizing"  # the group that names one
OWN = f"{SLOT}.{TARGET}"
MOST = 1e6  # of equity: where a rule asks for more, limits need not know how much


def own_rule(name: str, rule: Callable[[SizingInputs], object]) -> Callable[[SizingInputs], Array]:
    """A rule of one's own, which answers one finite weight a symbol or ends the run with one line.

    It is handed a copy of the inputs: whatever it writes there, the limits stay as they are.
    """

    def weights(s: SizingInputs) -> Array:
        unsolved: SolverFailed | None = None
        with user_code(SLOT, name):
            try:
                answer = rule(deepcopy(s))
            except SolverFailed as error:
                unsolved = error
        # No new risk is taken then, as where a strategy of the system has no answer.
        if unsolved is not None:
            raise unsolved
        return _finite_weights(name, answer, s)

    return weights


def _finite_weights(name: str, answer: object, s: SizingInputs) -> Array:
    """The weights [S] of a rule's answer, each no larger than MOST."""
    needed = f"{OWN}: {name}: one finite weight a symbol is needed"
    wanted = None
    # What names its symbols itself may name them in another order.
    if isinstance(answer, np.ndarray | list | tuple):
        with suppress(ValueError):
            wanted = np.asarray(answer)
    if wanted is None or wanted.shape != s.held.shape or wanted.dtype.kind not in "biuf":
        when = "" if s.at is None else f" at {utc_text(s.at)}"
        said = in_one_line(repr(answer), 80)
        raise InputError(f"{needed}, an array for {len(s.held)} symbols{when}; it answered {said}")
    if not (finite := np.isfinite(wanted)).all():
        k = first_row(~finite)
        raise InputError(f"{needed}; it answered {wanted[k]} for {s.place(k)}")
    return np.clip(wanted.astype(np.float64), -MOST, MOST)
