"""An answer without a field is the same account, or quarantines one market by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from event_contracts.trading.endpoint import KalshiConnection
from event_contracts.trading.fees import KalshiFees
from event_contracts.trading.listings import MarketFees, QuarantinedMarket, read_market_listings
from event_contracts.trading.manager import KalshiSnapshot
from event_contracts.trading.sampler import MarketSampler
from foundation.errors import InputError
from tests.e2e.kalshi_desk import KalshiStand, flat, kalshi_stand, order
from tests.event_contracts.changed_rows import REMOVED, changed_rows, with_fields
from tests.event_contracts.practice import CREATE, KEYS, body_of, buying
from tests.support.messages import refused

D = Decimal
RAIN, SNOW, WIND = "RAIN", "SNOW", "WIND"
LATER = np.datetime64("2100-01-01", "ns")
NOTHING_LOST = [  # list, and fields whose absence changes nothing
    ("/portfolio/balance", ["balance_dollars"]),
    ("/portfolio/balance", ["balance_breakdown"]),
    ("/portfolio/positions", ["cursor"]),
    *(
        ("/portfolio/fills", names)
        for names in (
            *(["fill_id"], ["trade_id"], ["ticker"], ["market_ticker"], ["book_side"]),
            *(["outcome_side"], ["yes_price_dollars"], ["no_price_dollars"], ["is_taker"]),
            *(["created_time"], ["ts"], ["created_time", "ts"], ["subaccount_number"]),
        )
    ),
    *(
        ("/portfolio/orders", names)
        for names in (
            *(["book_side"], ["outcome_side"], ["yes_price_dollars"], ["no_price_dollars"]),
            *(["expiration_time"], ["created_time", "last_update_time"], ["exchange_index"]),
        )
    ),
    *(
        ("/portfolio/settlements", names)
        for names in (
            *(["value"], ["revenue"], ["market_result"], ["value", "market_result"], ["cursor"]),
            *(["yes_count_fp"], ["no_count_fp", "value"], ["yes_total_cost_dollars"]),
            *(["fee_cost"], ["revenue", "value"], ["revenue", "market_result"]),
        )
    ),
    *(
        ("/markets", names)
        for names in (["settlement_value_dollars"], ["price_ranges"], ["title"], ["exchange_index"])
    ),
]
GONE = [pytest.param(REMOVED, id="removed"), pytest.param(None, id="null", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def traded() -> Iterator[KalshiStand]:
    """An account that holds NO of RAIN and YES of SNOW, waits in SNOW, and was paid by WIND."""
    sessions = {RAIN: flat(40), SNOW: flat(40), WIND: flat(4)}
    with kalshi_stand(sessions=sessions) as stand:
        manager = stand.manager()
        manager.submit(order("no", "0.52", side="NO", market=RAIN))
        manager.submit(order("yes", "0.50", market=SNOW))
        manager.submit(order("won", "0.50", market=WIND))
        stand.practice.advance()
        manager.submit(order("more", "0.50", 6, market=WIND))
        manager.submit(order("waits", "0.40", market=SNOW))
        stand.practice.advance(5)
        yield stand


def account(stand: KalshiStand, market: str = SNOW) -> tuple[KalshiSnapshot, Any]:
    """Return the reading of a new process, and its view of a market."""
    manager = stand.manager()
    reading = manager.read_snapshot()
    view = manager.view(market)
    # Each process reads at another instant.
    books = replace(reading.books, at=LATER)
    return replace(reading, books=books), view


@pytest.fixture(scope="module")
def whole(traded: KalshiStand) -> tuple[KalshiSnapshot, Any]:
    """The account as complete responses describe it, before any test sends an order."""
    return account(traded)


@pytest.mark.parametrize("value", GONE)
@pytest.mark.parametrize(("path", "names"), NOTHING_LOST, ids=lambda each: str(each))
def test_missing_optional_field_leaves_the_account_unchanged(
    traded: KalshiStand, whole: tuple[KalshiSnapshot, Any], path: str, names: list[str], value: Any
) -> None:
    assert whole[0].discrepancies == ()
    assert whole[0].books.positions == {RAIN: D(-10), SNOW: D(10)}
    with changed_rows(path, with_fields(**dict.fromkeys(names, value))):
        lacking = account(traded)
    assert _comparable(lacking[0]) == _comparable(whole[0])
    assert lacking[1] == whole[1]


def _comparable(reading: KalshiSnapshot) -> Any:
    """A reading without the profit that a market states, and the rate of a quotient."""
    paid = [(each.settlement.market, each.position, each.payout) for each in reading.paid_positions]
    return replace(reading, paid_positions=()), paid


@pytest.mark.parametrize("value", GONE)
def test_missing_fee_is_computed_from_the_fee_schedule(traded: KalshiStand, value: Any) -> None:
    with changed_rows("/portfolio/fills", with_fields(fee_cost=value)):
        lacking, _ = account(traded)
    assert not lacking.unreadable_reasons
    assert lacking.books.cash == account(traded)[0].books.cash


@pytest.mark.parametrize("value", GONE)
def test_order_response_without_client_order_id_is_accepted(value: Any) -> None:
    with kalshi_stand(sessions={RAIN: flat()}) as stand:
        manager = stand.manager()
        change = with_fields(client_order_id=value, average_fill_price=value)
        with changed_rows("/portfolio/events/orders", change, method="POST"):
            receipt = manager.submit(order("o-1", "0.30", market=RAIN))
        assert receipt.remaining_count == 10
        assert stand.state("o-1") == "accepted"
        with changed_rows("/portfolio/orders", with_fields(client_order_id=value)):
            (resting,) = manager.view(RAIN).resting_orders
        assert resting.remaining_count == 10


@pytest.mark.parametrize("value", GONE)
@pytest.mark.parametrize("name", ["yes_bid_dollars", "yes_ask_dollars", "yes_bid_size_fp"])
def test_missing_quote_field_means_an_empty_book_side(
    traded: KalshiStand, name: str, value: Any
) -> None:
    with changed_rows("/markets", with_fields(**{name: value})):
        _, view = account(traded)
    assert view.quote.yes_bid == (0 if name == "yes_bid_dollars" else D("0.48"))
    assert view.quote.yes_ask == (1 if name == "yes_ask_dollars" else D("0.50"))


UNREADABLE = [  # list, and fields without which a row says nothing
    ("/portfolio/fills", ["count_fp"]),
    ("/portfolio/fills", ["order_id"]),
    ("/portfolio/fills", ["fill_id", "trade_id"]),
    ("/portfolio/fills", ["book_side", "outcome_side"]),
    ("/portfolio/fills", ["yes_price_dollars", "no_price_dollars"]),
    ("/portfolio/positions", ["position_fp"]),
    ("/markets", ["status"]),
    ("/markets", ["close_time"]),
]
TEXTS = ("order_id", "fill_id", "status")  # fields that any text may be in


NONSENSE = [(path, names) for path, names in UNREADABLE if names[0] not in TEXTS]


@pytest.mark.parametrize(
    ("path", "names", "value"),
    [
        *((*row, REMOVED) for row in UNREADABLE),
        *(pytest.param(*row, None, marks=pytest.mark.slow) for row in UNREADABLE),
        *(pytest.param(*row, "nonsense", marks=pytest.mark.slow) for row in NONSENSE),
    ],
    ids=lambda each: "removed" if each is REMOVED else str(each),
)
def test_an_unreadable_row_quarantines_its_market(
    traded: KalshiStand, path: str, names: list[str], value: Any
) -> None:
    whole, elsewhere = account(traded)
    manager = traded.manager()
    manager.set_baseline(whole.books)
    with changed_rows(path, with_fields(**dict.fromkeys(names, value)), market=RAIN):
        reading = manager.read_snapshot()
        with refused(QuarantinedMarket, "RAIN", names[0], varies="Unknown datetime [^:]*"):
            manager.view(RAIN)
        snow = manager.view(SNOW)
        unseen = replace(
            elsewhere, other_positions_value=snow.other_positions_value, exposure=snow.exposure
        )
        assert snow == unseen
        assert snow.exposure.other_events_loss >= elsewhere.exposure.other_events_loss, (
            "no price: 1 USD at risk"
        )
        assert not manager.query_unknown_outcomes(SNOW)
        name = f"o-{len(traded.practice.exchange.orders)}"
        assert manager.submit(order(name, "0.02", 1, market=SNOW)).remaining_count == 1
        manager.cancel_stale_orders(SNOW, LATER)
    # The position is known anyway, and counts.
    assert reading.books.positions == whole.books.positions
    assert reading.books.cash == whole.books.cash
    if path != "/markets":
        assert set(reading.unreadable_reasons) == {RAIN}
    assert manager.view(RAIN).no_count == 10


def test_an_unreadable_settlement_quarantines_its_market(traded: KalshiStand) -> None:
    lacking = with_fields(value=None, market_result="scalar", revenue=None)
    with changed_rows("/portfolio/settlements", lacking):
        reading, view = account(traded)
    why = "the venue's list of settlements, row WIND: value and revenue are missing"
    assert reading.unreadable_reasons == {WIND: why}
    assert view.market == SNOW
    # Nothing was deposited: the payout of an unreadable settlement is no deposit.
    assert (reading.net_deposits, reading.discrepancies) == (0, ())


def test_fill_without_market_ticker_raises_error_naming_field(traded: KalshiStand) -> None:
    nameless = with_fields(ticker=None, market_ticker=None)
    with changed_rows("/portfolio/fills", nameless), refused(InputError, "fills", "ticker"):
        account(traded)


def test_unreadable_order_counts_at_full_size() -> None:
    with kalshi_stand(sessions={RAIN: flat(), SNOW: flat()}) as stand:
        manager = stand.manager()
        manager.submit(order("o-1", "0.30", market=RAIN))
        with changed_rows("/portfolio/orders", with_fields(remaining_count_fp=None)):
            view = manager.view(SNOW)
            with refused(QuarantinedMarket, "remaining_count_fp"):
                manager.view(RAIN)
        assert [(each.order.market, each.remaining_count) for each in view.resting_orders] == [
            (RAIN, 10)
        ]


def test_unreadable_order_does_not_prevent_finding_lost_order() -> None:
    def spoilt(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "status": None} if row.get("client_order_id") == "theirs" else row

    with kalshi_stand(sessions={RAIN: flat()}) as stand:
        stand.practice.ask("POST", CREATE, body_of(buying("theirs", price="0.10")))
        manager = stand.manager()
        stand.lose(manager, order("o-1", "0.30", market=RAIN))
        stand.practice.land()
        with changed_rows("/portfolio/orders", spoilt):
            assert not manager.query_unknown_outcomes(RAIN)
        assert stand.state("o-1") == "accepted"


def test_missing_market_does_not_block_other_markets(traded: KalshiStand) -> None:
    manager = traded.manager()
    with changed_rows("/markets", with_fields(ticker="OTHER"), market=RAIN):
        assert manager.view(SNOW).yes_count == 10
        with refused(QuarantinedMarket, "RAIN"):
            manager.view(RAIN)


def test_an_unreadable_market_counts_at_its_last_bid(traded: KalshiStand) -> None:
    with changed_rows("/markets", with_fields(close_time=None), market=RAIN):
        listings = read_market_listings(traded.manager().venue, [RAIN, SNOW])
    last = D("0.48"), D("0.50")
    assert listings[RAIN].position_value(D(-10), last) == 5
    assert not listings[RAIN].is_trading
    assert listings[SNOW].is_trading


@pytest.mark.parametrize(
    ("said", "worth"),
    [
        ({"result": "scalar", "settlement_value_dollars": "0.2500"}, (D("2.5"), D("7.5"))),
        ({"result": "void", "settlement_value_dollars": None}, (D("4.8"), D("5.0"))),
        ({"result": "", "settlement_value_dollars": "0.5000"}, (D("5"), D("5"))),
    ],
)
def test_market_with_scalar_result_yields_no_more_observations(
    traded: KalshiStand, said: dict[str, Any], worth: tuple[Decimal, Decimal]
) -> None:
    """No recorded session contains the market."""
    connection = KalshiConnection(traded.settings(), KEYS)
    sampler = MarketSampler(connection, (RAIN, SNOW), np.timedelta64(60, "s"))
    now = connection.now()
    for market, listing in sampler.read_listings().items():
        schedule = sampler.build_schedule(listing, now)
        assert schedule is not None
        sampler.schedules[market] = schedule
    with changed_rows("/markets", with_fields(status="finalized", **said), market=RAIN):
        updates = sampler.sample_markets(sampler.next_tick_after(now))
        listing = sampler.read_listings()[RAIN]
    assert [update.market for update in updates] == [SNOW]
    assert set(sampler.schedules) == {SNOW}
    sales = D("0.48"), D("0.50")
    assert (listing.position_value(D(10), sales), listing.position_value(D(-10), sales)) == worth


def test_market_with_contradictory_quotes_is_reported(traded: KalshiStand) -> None:
    connection = KalshiConnection(traded.settings(), KEYS)
    sampler = MarketSampler(connection, (RAIN, SNOW), np.timedelta64(60, "s"))
    now = connection.now()
    for market, listing in sampler.read_listings().items():
        schedule = sampler.build_schedule(listing, now)
        assert schedule is not None
        sampler.schedules[market] = schedule
    with changed_rows("/markets", with_fields(yes_bid_dollars="0.99"), market=RAIN):
        updates = sampler.sample_markets(sampler.next_tick_after(now))
    assert [update.market for update in updates] == [SNOW]
    assert "RAIN" in sampler.unreadable_reasons
    assert set(sampler.schedules) == {RAIN, SNOW}


@pytest.mark.parametrize(
    ("said", "rates"),
    [
        ({}, ("0.07", "0.0175")),
        ({"fee_type_override": None, "fee_multiplier_override": None}, ("0.07", "0.0175")),
        ({"fee_type_override": "quadratic", "fee_multiplier_override": 2}, ("0.14", "0")),
        ({"fee_type_override": "quadratic"}, ("0.07", "0")),
    ],
)
def test_event_fees_override_the_fees_of_its_series(
    traded: KalshiStand, said: dict[str, Any], rates: tuple[str, str]
) -> None:
    fees = MarketFees(KalshiFees().rules_on)
    with changed_rows("/events", with_fields(**said)):
        fees.load_fee_terms(KalshiConnection(traded.settings(), KEYS), (RAIN,))
    rules = fees(RAIN, LATER)
    assert (rules.taker, rules.maker) == tuple(map(D, rates))


def test_an_events_unknown_fees_are_refused(traded: KalshiStand) -> None:
    fees = MarketFees(KalshiFees().rules_on)
    with (
        changed_rows("/events", with_fields(fee_type_override="flat")),
        refused(InputError, "RAIN", "fee_type", "'flat'"),
    ):
        fees.load_fee_terms(KalshiConnection(traded.settings(), KEYS), (RAIN,))
