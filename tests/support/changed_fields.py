"""Fields of a venue's answers with wrong values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from foundation.errors import BrokerError

T = TypeVar("T")
VALUES: tuple[Any, ...] = (None, "", "much", "1e9999999", "nan", True, 7.5, {}, [1])


def answered(ask: Callable[[], T]) -> tuple[T | None, str]:
    """What is answered, or why nothing is."""
    try:
        return ask(), ""
    except BrokerError as error:
        return None, str(error)


def said(entry: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """An answer, one field of which says something else, or is gone."""
    return {k: v for k, v in {**entry, field: value}.items() if k != field or v != "removed"}
