"""Markets listed by the venue: quotes, price steps, values of positions, fees and payouts.

    market ──event_ticker──▶ /events/{…} ──series_ticker──▶ /series/{…}: fee_type, fee_multiplier

`fee_type_override` and `fee_multiplier_override` of an event take precedence over its series.

`quadratic` charges takers only, `quadratic_with_maker_fees` makers as well; both dated rates are
multiplied by `fee_multiplier`. A fill during a fee waiver states its fee.

A settlement states its payout twice:

    stated   `value`, the payout of a YES in cents; null for scalar results and ties; else by result
    paid     `revenue`, whole cents for the final position without pairs: a pair of YES and NO was
             paid when it was made, though both counts list it

The revenue takes precedence, but it is rounded. If the stated payout differs from it by at most a
cent, the stated payout is booked, because it is exact. A larger difference is alerted, and the
revenue is booked. In production `value` was 0 for some markets that paid YES (public repositories,
2026).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any

import numpy as np

from event_contracts.trading.endpoint import KalshiConnection
from event_contracts.trading.event_risk import MarketEvent, StrikeFields, StrikeRange
from event_contracts.trading.fees import ZERO, FeeRules
from event_contracts.trading.fields import FirstPresentField
from event_contracts.trading.orders import (
    CONTRACT_PAYOUT_USD,
    ContractQuote,
    EventContractOrder,
    Outcome,
)
from event_contracts.trading.venue_orders import (
    ParsedEntry,
    convert_side_price,
    parse_cents,
    parse_count,
    parse_fixed_point,
    parse_price,
)
from foundation.decimals import CENT
from foundation.errors import BrokerError, InputError, InvalidResponse
from trainingdata.feed.fields import (
    OptionalField,
    RequiredField,
    optional_field,
    parse_decimal,
    parse_object_list,
    parse_text,
    parse_timestamp,
)
from trainingdata.instants import new_york_date

log = logging.getLogger(__name__)

TICKERS_PER_REQUEST = 50  # limited by the maximum length of a URL
ACTIVE_STATUS = "active"  # the status of a market that takes orders
PAID_STATUS = "finalized"  # the status of a market that has paid
NOT_LISTED_REASON = "the venue does not list this market"
UNKNOWN_CLOSE_TIME = (
    "2199-12-31T00:00:00Z"  # for a market that does not state when its trading ends
)
NO_SETTLEMENT_TIME = np.datetime64("NaT", "ns")  # for a settlement without an instant
SidePrices = tuple[Decimal, Decimal]  # USD of YES and of NO
_NO_SALE_PRICES: SidePrices = (ZERO, ZERO)
MAX_FEE_MULTIPLIER = 10  # of fee rates
MAKERS_PAY_BY_FEE_TYPE = {"quadratic": False, "quadratic_with_maker_fees": True}


@dataclass(frozen=True, slots=True)
class PriceTicks:
    """The price steps of a market, from 0 to 1 without a gap.

    ranges: start, end and step of each range, USD of YES, in ascending order; the length of a
        range is a multiple of its step.
    """

    ranges: tuple[tuple[Decimal, Decimal, Decimal], ...]

    def __post_init__(self) -> None:
        ends = [ZERO, *(end for _, end, _ in self.ranges)]
        starts = [*(start for start, _, _ in self.ranges), CONTRACT_PAYOUT_USD]
        if ends != starts:
            raise ValueError("not a sequence of price ranges from 0 to 1 without gaps")
        for start, end, step in self.ranges:
            if not (start < end and step > 0 and (end - start) % step == 0):
                raise ValueError(f"invalid: step {step} does not divide the range {start} to {end}")

    @classmethod
    def parse(cls, value: Any) -> PriceTicks:
        """Parse the price steps from the venue's list of price ranges, in any order."""
        names = ("start", "end", "step")
        found = sorted(
            [parse_price(each.get(name)) for name in names] for each in parse_object_list(value)
        )
        return cls(tuple((start, end, step) for start, end, step in found))

    def is_valid_price(self, price: Decimal) -> bool:
        """Return whether a price is valid for orders, USD of YES; 0 and 1 are invalid."""
        return 0 < price < CONTRACT_PAYOUT_USD and any(
            start <= price <= end and (price - start) % step == 0
            for start, end, step in self.ranges
        )

    def price_step_at(self, bid: Decimal, ask: Decimal) -> Decimal:
        """Return the price step at a quote: the largest step of the ranges between bid and ask.

        Its multiples between bid and ask are valid in every one of these ranges.
        """
        steps = [step for start, end, step in self.ranges if start < ask and bid < end]
        return max(steps or [step for start, end, step in self.ranges if start <= bid <= end])


# A market that does not state its prices accepts at least whole cents.
CENT_TICKS = PriceTicks(((ZERO, CONTRACT_PAYOUT_USD, Decimal("0.01")),))


@dataclass(frozen=True, slots=True)
class MarketListing(ParsedEntry):
    """A market as the venue lists it.

    status: `active` if it takes orders.
    yes_bid: USD of YES; 0 without a bid.
    yes_ask: USD of YES; 1 without an offer, or 0 on some pages.
    yes_bid_size: contracts at the YES bid.
    yes_ask_size: contracts at the YES ask.
    price_ticks: price steps.
    close_time: UTC, the end of trading.
    result: `yes` or `no`, or `scalar` or another word for another settlement; empty before the
        result is known.
    yes_payout: settlement value of a YES, USD; None until the venue states it.
    event_ticker: ticker of the market's event; empty if the venue does not state it.
    strike: range of figures for which YES wins; None for a market without thresholds.
    """

    market: Annotated[str, RequiredField("ticker", parse_text)]
    status: Annotated[str, RequiredField("status", parse_text)]
    yes_bid: Annotated[Decimal, OptionalField("yes_bid_dollars", parse_price, ZERO)]
    yes_ask: Annotated[Decimal, OptionalField("yes_ask_dollars", parse_price, ZERO)]
    yes_bid_size: Annotated[Decimal, OptionalField("yes_bid_size_fp", parse_count, ZERO)]
    yes_ask_size: Annotated[Decimal, OptionalField("yes_ask_size_fp", parse_count, ZERO)]
    price_ticks: Annotated[
        PriceTicks,
        OptionalField(
            "price_ranges", PriceTicks.parse, CENT_TICKS, "prices in whole cents are assumed"
        ),
    ]
    close_time: Annotated[np.datetime64, RequiredField("close_time", parse_timestamp)]
    result: Annotated[str, OptionalField("result", parse_text, "")]
    yes_payout: Annotated[Decimal | None, optional_field("settlement_value_dollars", parse_price)]
    event_ticker: Annotated[str, OptionalField("event_ticker", parse_text, "")]
    strike: Annotated[StrikeRange | None, StrikeFields()]

    def __post_init__(self) -> None:
        _ = self.quote

    @property
    def quote(self) -> ContractQuote:
        ask = self.yes_ask or CONTRACT_PAYOUT_USD
        return ContractQuote(self.yes_bid, ask, self.price_ticks.price_step_at(self.yes_bid, ask))

    @property
    def is_settled(self) -> bool:
        return self.result in ("yes", "no")

    @property
    def has_ended(self) -> bool:
        """Return whether the market's result is known: YES, NO or a payout between them."""
        return bool(self.result) or self.status == PAID_STATUS

    @property
    def is_trading(self) -> bool:
        return self.status == ACTIVE_STATUS and not self.has_ended

    def refusal_reason(self, order: EventContractOrder) -> str | None:
        """Return the reason why the market does not accept an order, or None if it does."""
        if self.status != ACTIVE_STATUS:
            return f"market {order.market} is {self.status} and accepts no orders"
        price = convert_side_price(order.side, order.price)
        if not self.price_ticks.is_valid_price(price):
            step = self.price_ticks.price_step_at(price, price)
            return (
                f"price ${order.price} of {order.market} {order.side} is not a multiple of the"
                f" price step, ${step}, above 0 and below 1"
            )
        return None

    def position_value(self, position: Decimal, sale_prices: SidePrices) -> Decimal:
        """Return the value of a position in this market, USD; YES positive, NO negative.

            both sides quoted            the mid quote
            no offer                     the bid, at which the position can be sold
            no bid                       the last sale price of the side, at most the ask
            no trading, result unknown   the last sale price of the side
            result YES or NO             $1 or nothing, even before it is paid
            another result               its settlement value; the last sale price until stated

        If a side has never had a bid, its last sale price is 0.

        sale_prices: last sale prices of YES and NO.
        """
        side: Outcome = "YES" if position > 0 else "NO"
        return abs(position) * self._value_per_contract(side, sale_prices[side == "NO"])

    def _value_per_contract(self, side: Outcome, last: Decimal) -> Decimal:
        bid, ask = self.quote.bid(side), self.quote.ask(side)
        if self.is_settled:
            return CONTRACT_PAYOUT_USD if self.result == side.lower() else ZERO
        if self.has_ended and self.yes_payout is not None:
            return self.yes_payout if side == "YES" else CONTRACT_PAYOUT_USD - self.yes_payout
        if not self.is_trading:
            return last
        if not bid:
            return min(last, ask)
        return bid if ask == CONTRACT_PAYOUT_USD else (bid + ask) / 2


class QuarantinedMarket(BrokerError):
    """Error for a market that is not traded because the venue's rows about it cannot be read."""


class UnknownMarket(QuarantinedMarket):
    """Error for a market that the venue does not list."""


@dataclass(frozen=True, slots=True)
class UnreadableListing(MarketListing):
    """Placeholder for a market that the venue does not list, or whose row cannot be read.

    status: the reason, as text.
    """

    @classmethod
    def from_reason(cls, market: str, reason: str) -> UnreadableListing:
        quoted = {"price_ranges": [{"start": "0", "end": "1", "step": "0.01"}]}
        return cls.parse(
            {"ticker": market, "status": reason, "close_time": UNKNOWN_CLOSE_TIME, **quoted}
        )


def read_market_listings(
    connection: KalshiConnection, markets: Iterable[str]
) -> dict[str, MarketListing]:
    """Read the venue's present listings of markets and return them by ticker.

    A market that is not listed, or whose row cannot be read, has an `UnreadableListing`.
    """
    wanted = list(dict.fromkeys(markets))
    listed: dict[str, MarketListing] = {}
    for first in range(0, len(wanted), TICKERS_PER_REQUEST):
        tickers = ",".join(wanted[first : first + TICKERS_PER_REQUEST])
        found, unread = connection.list_readable_entries(
            "markets", "/markets", "markets", MarketListing.parse, tickers=tickers
        )
        listed |= {listing.market: listing for listing in found}
        listed |= {
            row.market: UnreadableListing.from_reason(row.market, str(row)) for row in unread
        }
    for market in wanted:
        if market not in listed:
            listed[market] = UnreadableListing.from_reason(market, NOT_LISTED_REASON)
    return listed


def check_all_listed(listings: Iterable[MarketListing]) -> None:
    """Raise `UnknownMarket` for the first market that the venue does not list."""
    for listing in listings:
        if isinstance(listing, UnreadableListing) and listing.status == NOT_LISTED_REASON:
            raise UnknownMarket(f"{listing.market}: {NOT_LISTED_REASON}")


def find_unreadable_reasons(listings: Iterable[MarketListing]) -> dict[str, str]:
    """Return the reason for each market that cannot be read, by ticker."""
    return {each.market: each.status for each in listings if isinstance(each, UnreadableListing)}


class MarketEventLookup:
    """Lookup of the events of markets, with a cache of which events are mutually exclusive.

    If the venue does not state this, or cannot be queried, the losses of the event's markets add
    up.
    """

    def __init__(self, connection: KalshiConnection) -> None:
        self._connection = connection
        self._exclusive: dict[str, bool] = {}

    def lookup_events(self, listings: Iterable[MarketListing]) -> dict[str, MarketEvent]:
        """Return the event of each market, by ticker.

        An event is queried only if several of these markets belong to it.
        The strike of a market without a known event is ignored, because strikes of different
        events may refer to different figures. Losses of such markets are summed, not netted.
        """
        listings = tuple(listings)
        counts = Counter(listing.event_ticker for listing in listings)
        events = {}
        for each in listings:
            exclusive = counts[each.event_ticker] > 1 and self._is_exclusive(each.event_ticker)
            strike = each.strike if each.event_ticker else None
            events[each.market] = MarketEvent(each.event_ticker, exclusive, strike)
        return events

    def _is_exclusive(self, event: str) -> bool:
        if event and event not in self._exclusive:
            what = f"event {event}"
            try:
                answer = self._connection.get_object(what, f"/events/{event}", "event") or {}
            except BrokerError as error:
                log.warning(
                    "%s; losses of its markets are summed, not netted, until it can be read", error
                )
                return False
            self._exclusive[event] = answer.get("mutually_exclusive") is True
        return self._exclusive.get(event, False)


def value_at_bids(
    positions: Mapping[str, Decimal], listings: Mapping[str, MarketListing]
) -> Decimal:
    """Return the value of positions at the best bids, USD.

    positions: contracts by market, YES positive and NO negative.
    """
    total = ZERO
    for market, position in positions.items():
        total += abs(position) * listings[market].quote.bid("YES" if position > 0 else "NO")
    return total


def update_sale_prices(
    listings: Mapping[str, MarketListing], previous_prices: Mapping[str, SidePrices]
) -> dict[str, SidePrices]:
    """Return the last bid of YES and of NO in each market, USD; 0 if a side never had one.

    previous_prices: earlier result, used for sides without a bid at present.
    """
    prices = {}
    for market, listing in listings.items():
        yes, no = previous_prices.get(market, _NO_SALE_PRICES)
        if listing.is_trading:
            yes, no = listing.quote.bid("YES") or yes, listing.quote.bid("NO") or no
        prices[market] = (yes, no)
    return prices


@dataclass(frozen=True, slots=True)
class FeeTerms:
    """Fee terms of a market's series.

    rate_multiplier: factor on taker and maker rates.
    charges_makers: true if fills of resting orders are charged.
    """

    rate_multiplier: Decimal = Decimal(1)
    charges_makers: bool = True

    def apply_to(self, dated_rules: FeeRules) -> FeeRules:
        """Return the day's fee rules with these terms applied.

        Rates are multiplied; the maker rate is 0 if makers are not charged.
        """
        maker = dated_rules.maker * self.rate_multiplier if self.charges_makers else ZERO
        return replace(dated_rules, taker=dated_rules.taker * self.rate_multiplier, maker=maker)


class MarketFees:
    """Fee rules by market and instant, from rules by date and the fee terms of each series.

    Until a market's fee terms are loaded, the rules of the date apply without changes.

    rules_on: function that returns the rules in force on a New York date, YYYY-MM-DD.
    """

    def __init__(self, rules_on: Callable[[str], FeeRules]) -> None:
        self._on = rules_on
        self._terms: dict[str, FeeTerms] = {}

    def __call__(self, market: str, at: np.datetime64) -> FeeRules:
        return self._terms.get(market, FeeTerms()).apply_to(self._rules_on_date(at))

    def highest_fee_rules(self, at: np.datetime64) -> FeeRules:
        """Return fee rules with the highest rates among markets whose fee terms were loaded."""
        rules = [
            each.apply_to(self._rules_on_date(at)) for each in self._terms.values() or (FeeTerms(),)
        ]
        taker = max(each.taker for each in rules)
        return replace(rules[0], taker=taker, maker=max(each.maker for each in rules))

    def load_fee_terms(self, connection: KalshiConnection, markets: Iterable[str]) -> None:
        """For each market without loaded fee terms, read the terms of its series."""
        for market in markets:
            if market not in self._terms:
                self._terms[market] = _read_fee_terms(connection, market)

    def _rules_on_date(self, at: np.datetime64) -> FeeRules:
        return self._on(str(new_york_date(np.array([at]))[0]))


def _read_fee_terms(connection: KalshiConnection, market: str) -> FeeTerms:
    what = f"fees of {market}"

    def read_fields(
        path: str, name: str, *fields: RequiredField[Any] | OptionalField[Any]
    ) -> list[Any]:
        entry = connection.get_object(what, path, name) or {}
        with connection.translate_errors(what):
            return [each.read(entry) for each in fields]

    [event] = read_fields(f"/markets/{market}", "market", RequiredField("event_ticker", parse_text))
    overrides = (
        optional_field("fee_type_override", parse_text),
        optional_field("fee_multiplier_override", _parse_fee_multiplier),
    )
    series, own_kind, own_multiplier = read_fields(
        f"/events/{event}", "event", RequiredField("series_ticker", parse_text), *overrides
    )
    multiplied = RequiredField("fee_multiplier", _parse_fee_multiplier)
    kind, multiplier = read_fields(
        f"/series/{series}", "series", RequiredField("fee_type", parse_text), multiplied
    )
    kind = own_kind or kind
    multiplier = multiplier if own_multiplier is None else own_multiplier
    if kind not in MAKERS_PAY_BY_FEE_TYPE:
        known = ", ".join(MAKERS_PAY_BY_FEE_TYPE)
        where = event if own_kind else series
        raise InputError(
            f"{market}: fee_type {kind!r} of {where} is not supported (only {known}); remove the"
            " market from markets"
        )
    return FeeTerms(multiplier, MAKERS_PAY_BY_FEE_TYPE[kind])


def _parse_fee_multiplier(value: Any) -> Decimal:
    multiplier = parse_decimal(value)
    if not 0 <= multiplier <= MAX_FEE_MULTIPLIER:
        raise ValueError(f"outside 0 … {MAX_FEE_MULTIPLIER}")
    return multiplier


def parse_payout(value: Any) -> Decimal:
    """Parse a contract's payout from whole cents, 0 to 100; return USD."""
    usd = parse_cents(value)
    if not 0 <= usd <= CONTRACT_PAYOUT_USD:
        raise ValueError("not a payout between 0 and 100 cents")
    return usd


@dataclass(frozen=True, slots=True)
class _SettlementRow(ParsedEntry):
    """An entry of the list `settlements` in the response to `GET /portfolio/settlements`."""

    market: Annotated[str, FirstPresentField(("ticker", parse_text), ("market_ticker", parse_text))]
    at: Annotated[
        np.datetime64,
        OptionalField(
            "settled_time",
            parse_timestamp,
            NO_SETTLEMENT_TIME,
            "the time of the first reading is used instead",
        ),
    ]
    result: Annotated[str, OptionalField("market_result", parse_text, "")]
    stated_yes_payout: Annotated[Decimal | None, optional_field("value", parse_payout)]
    revenue: Annotated[Decimal | None, optional_field("revenue", parse_cents)]
    yes_count: Annotated[Decimal | None, optional_field("yes_count_fp", parse_count)]
    no_count: Annotated[Decimal | None, optional_field("no_count_fp", parse_count)]
    yes_cost: Annotated[Decimal | None, optional_field("yes_total_cost_dollars", parse_fixed_point)]
    no_cost: Annotated[Decimal | None, optional_field("no_total_cost_dollars", parse_fixed_point)]
    fees: Annotated[Decimal | None, optional_field("fee_cost", parse_fixed_point)]

    @property
    def result_payout(self) -> Decimal | None:
        """Return the payout of a YES in USD: 1 for the result `yes`, 0 for `no`, otherwise None."""
        return {"yes": CONTRACT_PAYOUT_USD, "no": ZERO}.get(self.result)

    @property
    def net_position(self) -> Decimal | None:
        """Return the contracts held at settlement, YES positive and NO negative.

        The result is None if the venue does not state both counts.
        """
        return (
            None
            if self.yes_count is None or self.no_count is None
            else self.yes_count - self.no_count
        )

    @property
    def profit(self) -> Decimal | None:
        """Return the profit of the market in USD after fees, or None if a figure is missing.

        Profits of matched YES/NO pairs are included.
        """
        figures = (
            self.revenue,
            self.yes_count,
            self.no_count,
            self.yes_cost,
            self.no_cost,
            self.fees,
        )
        if any(figure is None for figure in figures):
            return None
        revenue, yes, no, yes_cost, no_cost, fees = (figure or ZERO for figure in figures)
        return revenue + min(yes, no) * CONTRACT_PAYOUT_USD - yes_cost - no_cost - fees


@dataclass(frozen=True, slots=True)
class MarketSettlement:
    """The settlement of a market.

    yes_payout: settlement value of a YES, USD; a NO is paid $1 less this value.
    paid_at: UTC, instant of the payment; NaT if the venue does not state it.
    result: `yes`, `no`, or the venue's word for another result.
    net_position: contracts that were paid, YES positive and NO negative; None if the venue does not
        state them.
    revenue: USD paid for these contracts; None if the settlement value gives it exactly.
    profit: USD after fees; None if the venue does not state it.
    remark: description of a contradiction between the settlement's figures; empty if they agree.
    """

    market: str
    yes_payout: Decimal
    paid_at: np.datetime64
    result: str = ""
    net_position: Decimal | None = None
    revenue: Decimal | None = None
    profit: Decimal | None = None
    remark: str = ""

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> MarketSettlement:
        """Parse an entry of the venue's list of settlements.

        Raises InvalidResponse if the entry states neither the payout of a YES, nor the revenue
        together with both counts.
        """
        row = _SettlementRow.parse(entry)
        net, paid = row.net_position, row.revenue
        if net is None or paid is None:
            certain = row.stated_yes_payout if row.result_payout is None else row.result_payout
            if certain is not None:
                return cls(row.market, certain, row.at, row.result, net)
            count = "yes_count_fp" if row.yes_count is None else "no_count_fp"
            raise InvalidResponse(f"value and {'revenue' if paid is None else count} are missing")
        stated = row.result_payout if row.stated_yes_payout is None else row.stated_yes_payout
        remark = ""
        if stated is not None:
            due = position_payout(net, stated)
            if abs(due - paid) <= CENT:
                return cls(row.market, stated, row.at, row.result, net, profit=row.profit)
            remark = (
                f"revenue ${paid} is booked, but {net} contracts at ${stated} a YES would pay"
                f" ${due}"
            )
        yes = _implied_yes_payout(net, paid) if net else stated or ZERO
        return cls(row.market, yes, row.at, row.result, net, paid, row.profit, remark)

    def payout(self, position: Decimal) -> Decimal:
        """Return the payout of a position, USD.

        The stated revenue is used for the position for which the venue states it.

        position: contracts, YES positive and NO negative.
        """
        if self.revenue is not None and position == self.net_position:
            return self.revenue
        return position_payout(position, self.yes_payout)


def position_payout(position: Decimal, yes_payout: Decimal) -> Decimal:
    """Return the payout of a position, USD.

    position: contracts, YES positive and NO negative.
    yes_payout: settlement value of a YES, USD.
    """
    return position * yes_payout if position > 0 else -position * (CONTRACT_PAYOUT_USD - yes_payout)


def _implied_yes_payout(net: Decimal, paid: Decimal) -> Decimal:
    """Return the payout of a YES, USD, that the payment for a position implies.

    net: contracts paid, YES positive and NO negative.
    paid: payment for them, USD.
    """
    return paid / net if net > 0 else CONTRACT_PAYOUT_USD + paid / net
