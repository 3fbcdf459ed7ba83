"""A trader's own orders that still wait when it decides again: which go on, which are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from execution.beliefs import BeliefTable
from execution.decision import Choice
from execution.orders import Account, Order, strategy_of

_NOTHING = Decimal(0)


def reductions_decided_anew(
    strategy: str, account: Account, belief: BeliefTable
) -> tuple[Order, ...]:
    """The strategy's own open orders that reduce a position of a symbol which decides now."""
    # How much is sold is decided anew, from what is held. Left open, a reduction would go on taking
    # its part of every ceiling beside the new decision.
    deciding = set()
    for symbol, decides in zip(belief.symbols, belief.deciding[0].tolist(), strict=True):
        if decides:
            deciding.add(symbol)
    reductions = []
    for order in account.open_orders:
        if order.symbol not in deciding or strategy_of(order.client_order_id) != strategy:
            continue
        held = account.positions.get(order.symbol, _NOTHING)
        if held * order.signed_qty < 0:
            reductions.append(order)
    return tuple(reductions)


def replaced_orders(
    strategy: str, account: Account, choices: Sequence[Choice]
) -> tuple[Order, ...]:
    """The strategy's own open orders that a new order of their symbol takes the place of."""
    # The venue refuses a new order that the account's own open one would trade with, as a wash
    # trade. What is left of an open reduction becomes part of the new order instead of a second one
    # for the same position.
    changes = {choice.symbol: choice.qty for choice in choices if choice.qty}
    reductions = account.open_reductions
    replaced = []
    for order in account.open_orders:
        if order.symbol not in changes or strategy_of(order.client_order_id) != strategy:
            continue
        opposite = order.signed_qty * changes[order.symbol] < 0
        if opposite or order.symbol in reductions:
            replaced.append(order)
    return tuple(replaced)


def ordered_without(
    choices: Sequence[Choice], account: Account, replaced: Sequence[Order]
) -> tuple[Choice, ...]:
    """The choices of the same targets, ordered from what is held and open without these orders."""
    before = account.exposure
    after = account.without(replaced).exposure
    changed = []
    for choice in choices:
        freed = before.get(choice.symbol, _NOTHING) - after.get(choice.symbol, _NOTHING)
        changed.append(choice._replace(qty=choice.qty + freed) if freed else choice)
    return tuple(changed)
