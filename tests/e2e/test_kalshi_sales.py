"""What is held can be sold at the venue, and no sale turns a position, whatever goes wrong."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from event_contracts import SyntheticMarket
from event_contracts.trading.actions import ACTIONS, INTENTS, LimitOrderActionSpace, PriceStyle
from event_contracts.trading.records import SLOTS
from event_contracts.trading.venue_orders import order_of
from execution.journal.order_store import STATES, OrderStore
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from tests.e2e.kalshi_desk import POST, RAIN, UNLIMITED, KalshiStand, flat, kalshi_stand, order

D = Decimal
MARKET = "SIM-1"
LATER = np.datetime64("2100-01-01", "ns")
MIXED: dict[str, PriceStyle] = dict(
    zip(INTENTS[1:], ("aggressive", "passive", "aggressive", "mid"), strict=True)
)
TICKS = 20
FAULTS = ("late", "drop_after", "partial", "reject", "reject_later", "trading_is_paused")


def space_of(style: Any) -> LimitOrderActionSpace:
    admission = UNLIMITED
    return LimitOrderActionSpace(
        price_style=style, limits=admission.limits, cash_buffer=float(admission.cash_buffer)
    )


@pytest.mark.parametrize(
    ("style", "rests"), [("aggressive", False), ("passive", True), ("mid", True)]
)
@pytest.mark.parametrize(("side", "buy", "sell"), [("YES", 2, 7), ("NO", 12, 17)])
def test_position_can_be_sold_with_every_style(
    style: str, rests: bool, side: str, buy: int, sell: int
) -> None:
    session = flat(40, 0.48, 0.52)
    with kalshi_stand(sessions={RAIN: session}, life=20) as stand:
        manager = stand.manager()
        held = space_of("aggressive").order(buy, manager.view(RAIN), "buy")
        assert held is not None
        manager.submit(held)
        stand.practice.advance()
        assert manager.view(RAIN).held(side) == 10  # type: ignore[arg-type]
        sale = space_of(style).order(sell, manager.view(RAIN), "sell")
        assert sale is not None
        receipt = manager.submit(sale)
        body = stand.practice.posts()[-1]
        assert body["time_in_force"] == sale.time_in_force
        if rests:
            assert (receipt.filled, receipt.remaining) == (0, 10)
            assert not body["reduce_only"]
            assert "expiration_time" in body
            [waiting] = manager.view(RAIN).resting
            assert (waiting.order.action, waiting.remaining) == ("SELL", 10)
        else:
            assert (receipt.filled, receipt.remaining) == (10, 0)
            assert body["reduce_only"]
            assert "expiration_time" not in body
            assert manager.view(RAIN).position == 0
            assert stand.state("sell") == "filled"


def test_resting_sale_becomes_the_same_money_as_an_immediate_one() -> None:
    """Ten YES sold at 0.48: the book of YES is one, whatever the order is called."""
    cash = []
    for force in ("immediate_or_cancel", "good_till_canceled"):
        with kalshi_stand(sessions={RAIN: flat(20)}, life=20) as stand:
            manager = stand.manager()
            manager.submit(order("buy", "0.50", market=RAIN))
            stand.practice.advance()
            sale = order("sell", "0.48", 10, "SELL", market=RAIN)
            manager.submit(replace(sale, time_in_force=force))  # type: ignore[arg-type]
            stand.practice.advance()
            assert manager.view(RAIN).position == 0
            assert manager.reading().differences == ()
            cash.append(stand.practice.exchange.cash)
    assert cash[0] == cash[1]


def test_sale_counts_what_rests_what_is_unknown_and_what_is_held() -> None:
    with kalshi_stand(sessions={RAIN: flat(20)}, life=20) as stand:
        manager = stand.manager()
        manager.submit(order("buy", "0.50", 20, market=RAIN))
        stand.practice.advance()
        manager.submit(order("rests", "0.60", 5, "SELL", market=RAIN))
        manager.submit(order("against", "0.30", 3, side="NO", market=RAIN))
        stand.lose(manager, order("unknown", "0.60", 4, "SELL", market=RAIN))
        for each in (manager, stand.manager()):
            with pytest.raises(OrderRejected, match="20.* held, 9.* in resting sales, 3.* in rest"):
                each.submit(order("more", "0.60", 9, "SELL", market=RAIN))
            with pytest.raises(OrderRejected, match="buying 9 NO; 20"):
                each.submit(order("other", "0.50", 9, side="NO", market=RAIN))
        manager.submit(order("most", "0.60", 8, "SELL", market=RAIN))


def turned_sales(stand: KalshiStand) -> list[str]:
    """Sales of ours of which a fill left a position on the other side."""
    exchange = stand.practice.exchange
    names = {number: each.client_order_id for number, each in exchange.orders.items()}
    sales = {
        each.client_order_id
        for each in OrderStore(stand.database).in_states(STATES)
        if order_of(each).action == "SELL"
    }
    held: Counter[str] = Counter()
    turned = []
    for fill in exchange.fills:
        before = held[fill.market]
        buys_yes = (fill.action == "BUY") == (fill.side == "YES")
        held[fill.market] += int(fill.count if buys_yes else -fill.count)
        if before * held[fill.market] < 0 and names[fill.order_id] in sales:
            turned.append(names[fill.order_id])
    return turned


@pytest.mark.parametrize("style", ["passive", "mid", "aggressive", MIXED])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_no_sale_turns_a_position_whatever_goes_wrong(seed: int, style: Any) -> None:
    """Kills, parts, lost answers and pauses; and the venue refuses no order that it gets."""
    rng = np.random.default_rng(seed)
    eager = SyntheticMarket(steps=60, depth=30, noise=1.0)
    space = space_of(style)
    with kalshi_stand(synthetic=1, seed=seed, market=eager, life=6, interval=1) as stand:
        manager = stand.manager()
        sales = 0
        for side in ("YES", "NO"):
            manager.submit(order(f"first {side}", "0.90", 40, side=side))
            stand.practice.advance()
        for tick in range(TICKS):
            if rng.random() < 0.2:
                manager = stand.manager()  # the process was killed; the journal is what it knows
            if rng.random() < 0.25:
                kind = FAULTS[int(rng.integers(len(FAULTS)))]
                stand.practice.fault(kind, method="POST", path=POST, seconds=3600)
            for k in range(2):
                view = manager.view(MARKET)
                masks = space.action_masks(view)
                codes = [c for c in range(1, ACTIONS) if masks[c]]
                if not codes or len(view.resting) == SLOTS:
                    continue
                sells = [c for c in codes if INTENTS[(c - 1) // 5 + 1].startswith("SELL")]
                chosen = int(rng.choice(sells if sells and rng.random() < 0.5 else codes))
                wanted = space.order(chosen, view, f"{tick}-{k}")
                assert wanted is not None
                sales += wanted.action == "SELL"
                with suppress(OrderRejected, OutcomeUnknown):
                    manager.submit(wanted)
            if rng.random() < 0.3:
                stand.practice.land()
            if rng.random() < 0.3:
                with suppress(BrokerError):
                    manager.withdraw(MARKET, LATER)
            stand.practice.advance()
            assert turned_sales(stand) == []
        assert sales > 3
        refused = [
            each.why
            for each in OrderStore(stand.database).in_states(("rejected",))
            if "on demand" not in each.why
        ]
        assert refused == []
