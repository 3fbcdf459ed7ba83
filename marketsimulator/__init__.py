"""What would have happened: settlement, the simulated broker, backtests, replays of weights, audits, reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marketsimulator.weights import replay as replay

__all__ = ["replay"]


def __getattr__(name: str) -> Any:
    """`marketsimulator.replay`, loaded when first used."""
    if name == "replay":
        from marketsimulator.weights import replay

        return replay
    raise AttributeError(name)
