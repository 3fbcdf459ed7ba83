"""The service sees what the environment shows, does the same, and sends nothing twice."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import MarketAgnosticKalshiEnv, SyntheticSessionModel
from event_contracts.simulation.exchange import Exchange, SimulatedListing, SimulatedOrderManager
from event_contracts.simulation.sessions import session_to_tick_records
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.policies import ActionCodes, Observations, Policy, RandomPolicy
from event_contracts.trading.records import MAX_RESTING_ORDERS
from event_contracts.trading.venue_orders import to_contract_order
from execution.orders.gate import AllowAllGate, AnyOrder, OrderRole
from foundation.arrays import Mask
from tests.e2e.kalshi_desk import RAIN, Always
from tests.event_contracts.exact_account import as_fill
from tests.event_contracts.trading import journal, service_of, step

D = Decimal
SHORT = SyntheticSessionModel(steps=15)
seeds = st.integers(0, 2**31)
styles = st.sampled_from(["passive", "mid", "aggressive"])
cash_amounts = st.sampled_from([1000.0, 300.0, 60.0, 20_000.0])


@dataclass
class Watched:
    """A policy, and what it was shown."""

    policy: Policy
    name: str = "watched"
    shown: list[tuple[list[float], list[bool]]] = field(default_factory=list)

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        self.shown.append((observations[0].tolist(), allowed[0].tolist()))
        return self.policy.choose_actions(observations, allowed)


@settings(max_examples=6)
@given(seeds, styles, cash_amounts, st.booleans())
def test_live_service_matches_environment_observations_and_fills(
    seed: int, style: str, cash: float, again: bool
) -> None:
    """Action masks use the account in USD, and every fill agrees to the last digit. One service
    runs throughout, or a new one starts from the same journal at every tick.
    """
    session = synthetic_session(seed, SHORT)
    env = MarketAgnosticKalshiEnv(session, price_style=style, starting_cash=cash)
    exchange = Exchange([SimulatedListing(RAIN, session_to_tick_records(session))], env.settings)
    log, book = journal()
    manager = SimulatedOrderManager(exchange, book)
    watched = Watched(RandomPolicy(seed))
    service = service_of(manager, exchange, watched, log)
    policy = RandomPolicy(seed)
    observation, info = env.reset(seed=0)
    seen = 0
    done = False
    while not done:
        allowed = env.action_masks()
        view = manager.view(RAIN)
        assert (view.cash, view.yes_count, view.no_count) == (
            D(repr(info["cash"])),
            info["yes"],
            info["no"],
        )
        if len(view.resting_orders) < MAX_RESTING_ORDERS:
            assert np.array_equal(env.space.action_masks(view), allowed)
        if again:
            service = service_of(manager, exchange, watched, log)
        entry = step(service, exchange)
        assert watched.shown[-1] == (observation.tolist(), allowed.tolist())
        action = int(policy.choose_actions(observation[None], allowed[None])[0])
        observation, _, done, _, info = env.step(action)
        manager.advance()
        assert entry is not None
        assert (entry.action, entry.sent_count) == (action, info["last_order_size"])
        booked = exchange.fills[seen:]
        seen += len(booked)
        told = [as_fill(each) for each in info["fills"]]
        assert [replace(each, exchange_tick=0) for each in booked] == told
    assert exchange.is_over
    assert exchange.cash == D(repr(info["cash"]))
    assert len(log.read_entries(RAIN)) == len(session) - 1
    assert not service.skipped_tick_counts
    fates = {placed.order.client_order_id: placed for placed in exchange.orders.values()}
    for entry in log.read_entries(RAIN):
        intent = book.get(entry.client_order_id)
        assert (intent is not None) == bool(entry.sent_count)
        if intent is not None:
            assert intent.state in ("filled", "canceled")
            assert intent.progress.filled == fates[entry.client_order_id].filled_count
            counts = re.findall(r"(\d+) (?:filled|rest|cancelled)", entry.response)
            assert sum(map(int, counts)) == entry.sent_count, entry.response


def exchange_of() -> Exchange:
    return Exchange([SimulatedListing(RAIN, session_to_tick_records(synthetic_session(3, SHORT)))])


class Killed(AllowAllGate):
    """A gate that denies everything."""

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        return "KILL is there"


def test_denied_order_is_recorded_without_failure() -> None:
    exchange = exchange_of()
    log, book = journal()
    manager = SimulatedOrderManager(exchange, book, Killed())
    service = service_of(manager, exchange, Always(1), log)
    entry = step(service, exchange)
    assert entry is not None
    assert entry.response.endswith("not sent: KILL is there")
    assert entry.sent_count == 0
    assert not exchange.orders
    assert {intent.state for intent in book.select_intents("1 = 1")} == {"denied"}
    assert not service.skipped_tick_counts


def test_journal_records_observation_decision_and_order_response() -> None:
    exchange = exchange_of()
    log, book = journal()
    manager = SimulatedOrderManager(exchange, book)
    service = service_of(manager, exchange, Always(1), log)
    entry = step(service, exchange)
    assert entry is not None
    quote = exchange.quote(RAIN)
    assert (entry.intent, entry.size, entry.price) == ("BUY_YES", 5, quote.yes_ask)
    assert entry.reason == "always: BUY 5 YES"
    assert (entry.cash, entry.equity) == (D(1000), D(1000))
    assert len(entry.observation_digest) == 64
    assert entry.response == "accepted RAIN-0: 5 filled, 0 resting"
    assert log.read_entries() == [entry]
    [tick] = log.read_ticks(RAIN)
    assert (tick.at, tick.tick) == (exchange.now, exchange.current_tick(RAIN))
    intent = book.get(entry.client_order_id)
    assert intent is not None
    assert (intent.job, intent.state, intent.role) == ("kalshi", "filled", "opening")
    assert to_contract_order(intent).count == 5
    assert list(log.read_schedules()) == [RAIN]
