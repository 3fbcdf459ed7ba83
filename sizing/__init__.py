"""How much: growth-optimal weights, limits, and quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.lazy import public

if TYPE_CHECKING:
    from sizing.allocation import Allocation as Allocation
    from sizing.allocation import Strategy as Strategy
    from sizing.allocation import allocate as allocate
    from sizing.conformance import check_strategy as check_strategy
    from sizing.kelly import SizingProblem as SizingProblem
    from sizing.kelly import SolverFailed as SolverFailed
    from sizing.kelly import kelly_weights as kelly_weights
    from sizing.kelly import unconstrained_kelly as unconstrained_kelly
    from sizing.limits import Limits as Limits
    from sizing.optimum import DrawdownBound as DrawdownBound
    from sizing.position_limits import PositionLimits as PositionLimits
    from sizing.premium import PriorSettings as PriorSettings
    from sizing.quantity import get_qty as get_qty
    from sizing.situation import Situation as Situation
    from sizing.stakes import Stakes as Stakes
    from sizing.stakes import growth_stakes as growth_stakes
    from sizing.uncertainty import binary_shrinkage as binary_shrinkage
    from sizing.uncertainty import drawdown_fraction as drawdown_fraction
    from sizing.uncertainty import proven_share as proven_share
    from sizing.uncertainty import shrinkage as shrinkage

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "Allocation": "allocation",
        "DrawdownBound": "optimum",
        "Limits": "limits",
        "PositionLimits": "position_limits",
        "PriorSettings": "premium",
        "Situation": "situation",
        "SizingProblem": "kelly",
        "SolverFailed": "kelly",
        "Stakes": "stakes",
        "Strategy": "allocation",
        "allocate": "allocation",
        "binary_shrinkage": "uncertainty",
        "check_strategy": "conformance",
        "drawdown_fraction": "uncertainty",
        "get_qty": "quantity",
        "growth_stakes": "stakes",
        "kelly_weights": "kelly",
        "proven_share": "uncertainty",
        "shrinkage": "uncertainty",
        "unconstrained_kelly": "kelly",
    },
)
