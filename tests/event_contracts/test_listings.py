"""Markets say their prices, what contracts are worth, and what trading in each costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import KalshiConnection
from event_contracts.trading.fees import FeeRules, KalshiFees
from event_contracts.trading.listings import (
    MarketFees,
    MarketListing,
    PriceTicks,
    update_sale_prices,
)
from event_contracts.trading.orders import CONTRACT_PAYOUT_USD
from execution.orders.fees import DatedRate
from foundation.errors import BrokerError, InputError
from practice.kalshi import catalog
from tests.e2e.kalshi_desk import KalshiStand, kalshi_stand, order
from tests.event_contracts.practice import KEYS
from tests.support.messages import refused

D = Decimal


def listed(bid: str, ask: str, status: str = "active", result: str = "") -> MarketListing:
    entry: dict[str, Any] = {
        "ticker": "RAIN",
        "status": status,
        "price_ranges": [{"start": "0", "end": "1", "step": "0.001"}],
        "close_time": "2026-11-23T20:00:00Z",
        "yes_bid_dollars": bid,
        "yes_ask_dollars": ask,
        "result": result,
    }
    return MarketListing.parse(entry)


@pytest.mark.parametrize(
    ("now", "yes", "no"),
    [
        (listed("0.3800", "0.4200"), "4", "6"),
        (listed("0.3855", "0.4200"), "4.0275", "5.9725"),
        # Nobody offers YES, and so nobody bids for NO: it could last be sold for 0.44.
        (listed("0.3000", "1.0000"), "3", "4.4"),
        (listed("0.3000", "0.0000"), "3", "4.4"),
        # Nobody bids for YES: its last bid was 0.52, and 0.20 is asked for it now.
        (listed("0.0000", "0.2000"), "2", "8"),
        (listed("0.0000", "0.9000"), "5.2", "1"),
        (listed("0.0000", "1.0000"), "5.2", "4.4"),
        (listed("0.3800", "0.4200", "closed"), "5.2", "4.4"),
        (listed("0.0000", "1.0000", "determined", "yes"), "10", "0"),
        (listed("0.0000", "1.0000", "determined", "no"), "0", "10"),
        (listed("0.0000", "1.0000", "determined", "scalar"), "5.2", "4.4"),
    ],
)
def test_position_is_valued_by_the_documented_rules(now: MarketListing, yes: str, no: str) -> None:
    before = update_sale_prices({"RAIN": listed("0.5200", "0.5600")}, {})
    sale = update_sale_prices({"RAIN": now}, before)["RAIN"]
    assert now.position_value(D(10), sale) == D(yes)
    assert now.position_value(D(-10), sale) == D(no)


PRICES = st.integers(1, 9999).map(lambda n: D(n) / 10_000)


def ranges(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"start": start, "end": end, "step": step} for start, end, step in rows]


TABLES = {
    "linear_cent": PriceTicks.parse(ranges(("0", "1", "0.01"))),
    "deci_cent": PriceTicks.parse(ranges(("0", "1", "0.001"))),
    "tapered_deci_cent": PriceTicks.parse(
        ranges(("0.9", "1", "0.001"), ("0", "0.1", "0.001"), ("0.1", "0.9", "0.01"))
    ),
}
TABLE = st.sampled_from(sorted(TABLES)).map(TABLES.__getitem__)


@given(PRICES)
def test_price_increments_match_the_published_tick_sizes(price: D) -> None:
    assert TABLES["linear_cent"].is_valid_price(price) == (price % D("0.01") == 0)
    assert TABLES["deci_cent"].is_valid_price(price) == (price % D("0.001") == 0)
    tail = price <= D("0.1") or price >= D("0.9")
    step = D("0.001") if tail else D("0.01")
    assert TABLES["tapered_deci_cent"].is_valid_price(price) == (price % step == 0)
    for ticks in TABLES.values():
        assert ticks.is_valid_price(price) == ticks.is_valid_price(CONTRACT_PAYOUT_USD - price)
        assert not ticks.is_valid_price(D(0))


@given(TABLE, PRICES, PRICES)
def test_multiples_of_the_step_are_allowed_prices(ticks: PriceTicks, one: D, another: D) -> None:
    bid, ask = sorted((one, another))
    step = ticks.price_step_at(bid, ask)
    first = (bid / step).to_integral_value("ROUND_CEILING")
    for number in range(int(first), int(first) + 5):
        price = number * step
        if 0 < price < 1 and bid <= price <= ask:
            assert ticks.is_valid_price(price)


@pytest.mark.parametrize(
    ("given_ranges", "says"),
    [
        (ranges(("0", "0.5", "0.01")), "not a sequence of price ranges"),
        (ranges(("0", "1", "0.03")), "does not divide"),
        (ranges(("0", "0.5", "0.1"), ("0.5", "0.5", "0.1"), ("0.5", "1", "0.1")), "not divide"),
        ([{"start": 0}], "not a fixed-point string"),
        ("all", "not a list of objects"),
    ],
)
def test_invalid_price_ranges_are_refused(given_ranges: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PriceTicks.parse(given_ranges)


AT = np.datetime64("2026-11-22T10:00:00", "ns")
HALF = KalshiFees(taker=(DatedRate("1900-01-01", 0.035),), maker=(DatedRate("1900-01-01", 0.0),))


@pytest.fixture
def cheap() -> Iterator[KalshiStand]:
    """A venue that charges takers half, and nobody who waited."""
    with kalshi_stand(fees=HALF) as stand:
        yield stand


def learned(stand: KalshiStand, *markets: str) -> MarketFees:
    fees = MarketFees(KalshiFees().rules_on)
    fees.load_fee_terms(KalshiConnection(stand.settings(), KEYS), markets or ("SIM-1",))
    return fees


def test_fee_rules_change_at_midnight_in_new_york() -> None:
    fees = KalshiFees(
        taker=(DatedRate("1900-01-01", 0.07), DatedRate("2026-11-23", 0.0)), as_of="2026-11-20"
    )
    fee_rules_of = MarketFees(fees.rules_on)
    # Midnight in New York is five in the morning, UTC.
    assert fee_rules_of("RAIN", np.datetime64("2026-11-23T04:59:59", "ns")).taker == D("0.07")
    assert fee_rules_of("RAIN", np.datetime64("2026-11-23T05:00:00", "ns")).taker == 0


def test_booked_fees_are_those_of_the_series(cheap: KalshiStand) -> None:
    fees = learned(cheap, "SIM-1", "SIM-2")
    rules = fees("SIM-1", AT)
    assert (rules.taker, rules.maker) == (D("0.035"), 0)
    assert fees.highest_fee_rules(AT) == rules
    manager = cheap.manager(fee_rules_of=fees)
    manager.submit(order("o-1", str(manager.view("SIM-1").quote.yes_ask), 100))
    cheap.practice.advance()
    assert not manager.read_snapshot().discrepancies
    free = cheap.manager(fee_rules_of=lambda *_: FeeRules(taker=D(0), maker=D(0)))
    assert "by configured rates" in free.read_snapshot().discrepancies[0]


def test_highest_fee_rates_cover_every_series(
    cheap: KalshiStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(
        [
            {"fee_multiplier": 2, "fee_type": "quadratic"},
            {"fee_multiplier": 1, "fee_type": "quadratic_with_maker_fees"},
        ]
    )
    _answering(monkeypatch, lambda series: series | next(said))
    fees = learned(cheap, "SIM-1", "SIM-2")
    assert (fees("SIM-1", AT).taker, fees("SIM-1", AT).maker) == (D("0.14"), 0)
    assert fees("SIM-2", AT) == FeeRules()
    assert fees.highest_fee_rules(AT) == replace(FeeRules(), taker=D("0.14"))


@pytest.mark.parametrize(
    ("said", "error", "facts"),
    [
        ({"fee_type": "flat"}, InputError, ("SIM-1", "fee_type 'flat'")),
        ({"fee_multiplier": -1}, BrokerError, ("SIM-1", "fee_multiplier")),
    ],
)
def test_unknown_or_invalid_series_fee_is_refused(
    cheap: KalshiStand,
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any],
    error: type[InputError],
    facts: tuple[str, ...],
) -> None:
    _answering(monkeypatch, lambda series: series | said)
    with refused(error, *facts) as told:
        learned(cheap)
    assert "\n" not in str(told.value)


def _answering(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the venue say something else of a series."""
    plain = catalog.get_series

    def answer(exchange: Any, ticker: str) -> Any:
        return {"series": change(plain(exchange, ticker)["series"])}

    monkeypatch.setattr(catalog, "get_series", answer)
