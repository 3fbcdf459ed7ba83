"""What is seen of a market, sampled at equal steps, and what one estimates of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.actions import POSITION_SIZES, LimitOrderActionSpace, PriceStyle
from event_contracts.trading.actor import MarketHistory
from event_contracts.trading.listings import MarketListing
from event_contracts.trading.observation import FEATURES
from event_contracts.trading.orders import ContractQuote, MarketView
from event_contracts.trading.records import (
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    TICK_DTYPE,
    Record,
    SamplingSchedule,
)
from event_contracts.trading.sampler import (
    ESTIMATES_ALERT_KIND,
    EstimateFile,
    read_estimates,
    tick_from_listing,
)
from foundation.errors import InputError, InvalidResponse
from foundation.notifier import Notifier
from tests.event_contracts.trading import view, views, waiting
from tests.support.alerts import Alerts
from tests.support.messages import refused

D = Decimal
T0 = np.datetime64("2026-11-22T10:00:00", "ns")
MINUTE = np.timedelta64(1, "m")
QUOTED = ContractQuote(D("0.40"), D("0.42"))


def tick(bid: int, ask: int, sold: int = 0, bought: int = 0) -> Record:
    return np.array([(bid, ask, 50, 60, sold, bought, (bid + ask) / 20_000)], TICK_DTYPE)[0]


def memory(space: LimitOrderActionSpace | None = None) -> MarketHistory:
    schedule = SamplingSchedule(T0, MINUTE, 31)
    return MarketHistory(schedule, space or LimitOrderActionSpace(), 1000 * MICROS_PER_DOLLAR)


def shown(memory: MarketHistory, account: MarketView) -> dict[str, float]:
    return dict(zip(FEATURES, memory.build_observation(account).features.tolist(), strict=True))


@given(views(), st.sampled_from(["passive", "mid", "aggressive"]))
def test_observation_masks_match_the_live_action_masks(
    before: MarketView, style: PriceStyle
) -> None:
    space = LimitOrderActionSpace(price_style=style)
    looks = memory(space)
    bid, ask = (int(10_000 * price) for price in (before.quote.yes_bid, before.quote.yes_ask))
    looks.add_tick(T0, tick(bid, ask))
    assert (
        looks.build_observation(before).allowed_actions.tolist()
        == space.action_masks(before).tolist()
    )


@given(st.sets(st.integers(0, 29), min_size=1), st.integers(0, 2**31))
def test_missed_tick_repeats_last_quote_with_zero_trades(rows: set[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps, none = memory(), memory()
    last = None
    for row in range(max(rows) + 1):
        if row in rows:
            bid = int(rng.integers(1, 90)) * 100
            last = tick(bid, bid + 200, int(rng.integers(50)), int(rng.integers(50)))
            assert gaps.add_tick(T0 + row * MINUTE, last)
        quote = last if last is not None else tick(5000, 5200)
        none.add_tick(T0 + row * MINUTE, quote if row in rows else tick(quote["bid"], quote["ask"]))
    # Before the first one there is no quote: its own stands for them.
    if 0 in rows:
        assert shown(gaps, view()) == shown(none, view())
    assert not gaps.is_newer_tick(T0 + max(rows) * MINUTE)
    assert not gaps.is_newer_tick(T0 + 31 * MINUTE)
    assert gaps.is_newer_tick(T0 + 30 * MINUTE)
    assert not gaps.add_tick(T0 + 30 * MINUTE, tick(9900, 10_000))


def test_order_size_feature_shows_the_previous_ticks_order() -> None:
    seen = memory()
    seen.add_tick(T0, tick(4000, 4200))
    seen.record_order_size(0, 20)
    for row, size in ((1, 0.2), (2, 0.0)):
        seen.add_tick(T0 + row * MINUTE, tick(4000, 4200))
        features = shown(seen, view())
        assert features["size"] == pytest.approx(size)
        assert features["mean_size"] == pytest.approx(0.2)


def test_observation_rounds_positions_down_and_resting_orders_up() -> None:
    """With more orders than the environment can represent only HOLD is allowed."""
    seen = memory()
    seen.add_tick(T0, tick(4000, 4200))
    account = replace(
        view(), position=D("12.75"), resting_orders=(waiting("SELL", "YES", "0.40", "1.25"),)
    )
    features = shown(seen, account)
    assert features["position"] == pytest.approx(12 / 500)
    assert features["offers"] == pytest.approx(2 / 500)
    assert [seen.build_observation(account).allowed_actions[code] for code in (6, 7, 8)] == [
        True,
        True,
        False,
    ]
    many = view(resting=[waiting("BUY", "YES", "0.40", 1)] * (MAX_RESTING_ORDERS + 1))
    assert np.flatnonzero(seen.build_observation(many).allowed_actions).tolist() == [0]
    assert shown(seen, many)["bids"] == pytest.approx(9 / 500)


def test_each_resting_purchase_reserves_cash_once() -> None:
    """A purchase of 100 at $0.40 leaves $58.31 of $100, of which $50 are the buffer: 10 at $0.42
    are affordable, 20 are not.
    """
    seen = memory()
    seen.add_tick(T0, tick(4000, 4200))
    here = waiting("BUY", "NO", "0.40", 100)
    there = waiting("BUY", "YES", "0.40", 100, "SNOW")
    sale = waiting("SELL", "NO", "0.40", 5, "SNOW")
    for orders, largest in (((here,), 10), ((there, sale), 10), ((here, there), 0)):
        allowed = seen.build_observation(view("100", quote=QUOTED, resting=orders)).allowed_actions
        sizes = [size for k, size in enumerate(POSITION_SIZES) if allowed[1 + k]]
        assert max(sizes, default=0) == largest


def test_market_sample_uses_quote_until_result_is_known() -> None:
    entry = {
        "ticker": "RAIN",
        "status": "active",
        "close_time": "2026-11-22T12:00:00Z",
        "price_ranges": [{"start": "0", "end": "1", "step": "0.01"}],
        "yes_bid_dollars": "0.4000",
        "yes_ask_dollars": "0.0000",
        "yes_bid_size_fp": "12.75",
        "yes_ask_size_fp": "0.00",
    }
    for said, trades, settled, bid, ask in (
        ({}, True, False, 4000, 10_000),
        ({"status": "closed"}, False, False, 4000, 10_000),
        ({"status": "finalized", "result": "yes"}, False, True, 9900, 10_000),
        ({"status": "finalized", "result": "no"}, False, True, 0, 100),
    ):
        listed = MarketListing.parse({**entry, **said})
        assert (listed.is_trading, listed.is_settled) == (trades, settled)
        assert (tick_from_listing(listed)["bid"], tick_from_listing(listed)["ask"]) == (bid, ask)
    open_now = MarketListing.parse(entry)
    assert tick_from_listing(open_now).tolist() == (4000, 10_000, 12, 0, 0, 0, 0.7)
    assert open_now.close_time == np.datetime64("2026-11-22T12:00:00", "ns")
    with refused(InvalidResponse, "close_time"):
        MarketListing.parse({**entry, "close_time": None})


NOON = np.datetime64("2026-11-24T12:00", "ns")
ROW = "RAIN,0.62,2026-11-24T12:00:00Z"


def written(path: Path, *rows: str, header: str = "market,probability,until") -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


@given(
    st.dictionaries(
        st.text("ABC-19", min_size=1, max_size=8),
        st.tuples(st.floats(0, 1), st.integers(-100, 100)),
        max_size=5,
    ),
    st.permutations(("market", "probability", "until")),
)
def test_estimate_is_used_until_its_expiry_time(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, tuple[float, int]], columns: list[str]
) -> None:
    rows = []
    for market, (probability, minutes) in said.items():
        values = {"market": market, "probability": repr(probability)}
        values["until"] = f"{np.datetime_as_string(NOON + minutes * MINUTE, 's')}Z"
        rows.append(",".join(values[name] for name in columns))
    path = written(tmp_path_factory.mktemp("own") / "own.csv", *rows, header=",".join(columns))
    counting = {market: p for market, (p, minutes) in said.items() if minutes > 0}
    assert EstimateFile(path, Notifier(None, None)).estimates_at(NOON) == counting


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("market,probability\nRAIN,0.5\n", ()),
        (f"market,probability,until\n{ROW}\n{ROW}\n", ("line 3", "market 'RAIN'")),
        (
            "market,probability,until\nRAIN,1.2,2026-11-24T12:00Z\n",
            ("line 2", "probability", "1.2"),
        ),
        ("market,probability,until\nRAIN,0.5,2026-11-24T12:00\n", ("line 2",)),
        ("market,probability,until\nRAIN,0.5\n", ("line 2",)),
    ],
)
def test_invalid_estimate_file_is_refused_naming_the_line(
    tmp_path: Path, text: str, facts: tuple[str, ...]
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with refused(InputError, "own.csv", *facts) as caught:
        read_estimates(path)
    assert "\n" not in str(caught.value)


def test_unreadable_estimate_file_keeps_last_estimates_and_alerts(tmp_path: Path) -> None:
    alerts, notices = Alerts(), Notifier(None, None)
    notices.add_recorder(alerts)
    path = written(tmp_path / "own.csv", ROW)
    own = EstimateFile(path, notices)
    path.write_text("market,proba")
    assert own.estimates_at(NOON - MINUTE) == {"RAIN": 0.62}
    path.unlink()
    assert own.estimates_at(NOON) == {}
    written(path, "RAIN,0.4,2026-11-24T13:00:00Z")
    assert own.estimates_at(NOON) == {"RAIN": 0.4}
    assert alerts.kinds == [ESTIMATES_ALERT_KIND]
    path.unlink()
    own.estimates_at(NOON)
    assert alerts.kinds == [ESTIMATES_ALERT_KIND, ESTIMATES_ALERT_KIND]
