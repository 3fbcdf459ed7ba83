"""What trading in each market costs: dated rates, as its series scales and its market waives them.

    market ──event_ticker──▶ /events/{…} ──series_ticker──▶ /series/{…}: fee_type, fee_multiplier

`quadratic` charges what trades at once alone, `quadratic_with_maker_fees` what waited as well; both
rates are multiplied by `fee_multiplier`. Before `fee_waiver_expiration_time` nothing is charged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from event_contracts.trading.connection import Answer, KalshiConnection
from event_contracts.trading.fees import NOTHING, FeeRules
from foundation.errors import InputError
from trainingdata.feed.fields import Needed, an_instant, exact, maybe, words
from trainingdata.instants import new_york_date

MOST_MULTIPLIED = 10  # of fee rates
CHARGED_MAKERS = {"quadratic": False, "quadratic_with_maker_fees": True}


@dataclass(frozen=True, slots=True)
class FeeTerms:
    """What is said of a market's fees.

    multiplier: of both rates.
    makers: whether what waited in the book is charged.
    waived_until: UTC, before which nothing is charged; none where nothing is waived.
    """

    multiplier: Decimal = Decimal(1)
    makers: bool = True
    waived_until: np.datetime64 | None = None

    def scaled(self, dated: FeeRules) -> FeeRules:
        """The rules of a day as the series scales them, waivers left out."""
        maker = dated.maker * self.multiplier if self.makers else NOTHING
        return replace(dated, taker=dated.taker * self.multiplier, maker=maker)

    def rules(self, dated: FeeRules, at: np.datetime64) -> FeeRules:
        """The rules at an instant."""
        if self.waived_until is not None and at < self.waived_until:
            return replace(dated, taker=NOTHING, maker=NOTHING)
        return self.scaled(dated)


class MarketFees:
    """The fee rules of a market at an instant; the dated rates alone before its series was read.

    on: the rules in force on a New York date, YYYY-MM-DD.
    """

    def __init__(self, on: Callable[[str], FeeRules]) -> None:
        self._on = on
        self._terms: dict[str, FeeTerms] = {}

    def __call__(self, market: str, at: np.datetime64) -> FeeRules:
        """The rules of a market at an instant, UTC."""
        return self._terms.get(market, FeeTerms()).rules(self._dated(at), at)

    def dearest(self, at: np.datetime64) -> FeeRules:
        """The highest rates among the markets that were read: nothing costs more, waived or not."""
        rules = [each.scaled(self._dated(at)) for each in self._terms.values() or (FeeTerms(),)]
        taker = max(each.taker for each in rules)
        return replace(rules[0], taker=taker, maker=max(each.maker for each in rules))

    def learn(self, connection: KalshiConnection, markets: Iterable[str]) -> None:
        """Read what is said of the fees of these markets, once.

        Raises `InputError` for fees that are charged in a way that is not known here; `BrokerError`
        for a venue that does not answer.
        """
        for market in markets:
            if market not in self._terms:
                self._terms[market] = _terms(connection, market)

    def _dated(self, at: np.datetime64) -> FeeRules:
        return self._on(str(new_york_date(np.array([at]))[0]))


def _terms(connection: KalshiConnection, market: str) -> FeeTerms:
    what = f"the fees of {market}"

    def found(path: str, name: str) -> Answer:
        return connection.get(what, path, name) or {}

    entry = found(f"/markets/{market}", "market")
    with connection.translated_errors(what):
        event = Needed("event_ticker", words).of(entry)
        waived = maybe("fee_waiver_expiration_time", an_instant).of(entry)
    entry = found(f"/events/{event}", "event")
    with connection.translated_errors(what):
        series = Needed("series_ticker", words).of(entry)
    entry = found(f"/series/{series}", "series")
    with connection.translated_errors(what):
        kind = Needed("fee_type", words).of(entry)
        multiplier = Needed("fee_multiplier", _multiplier).of(entry)
    if kind not in CHARGED_MAKERS:
        known = ", ".join(CHARGED_MAKERS)
        raise InputError(
            f"{market}: fee_type {kind!r} of {series} is none of {known}; leave it out"
        )
    return FeeTerms(multiplier, CHARGED_MAKERS[kind], waived)


def _multiplier(value: Any) -> Decimal:
    multiplier = exact(value)
    if not 0 <= multiplier <= MOST_MULTIPLIED:
        raise ValueError(f"outside 0 … {MOST_MULTIPLIED}")
    return multiplier
