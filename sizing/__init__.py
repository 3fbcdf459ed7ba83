"""Position sizing: growth-optimal weights, limits, and quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import lazy_exports

if TYPE_CHECKING:
    from sizing.allocation import Allocation as Allocation
    from sizing.allocation import Strategy as Strategy
    from sizing.allocation import allocate_kelly as allocate_kelly
    from sizing.inputs import SizingInputs as SizingInputs
    from sizing.inputs import require_lookback as require_lookback
    from sizing.kelly import Covariance as Covariance
    from sizing.kelly import SizingProblem as SizingProblem
    from sizing.kelly import SolverFailed as SolverFailed
    from sizing.kelly import kelly_weights as kelly_weights
    from sizing.kelly import unconstrained_kelly as unconstrained_kelly
    from sizing.quantity import get_qty as get_qty
    from sizing.settings import Limits as Limits
    from sizing.settings import PriorSettings as PriorSettings
    from sizing.strategies import StrategyAnswer as StrategyAnswer

__getattr__, __dir__, __all__ = lazy_exports(__name__)
