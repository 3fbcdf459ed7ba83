"""A market's fees are the dated rates, as its series scales them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from event_contracts.simulation import venue
from event_contracts.trading.endpoint import KalshiConnection
from event_contracts.trading.fees import FeeRules, KalshiFees
from event_contracts.trading.listings import MarketFees
from execution.fees import DatedRate
from foundation.errors import BrokerError, InputError
from tests.e2e.kalshi_desk import KalshiStand, kalshi_stand, order
from tests.event_contracts.practice import KEYS

D = Decimal
AT = np.datetime64("2026-11-22T10:00:00", "ns")
HALF = KalshiFees(taker=(DatedRate("1900-01-01", 0.035),), maker=(DatedRate("1900-01-01", 0.0),))


@pytest.fixture
def cheap() -> Iterator[KalshiStand]:
    """A venue that charges takers half, and nobody who waited."""
    with kalshi_stand(fees=HALF) as stand:
        yield stand


def learned(stand: KalshiStand, *markets: str) -> MarketFees:
    fees = MarketFees(KalshiFees().on)
    fees.learn(KalshiConnection(stand.settings(), KEYS), markets or ("SIM-1",))
    return fees


def test_the_rules_are_those_of_new_yorks_day() -> None:
    fees = KalshiFees(
        taker=(DatedRate("1900-01-01", 0.07), DatedRate("2026-11-23", 0.0)), as_of="2026-11-20"
    )
    rules_of = MarketFees(fees.on)
    # Midnight in New York is five in the morning, UTC.
    assert rules_of("RAIN", np.datetime64("2026-11-23T04:59:59", "ns")).taker == D("0.07")
    assert rules_of("RAIN", np.datetime64("2026-11-23T05:00:00", "ns")).taker == 0


def test_what_the_venue_charges_is_what_is_booked(cheap: KalshiStand) -> None:
    fees = learned(cheap, "SIM-1", "SIM-2")
    rules = fees("SIM-1", AT)
    assert (rules.taker, rules.maker) == (D("0.035"), 0)
    assert fees.dearest(AT) == rules
    manager = cheap.manager(rules_of=fees)
    manager.submit(order("o-1", str(manager.view("SIM-1").quote.yes_ask), 100))
    cheap.practice.advance()
    assert not manager.reading().differences
    free = cheap.manager(rules_of=lambda *_: FeeRules(taker=D(0), maker=D(0)))
    assert "by our rules" in free.reading().differences[0]


def test_of_several_series_the_dearest_bounds_every_cost(
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
    assert fees.dearest(AT) == replace(FeeRules(), taker=D("0.14"))


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"fee_type": "flat"}, InputError, "SIM-1: fee_type 'flat' of SIM is none of quadratic"),
        ({"fee_multiplier": -1}, BrokerError, "the fees of SIM-1: .*fee_multiplier"),
    ],
)
def test_fees_that_are_not_understood_are_one_line_and_nothing_is_traded(
    cheap: KalshiStand,
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any],
    error: type[InputError],
    words: str,
) -> None:
    _answering(monkeypatch, lambda series: series | said)
    with pytest.raises(error, match=words) as told:
        learned(cheap)
    assert "\n" not in str(told.value)


def _answering(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the venue say something else of a series."""
    plain = venue.series

    def answer(venue: Any, ticker: str) -> Any:
        return {"series": change(plain(venue, ticker)["series"])}

    monkeypatch.setattr(venue, "series", answer)
