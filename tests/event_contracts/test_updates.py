"""One update of a market waits, the newest; what is dropped is counted, and nothing comes twice."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.action_log import order_name
from event_contracts.trading.breaker import Breaker, BreakerSettings
from event_contracts.trading.records import TICK
from event_contracts.trading.updates import HISTORY, MarketSpan, MarketUpdate, UpdateQueue
from foundation.errors import InputError

T0 = np.datetime64("2026-11-22T10:00:00", "ns")
MINUTE = np.timedelta64(1, "m")
TICK_RECORD = np.zeros(1, TICK)[0]


def update(market: str, minute: int) -> MarketUpdate:
    return MarketUpdate(market, T0 + minute * MINUTE, TICK_RECORD)


# "+A": an update of market A is offered; "-": the next market is taken.
moves = st.lists(st.sampled_from(["+A", "+B", "+C", "+D", "-"]), max_size=60)


@given(moves, st.integers(1, 4))
def test_every_update_is_decided_on_once_or_counted_as_dropped(
    order: list[str], capacity: int
) -> None:
    queue = UpdateQueue(capacity)
    offered = decided = 0
    last: dict[str, np.datetime64] = {}
    for minute, move in enumerate([*order, *["-"] * 4]):
        if move != "-":
            offered += 1
            queue.put(update(move[1], minute))
            continue
        ticks = queue.take()
        if ticks:
            decided += 1
            times = [each.at for each in ticks]
            assert len({each.market for each in ticks}) == 1
            assert times == sorted(times)
            assert len(ticks) <= HISTORY
            market = ticks[0].market
            assert market not in last or times[0] > last[market]
            last[market] = times[-1]
    assert queue.take() == ()
    assert decided + queue.dropped == offered


def test_the_newest_tick_is_last_and_keeps_its_markets_place() -> None:
    queue = UpdateQueue(2)
    for market, minute in (("A", 0), ("B", 1), ("A", 2)):
        queue.put(update(market, minute))
    assert [each.at for each in queue.take()] == [T0, T0 + 2 * MINUTE]
    assert queue.dropped == 1
    queue.put(update("C", 3))
    queue.put(update("D", 4))
    assert queue.dropped == 2  # B has waited longest
    assert [queue.take()[0].market for _ in range(2)] == ["C", "D"]


def test_who_waits_is_woken_by_an_update_and_by_the_end() -> None:
    queue = UpdateQueue(1)
    taken: list[int] = []

    def work() -> None:
        while not queue.has_ended:
            taken.append(len(queue.take(None)))

    thread = threading.Thread(target=work)
    thread.start()
    queue.put(update("A", 0))
    queue.end()
    thread.join(10)
    assert not thread.is_alive()
    assert sum(taken) == 1


def test_a_span_says_which_row_an_instant_shows() -> None:
    span = MarketSpan(T0, MINUTE, 5)
    minutes = (-1, 0, 1, 4)
    assert [span.row(T0 + k * MINUTE) for k in minutes] == list(minutes)
    assert span.row(T0 + np.timedelta64(119, "s")) == 1
    for interval, rows in ((np.timedelta64(0, "s"), 5), (MINUTE, 1)):
        with pytest.raises(InputError, match="span: "):
            MarketSpan(T0, interval, rows)
    with pytest.raises(InputError, match="capacity: 0 is below 1"):
        UpdateQueue(0)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4))
def test_a_breaker_lets_one_try_through_after_each_rest(works: list[bool], most: int) -> None:
    breaker = Breaker(BreakerSettings(failures=most, rest=150.0))
    in_a_row = 0
    rests_until = -1
    for minute, good in enumerate(works):
        at = T0 + minute * MINUTE
        assert bool(breaker.refusal(at)) == (minute < rests_until)
        if breaker.refusal(at):
            continue
        breaker.decide(at)
        if good:
            breaker.succeed()
            in_a_row = 0
            continue
        in_a_row += 1
        assert breaker.fail(at) == (in_a_row >= most)
        if in_a_row >= most:
            rests_until = minute + 3  # 150 seconds of one tick a minute


names = st.tuples(
    st.sampled_from(["one", "two"]),
    st.sampled_from(["RAIN", "SNOW"]),
    st.integers(0, 3).map(lambda minute: T0 + minute * MINUTE),
    st.integers(0, 24),
)


@given(names, names)
def test_an_intention_has_one_name_and_no_other_has_it(
    one: tuple[str, str, np.datetime64, int], other: tuple[str, str, np.datetime64, int]
) -> None:
    assert (order_name(*one) == order_name(*other)) == (one == other)
