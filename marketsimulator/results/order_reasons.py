"""Short reasons of orders for tables; files and `explain --full` have the complete reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from execution.decision.choice import (
    LEGACY_RULE_SUFFIX,
    REASON_START,
    UNIVERSE_RULE_PREFIX,
    format_stop,
    format_strategy_reason,
)
from foundation.formatting import format_basis_points, format_number

MAX_REASON_WORDS = 20
MAX_LIMITS_NAMED = 2


def format_decision(decision: Mapping[Any, Any]) -> str:
    """Return a decision as text: its change of weight, forecast and binding limits.

    decision: one row of the decisions table.
    """
    held, target = (format_number(decision[name], 3, sign=True) for name in ("held", "target"))
    text = f"{format_strategy_reason(decision['strategy_reason'])}weight {held} to {target}"
    if decision["mu"] == decision["mu"]:
        forecast = format_basis_points(decision["mu"], 1, sign=True)
        hours = (decision["until"] - decision["at"]) / pd.Timedelta(hours=1)
        text += (
            f"; forecast {forecast} ± {format_basis_points(decision['sigma'], 1)} over {hours:g} h"
        )
    limits = decision["binding"].split("+") if decision["binding"] else []
    if rule := next((name for name in limits if name.startswith(UNIVERSE_RULE_PREFIX)), ""):
        return f"{text}; left the universe ({rule})"
    named = ", ".join(limits[:MAX_LIMITS_NAMED])
    more = f" and {len(limits) - MAX_LIMITS_NAMED} more" if len(limits) > MAX_LIMITS_NAMED else ""
    stop = format_stop(decision["plan_stop_price"])
    return f"{text}; bound by {named}{more}{stop}" if limits else f"{text}{stop}"


def short_reasons_by_order(orders: pd.DataFrame, decisions: pd.DataFrame) -> dict[str, str]:
    """Return the short reason of each order, by client order id.

    orders, decisions: frames of a run.
    """
    keys = orders[["symbol", "at"]].drop_duplicates()
    by_key = {
        (decision["symbol"], decision["at"]): decision
        for decision in decisions.merge(keys, on=["symbol", "at"]).to_dict("records")
    }
    return {
        order["client_order_id"]: short_reason(
            order["reason"], by_key.get((order["symbol"], order["at"]))
        )
        for order in orders.to_dict("records")
    }


def short_reason(reason: str, decision: Mapping[Any, Any] | None) -> str:
    """Return an order's reason in at most 20 words.

    A longer reason is replaced by the decision's change of weight, forecast and binding limits;
    notes on a failed sizing and on the legacy rule are kept. Text that is still longer is cut.

    decision: row of the order's decision; None if unknown.
    """
    if len(reason.split()) > MAX_REASON_WORDS and decision is not None:
        own = decision["strategy_reason"]
        failure = reason.partition(own)[0] if own else REASON_START.split(reason, 1)[0]
        legacy = f" {LEGACY_RULE_SUFFIX}" if reason.endswith(LEGACY_RULE_SUFFIX) else ""
        reason = f"{failure}{format_decision(decision)}{legacy}"
    words = reason.split()
    if len(words) <= MAX_REASON_WORDS:
        return reason
    return f"{' '.join(words[: MAX_REASON_WORDS - 1])} …"
