"""Positions can be sold at the venue, and no sale turns a position, under any fault."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from event_contracts import MarketAgnosticKalshiEnv, SyntheticSessionModel
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.actions import ACTION_COUNT, INTENTS, LimitOrderActionSpace, PriceStyle
from event_contracts.trading.actor import ActorService
from event_contracts.trading.policies import RandomPolicy
from event_contracts.trading.records import MAX_RESTING_ORDERS, MarketUpdate, SamplingSchedule
from execution.journal.order_store import ORDER_STATES, OrderStore
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from foundation.notifier import Notifier
from tests.e2e.kalshi_desk import POST, RAIN, UNLIMITED, flat, kalshi_stand, order, turned_sales
from tests.event_contracts.trading import journal
from tests.support.messages import refused

D = Decimal
MARKET = "SIM-1"
LATER = np.datetime64("2100-01-01", "ns")
MIXED: dict[str, PriceStyle] = dict(
    zip(INTENTS[1:], ("passive", "aggressive", "mid", "passive"), strict=True)
)
TICKS = 20
FAULTS = ("late", "drop_after", "partial", "reject", "reject_later", "trading_is_paused")


def space_of(style: Any) -> LimitOrderActionSpace:
    admission = UNLIMITED
    return LimitOrderActionSpace(
        price_style=style,
        limits=admission.position_limits,
        cash_buffer=float(admission.cash_buffer),
    )


@pytest.mark.parametrize(
    ("style", "rests"), [("aggressive", False), ("passive", True), ("mid", True)]
)
@pytest.mark.parametrize(("side", "buy", "sell"), [("YES", 2, 7), ("NO", 12, 17)])
def test_position_can_be_sold_at_every_price_style(
    style: str, rests: bool, side: str, buy: int, sell: int
) -> None:
    session = flat(40, 0.48, 0.52)
    with kalshi_stand(sessions={RAIN: session}, life=20) as stand:
        manager = stand.manager()
        held = space_of("aggressive").build_order(buy, manager.view(RAIN), "buy")
        assert held is not None
        manager.submit(held)
        stand.practice.advance()
        assert manager.view(RAIN).held_count(side) == 10  # type: ignore[arg-type]
        sale = space_of(style).build_order(sell, manager.view(RAIN), "sell")
        assert sale is not None
        receipt = manager.submit(sale)
        body = stand.practice.posts()[-1]
        assert body["time_in_force"] == sale.time_in_force
        if rests:
            assert (receipt.filled_count, receipt.remaining_count) == (0, 10)
            assert not body["reduce_only"]
            assert "expiration_time" in body
            [waiting] = manager.view(RAIN).resting_orders
            assert (waiting.order.action, waiting.remaining_count) == ("SELL", 10)
        else:
            assert (receipt.filled_count, receipt.remaining_count) == (10, 0)
            assert body["reduce_only"]
            assert "expiration_time" not in body
            assert manager.view(RAIN).position == 0
            assert stand.state("sell") == "filled"


def test_unfilled_fill_or_kill_order_counts_as_rejected() -> None:
    with kalshi_stand(sessions={RAIN: flat(20)}) as stand:
        wanted = replace(order("o-1", "0.50", 31, market=RAIN), time_in_force="fill_or_kill")
        with refused(OrderRejected, "409", "fill_or_kill_insufficient_resting_volume"):
            stand.manager().submit(wanted)
        assert (stand.state("o-1"), stand.orders()) == ("rejected", {})


def test_sale_is_capped_at_holdings_less_open_sales() -> None:
    with kalshi_stand(sessions={RAIN: flat(20)}, life=20) as stand:
        manager = stand.manager()
        manager.submit(order("buy", "0.50", 20, market=RAIN))
        stand.practice.advance()
        manager.submit(order("rests", "0.60", 5, "SELL", market=RAIN))
        manager.submit(order("against", "0.30", 3, side="NO", market=RAIN))
        stand.lose(manager, order("o-4", "0.60", 4, "SELL", market=RAIN))
        for each in (manager, stand.manager()):
            with refused(OrderRejected, "20", "9", "3"):
                each.submit(order("o-5", "0.60", 9, "SELL", market=RAIN))
            with refused(OrderRejected, "9", "20"):
                each.submit(order("o-6", "0.50", 9, side="NO", market=RAIN))
        manager.submit(order("most", "0.60", 8, "SELL", market=RAIN))


@pytest.mark.first_example
@pytest.mark.parametrize("style", ["passive", "aggressive", MIXED])
def test_live_account_matches_training_environment_to_the_cent(style: Any) -> None:
    """The same policy runs over HTTP and in the environment: every action and the final cash agree.
    Sizes are so small that no limit cuts a fill, which only the environment could do.
    """
    session = synthetic_session(5, SyntheticSessionModel(steps=25, depth=60, noise_order_rate=1.0))
    env = MarketAgnosticKalshiEnv(session, price_style=style, position_sizes=(1, 2, 3, 4, 5))
    observation, info = env.reset(seed=0)
    policy = RandomPolicy(5)
    with kalshi_stand(sessions={RAIN: session}, life=1_000_000) as stand:
        exchange, minute = stand.practice.exchange, np.timedelta64(60, "s")
        log, _ = journal(stand.database)
        service = ActorService(
            "account",
            stand.manager(env.space.pre_trade_check, job=log.job),
            env.space,
            RandomPolicy(5),
            log,
            Notifier(None, None),
            clock=stand.clock,
        )
        service.follow_market(RAIN, SamplingSchedule(exchange.now, minute, len(session)))
        done = False
        while not done:
            allowed = env.action_masks()
            action = int(policy.choose_actions(observation[None], allowed[None])[0])
            entry = service.process_update(
                MarketUpdate(RAIN, exchange.now, exchange.current_tick(RAIN))
            )
            assert entry is not None
            assert entry.allowed_bits == sum(1 << int(code) for code in np.flatnonzero(allowed))
            assert not entry.response.startswith(("rejected", "unknown")), entry.response
            observation, _, done, _, info = env.step(action)
            assert (entry.action, entry.sent_count) == (action, info["last_order_size"])
            stand.practice.advance()
            stand.clock.ahead += minute
        assert exchange.cash == D(repr(info["cash"]))
        forces = {body["time_in_force"] for body in stand.practice.posts()}
        assert ("immediate_or_cancel" in forces) == (style != "passive")


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("seed", "style"), [*enumerate(("passive", "mid", "aggressive", MIXED, "passive", MIXED))]
)
def test_sales_never_flip_a_position_under_faults(seed: int, style: Any) -> None:
    """Faults are kills, partial fills, lost responses and pauses; the venue refuses no order that
    reaches it.
    """
    rng = np.random.default_rng(seed)
    eager = SyntheticSessionModel(steps=60, depth=80, noise_order_rate=1.0)
    space = space_of(style)
    with kalshi_stand(synthetic=1, seed=seed, market=eager, life=6, interval=1) as stand:
        manager = stand.manager()
        sales = 0
        manager.submit(order("first", "0.90", 40))
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
                codes = [c for c in range(1, ACTION_COUNT) if masks[c]]
                if not codes or len(view.resting_orders) == MAX_RESTING_ORDERS:
                    continue
                # Sales, and purchases of the other side, take from one position.
                taking = ("SELL_YES", "BUY_NO") if view.position > 0 else ("SELL_NO", "BUY_YES")
                takes = [c for c in codes if INTENTS[(c - 1) // 5 + 1] in taking]
                chosen = int(rng.choice(takes if takes and rng.random() < 0.8 else codes))
                wanted = space.build_order(chosen, view, f"{tick}-{k}")
                assert wanted is not None
                sales += wanted.action == "SELL"
                with suppress(OrderRejected, OutcomeUnknown):
                    manager.submit(wanted)
            if rng.random() < 0.3:
                stand.practice.land()
            if rng.random() < 0.3:
                with suppress(BrokerError):
                    manager.cancel_stale_orders(MARKET, LATER)
            stand.practice.advance()
            intents = OrderStore(stand.database).intents_in_states(ORDER_STATES)
            book = {each.client_order_id: each for each in intents}
            assert turned_sales(stand.practice.exchange, book) == []
        assert sales > 0
        refused = [
            each.state_reason
            for each in OrderStore(stand.database).intents_in_states(("rejected",))
            if "planned fault" not in each.state_reason
        ]
        assert refused == []
