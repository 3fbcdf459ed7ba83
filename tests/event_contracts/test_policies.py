"""Choices are allowed ones, and Kelly is the best of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from event_contracts.trading.actions import (
    LimitOrderActionSpace,
    PositionLimits,
    PriceStyle,
    decode_action,
)
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.observation import FEATURES
from event_contracts.trading.policies import BinaryKellyPolicy, Observations, RandomPolicy
from foundation.arrays import Mask

D = Decimal
CASH = 1000.0
FINE = (1, 2, 4, 8, 16)
# Nothing but the estimate binds.
LOOSE = LimitOrderActionSpace(
    position_sizes=FINE, limits=PositionLimits(D(100_000), D(1_000_000), D(1))
)
RATE = float(FeeRules().taker)


def seen_of(space: LimitOrderActionSpace = LOOSE, **values: float) -> Observations:
    """One market at 0.40 to 0.42, flat with $1,000; counts in contracts, cash in USD."""
    contracts = float(space.limits.contracts)
    row = {"bid": 0.40, "ask": 0.42, "estimate": 0.41, "cash": CASH, **values}
    seen = np.zeros((1, len(FEATURES)), np.float32)
    for name, value in row.items():
        unit = CASH if name == "cash" else contracts if name in COUNTS else 1.0
        seen[0, FEATURES.index(name)] = value / unit
    return seen


COUNTS = ("position", "bids", "offers")


EVERYTHING = np.arange(25)[None] < 21  # that is not a reserved code
masks = st.integers(1, 12).flatmap(
    lambda count: st.lists(
        st.lists(st.booleans(), min_size=20, max_size=20), min_size=count, max_size=count
    )
)


def mask_of(rows: list[list[bool]]) -> Mask:
    allowed = np.repeat(EVERYTHING, len(rows), axis=0)
    allowed[:, 1:21] = rows
    return allowed


@given(masks, st.integers(0, 2**40))
def test_random_policy_chooses_allowed_actions_independent_of_batch(
    rows: list[list[bool]], seed: int
) -> None:
    allowed = mask_of(rows)
    seen = np.zeros((len(rows), len(FEATURES)), np.float32)
    together, alone = RandomPolicy(seed), RandomPolicy(seed)
    for _ in range(3):
        codes = together.choose_actions(seen, allowed)
        assert allowed[np.arange(len(rows)), codes].all()
        assert alone.choose_actions(seen[:1], allowed[:1])[0] == codes[0]


@given(
    st.integers(1, 98),
    st.integers(1, 10),
    st.floats(0.02, 0.98),
    st.integers(0, 600),
    st.booleans(),
)
def test_kelly_position_maximises_growth_after_costs(
    bid: int, width: int, chance: float, held: int, mirrored: bool
) -> None:
    assume(bid + width <= 99)
    low, high = bid / 100, (bid + width) / 100
    cost = high + RATE * high * (1 - high)
    proceeds = low - RATE * low * (1 - low)
    changes = np.arange(-held, 20_000)
    prices = np.where(changes > 0, cost, proceeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = CASH - changes * prices
        ends = chance * np.log(left + held + changes) + (1 - chance) * np.log(left)
    best = int(changes[np.nanargmax(ends)])
    side = dict(bid=low, ask=high, estimate=chance, position=float(held))
    if mirrored:
        side = dict(bid=1 - high, ask=1 - low, estimate=1 - chance, position=-float(held))
    code = int(
        BinaryKellyPolicy(LOOSE, kelly_fraction=1.0).choose_actions(seen_of(**side), EVERYTHING)[0]
    )
    intent, index = decode_action(code)
    buys, sells = (3, 4) if mirrored else (1, 2)
    if intent in (buys, sells):
        size = FINE[index] if intent == buys else -FINE[index]
        # Beyond by no more than the rounding to whole contracts, and near by the table of sizes.
        assert abs(size) <= abs(best) + 1
        assert np.sign(size) == np.sign(best)
        assert index == 4 or FINE[index + 1] > abs(best) - 1
    else:
        # Without a position, a sale of this side becomes a purchase of the other.
        assert abs(best) <= 1 or (intent > 0 and best == -held)


@given(st.floats(0, 1), st.integers(-500, 500), st.floats(55, 3000), st.sampled_from([0.1, 0.5, 2]))
def test_kelly_respects_limits_including_resting_orders(
    chance: float, held: int, cash: float, fraction: float
) -> None:
    space = LimitOrderActionSpace()
    policy = BinaryKellyPolicy(space, kelly_fraction=fraction)
    row = dict(estimate=chance, position=float(held), cash=cash)
    code = int(policy.choose_actions(seen_of(space, **row), EVERYTHING)[0])
    intent, index = decode_action(code)
    size = D(space.position_sizes[index])
    if intent in (1, 3):
        price = D("0.42") if intent == 1 else D("0.60")
        signed = D(held) if intent == 1 else -D(held)
        money = D(str(cash)) + D("0.01")
        assert space.limits.validate_order(count=size, price=price, held=signed, cash=money) is None
        rested = seen_of(space, bids=1000.0, **row)
        assert policy.choose_actions(rested, EVERYTHING)[0] == 0
    elif intent:
        assert size <= abs(held)
        rested = seen_of(space, offers=float(abs(held)), **row)
        assert policy.choose_actions(rested, EVERYTHING)[0] == 0


@given(masks, st.floats(0, 1), st.integers(-500, 500), st.integers(0, 100), st.integers(0, 100))
def test_kelly_policy_chooses_only_allowed_actions(
    rows: list[list[bool]], chance: float, held: int, bid: int, ask: int
) -> None:
    allowed = mask_of(rows)
    quote = dict(bid=min(bid, ask) / 100, ask=max(bid, ask) / 100)
    seen = np.repeat(seen_of(estimate=chance, position=float(held), **quote), len(rows), axis=0)
    for style in ("aggressive", "mid", "passive"):
        space = LimitOrderActionSpace(price_style=style)  # type: ignore[arg-type]
        codes = BinaryKellyPolicy(space).choose_actions(seen, allowed)
        assert allowed[np.arange(len(rows)), codes].all()


def chosen(policy: BinaryKellyPolicy, allowed: Mask | None = None, **row: float) -> int:
    seen = seen_of(policy.action_space, **row)
    return int(policy.choose_actions(seen, EVERYTHING if allowed is None else allowed)[0])


@pytest.mark.parametrize(
    ("style", "estimate", "intents"),
    [
        # Costs of YES: 0.40 + 0.0042, 0.41 + 0.0042 and 0.42 + 0.0171. A purchase of NO at 0.58
        # may be worth it where one of YES at 0.40 is not; of two, the better one is bought.
        *(("passive", 0.404, (0, 3)), ("passive", 0.412, (1,))),
        *(("passive", 0.4142, (1,)), ("passive", 0.406, (3,))),
        *(("mid", 0.414, (0,)), ("mid", 0.415, (1,))),
        *(("aggressive", 0.437, (0,)), ("aggressive", 0.438, (1,))),
    ],
)
def test_kelly_policy_decision_depends_on_the_price_style(
    style: PriceStyle, estimate: float, intents: tuple[int, ...]
) -> None:
    policy = BinaryKellyPolicy(replace(LOOSE, price_style=style))
    assert decode_action(chosen(policy, estimate=estimate))[0] in intents


@given(st.floats(0.4372, 0.445), st.floats(0.05, 1.0))
def test_kelly_policy_scales_purchases_by_the_configured_fraction(
    chance: float, fraction: float
) -> None:
    cost = 0.42 + RATE * 0.42 * 0.58
    share = fraction * (chance - cost) / (1 - cost) * CASH / cost
    intent, index = decode_action(
        chosen(BinaryKellyPolicy(LOOSE, kelly_fraction=fraction), estimate=chance)
    )
    sizes = (0, *FINE, np.inf)
    place = index + 1 if intent else 0
    assert intent in (0, 1)
    assert sizes[place] <= share + 0.01
    assert sizes[place + 1] > share - 1.01


def test_kelly_policy_does_not_trade_without_a_quote() -> None:
    for bid, ask, estimate in (
        *((0.0, 1.0, chance) for chance in (0.0, 0.5)),
        *((0.0, 0.01, chance) for chance in (0.0, 0.5)),
        (0.99, 1.0, 0.5),
    ):
        row = dict(estimate=estimate, position=30.0, bid=bid, ask=ask)
        intent, _ = decode_action(chosen(BinaryKellyPolicy(LOOSE), **row))
        assert intent not in ((2, 3) if bid == 0.0 else (1, 4))
