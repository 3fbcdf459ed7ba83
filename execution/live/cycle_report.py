"""Text of a cycle for the terminal and the log: decisions, orders with reasons, fills."""

from __future__ import annotations

import logging
import sys

from execution.decision.choice import Choice, format_no_order_reason
from execution.live.cycle import Cycle
from execution.live.loop import print_warning
from execution.live.settings import LiveSettings
from execution.live.undecided import short_history_reason, undecided_reasons
from execution.orders.auctions import first_accepted_time
from foundation.console import PipeTolerantTerminal, tolerate_print_errors
from foundation.formatting import format_count, format_number, format_rounded_price, format_usd
from foundation.tables import Table
from trainingdata.bars import Bars
from trainingdata.instants import format_utc

log = logging.getLogger("live")


class CycleLogger:
    """Reporter that logs each cycle.

    After the first cycle it also warns of each symbol with too few bars for a forecast.
    """

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._is_first = True

    def report(self, cycle: Cycle) -> None:
        """Log a cycle."""
        log_cycle(cycle)
        for line in _short_histories(cycle.bars, self._settings) if self._is_first else ():
            print_warning(line)
        self._is_first = False


class CyclePrinter(CycleLogger):
    """Reporter that logs and prints each cycle."""

    def report(self, cycle: Cycle) -> None:
        """Log and print a cycle."""
        super().report(cycle)
        with tolerate_print_errors():
            print_cycle_briefly(cycle)


def _short_histories(bars: Bars, settings: LiveSettings) -> list[str]:
    """Return one line per symbol with too few bars for a forecast."""
    asked = sorted(settings.tradable_symbols | {*bars.symbols})
    reasons = {symbol: short_history_reason(bars, symbol, settings) for symbol in asked}
    return [f"{symbol} is not decided: {why}." for symbol, why in reasons.items() if why]


def print_cycle(cycle: Cycle) -> None:
    """Print a cycle: the table of its decision, the orders with reasons, and the fills."""
    console = PipeTolerantTerminal(None if sys.stdout.isatty() else 160)
    lines = _cycle_lines(cycle)
    if (decision := cycle.decision) is not None:
        rows = [
            (
                choice.symbol,
                format_number(choice.mu * 1e4, 1, sign=True),
                format_number(choice.sigma * 1e4, 1),
                format_number(choice.kelly, 3, sign=True),
                format_number(choice.target_weight, 3, sign=True),
                f"{choice.qty:+f}",
                _format_bound_by(choice),
            )
            for choice in decision.choices
        ]
        title = f"{format_utc(decision.at)}, equity {format_usd(cycle.account.equity)}"
        heads = ("symbol", "mu, bp", "sigma, bp", "Kelly", "target", "order", "bound by")
        console.print(Table(title, heads, rows, left_aligned_columns=(6,)))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _cycle_lines(cycle: Cycle) -> list[str]:
    """Return the lines that describe a cycle's orders and fills, or the reason why it was idle."""
    decision = cycle.decision
    if decision is None:
        return [f"{format_utc(cycle.account.as_of)} idle: {cycle.idle_reason}."]
    lines = [f"{o.side} {o.qty} {o.symbol}: {o.reason}" for o in decision.orders]
    if decision.sizing_failure:
        lines.append(f"Enhanced sizing failed: {decision.sizing_failure}")
    lines += [
        f"filled {f.qty:+f} {f.symbol} at {format_rounded_price(f.price)}" for f in cycle.fills
    ]
    if cycle.planned_orders:
        count = format_count(len(cycle.planned_orders), "order")
        at = format_utc(first_accepted_time(cycle.planned_orders[0], cycle.account.as_of))
        lines.append(f"planned: {count} for the auction, sent at {at}")
    for order in decision.orders:
        if why := cycle.unsent_reasons.get(order.client_order_id):
            lines.append(f"NOT sent: {order.side} {order.qty} {order.symbol}: {why}")
    return lines


def print_cycle_briefly(cycle: Cycle) -> None:
    """Print a cycle; only one line if it has no order, cancellation, fill or failure."""
    decision = cycle.decision
    if (
        decision is None
        or decision.orders
        or decision.orders_to_cancel
        or decision.sizing_failure
        or cycle.fills
    ):
        print_cycle(cycle)
        return
    bound = [
        f"{choice.symbol} ({choice.bound_by})" if choice.binding_shadow_prices else choice.symbol
        for choice in decision.choices
    ]
    PipeTolerantTerminal().print(
        f"{format_utc(decision.at)}: equity {format_usd(cycle.account.equity)}, no order in"
        f" {', '.join(bound) or 'any symbol'}.",
        highlight=False,
        soft_wrap=True,
    )


def print_symbols_without_order(cycle: Cycle) -> None:
    """Print one line for each decided symbol without an order, with the reason."""
    decision = cycle.decision
    for choice in () if decision is None else decision.choices:
        if why := format_no_order_reason(choice, cycle.account.equity):
            text = f"{choice.symbol} is {why}."
            PipeTolerantTerminal().print(text, highlight=False, soft_wrap=True)


def print_symbols_without_decision(cycle: Cycle, settings: LiveSettings) -> None:
    """Print one line for each symbol without a decision, with the reason.

    Covers the symbols that were requested and the symbols that have bars.
    """
    for symbol, why in undecided_reasons(cycle, settings).items():
        PipeTolerantTerminal().print(
            f"{symbol} is not decided: {why}.", highlight=False, soft_wrap=True
        )


def _format_bound_by(choice: Choice) -> str:
    """Return the names of the binding limits as text.

    If `cost` is among them, its name is followed by the cost of trading in basis points.
    """
    price = f" ({choice.unit_cost * 1e4:.3g} bp)" if "cost" in choice.binding_shadow_prices else ""
    return f"{choice.bound_by}{price}"


def log_cycle(cycle: Cycle) -> None:
    """Log a cycle with the fixed phrases that operators search for."""
    decision = cycle.decision
    if decision is None:
        log.info("%s idle: %s", format_utc(cycle.account.as_of), cycle.idle_reason)
        return
    if decision.sizing_failure:
        log.warning("Enhanced sizing failed: %s", decision.sizing_failure)
    at = format_utc(decision.at)
    for rule in decision.sizing_rules:
        log.info("%s %s", at, rule)
    for order in decision.orders:
        line = f"{order.client_order_id}: {order.side} {order.qty}: {order.reason}"
        log.info("%s %s", at, line)
    for fill in cycle.fills:
        log.info("filled %s: %+f at %s", fill.client_order_id, fill.qty, fill.price)
