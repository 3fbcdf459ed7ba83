"""How it is done: orders, the trader's decision, brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from execution.quantity import get_qty as get_qty

__all__ = ["get_qty"]


def __getattr__(name: str) -> Any:
    """`execution.get_qty`, loaded when first used."""
    if name == "get_qty":
        from execution.quantity import get_qty

        return get_qty
    raise AttributeError(name)
