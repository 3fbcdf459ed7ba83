"""How much: growth-optimal weights, limits, and quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sizing.kelly import kelly_weights as kelly_weights
    from sizing.quantity import get_qty as get_qty

__all__ = ["get_qty", "kelly_weights"]


def __getattr__(name: str) -> Any:
    """`sizing.get_qty` and `sizing.kelly_weights`, loaded when first used."""
    if name == "get_qty":
        from sizing.quantity import get_qty

        return get_qty
    if name == "kelly_weights":
        from sizing.kelly import kelly_weights

        return kelly_weights
    raise AttributeError(name)
