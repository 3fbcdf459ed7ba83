"""What an answer about an order says of its fate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from execution.alpaca.connection import Answer
from execution.alpaca.fields import OrderEntry, exact

DONE = ("filled", "canceled", "expired", "rejected", "replaced")


def is_done(answer: Answer) -> bool:
    """Whether nothing more can happen to an order."""
    status = answer["status"]
    # An order that is good till it is cancelled goes on the next day.
    ended_today = status == "done_for_day" and answer.get("time_in_force") != "gtc"
    return status in DONE or ended_today


def traded_at(answer: Answer) -> np.datetime64:
    """When an order filled last, or where it has not, when it changed last."""
    at = OrderEntry.filled_at.of(answer)
    return OrderEntry.updated_at.of(answer) if at is None else at


def chain_of(answer: Answer) -> list[Answer]:
    """The order and those whose place it took, the latest first."""
    chain = [answer]
    while "predecessor" in chain[-1]:
        chain.append(chain[-1]["predecessor"])
    return chain


def poll_delays(patience: float, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds before each look at an order, doubling up to one, until patience has ended."""
    end = clock() + patience
    step = 0.05
    while (left := end - clock()) > 0:
        yield min(step, left)
        step = min(2 * step, 1.0)


def checked_order(name: str, answer: Answer) -> Answer:
    """The answer, which is about the order with this id of ours.

    Raises
    ------
    ValueError, KeyError, TypeError
        for an answer about another order, or half of one.
    """
    if answer["client_order_id"] != name or not (answer["id"] and answer["status"]):
        raise ValueError("an answer about another order, or half of one")
    return answer


def same_terms(request: Mapping[str, Any], answer: Answer) -> bool:
    """Whether an answer is about an order of these terms, as far as it says them."""
    side = answer.get("side")
    if side and "side" in request and side != request["side"]:
        return False
    quantity = OrderEntry.qty.of(answer)
    return quantity is None or "qty" not in request or quantity == exact(request["qty"])
