"""What the practice venue takes, in Kalshi's words: its settings, requests of orders, refusals.

There is one book, of YES: a bid buys YES or sells NO, an ask sells YES or buys NO, at the price of
YES. With `reduce_only` an order sells what is held; without it, it buys, and pairs with what is
held of the other side are paid out. An order waits until the clock's next tick and meets that: the
answer to a new order says that nothing has filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from omegaconf import DictConfig
from pydantic import ConfigDict, Field, PlainValidator, Strict, TypeAdapter, ValidationError

from event_contracts.simulation.exchange import Exchange, Listing, PlacedOrder
from event_contracts.simulation.recorded import recorded_markets
from event_contracts.simulation.sessions import tape_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket, synthetic_session
from event_contracts.trading.actions import LIFE, PositionLimits
from event_contracts.trading.fees import KalshiFees
from event_contracts.trading.orders import LimitOrder
from event_contracts.trading.venue_orders import (
    BookSide,
    a_traded_count,
    an_order_price,
    order_request,
    own_terms,
    yes_price,
)
from foundation.configuration import settings_of
from foundation.errors import InputError, OrderRejected
from foundation.settings import setting, settings_class
from marketsimulator.settings import refuse_other_fees
from marketsimulator.venue.asked import Refused

EVENT = "SIM"  # of synthetic markets
LONGEST_ID = 64  # characters of a client_order_id
LARGEST = 10**9  # contracts of an order


@settings_class()
class KalshiVenueSettings:
    """A practice venue of event contracts: its markets, the account, the rules."""

    folder: str | None = setting(None, "of recorded files, see `recorded`; none: synthetic markets")
    markets: tuple[str, ...] = setting(
        (), "tickers of the recorded markets that are played; none: all"
    )
    synthetic: int = setting(
        2, "how many synthetic markets, SIM-1, SIM-2, …, are played", ge=1, le=200
    )
    seed: int = setting(0, "of the synthetic markets", ge=0, le=2**62)
    market: SyntheticMarket = setting(SyntheticMarket(), "parameters of the synthetic markets")
    interval: int = setting(60, "seconds between ticks", ge=1, le=86_400)
    starting_cash: float = setting(1000.0, "USD, in whole cents")
    life: int = setting(
        LIFE,
        "ticks after which a resting order ends; Kalshi's own wait until cancelled",
        ge=1,
        le=1_000_000,
    )
    settlement: int = setting(
        0, "ticks from the end of trading until a market pays", ge=0, le=10_000
    )
    reused_ids_refused: bool = setting(
        True,
        "whether an order is refused whose client_order_id has been used. Kalshi does not "
        "say what becomes of one",
        key=False,
    )
    fees: KalshiFees = setting(KalshiFees(), "rates and rounding by date; those of `as_of` hold")

    def __post_init__(self) -> None:
        if self.markets and self.folder is None:
            raise InputError("markets: tickers are of recorded markets; name their folder, too")
        self.episode()

    @classmethod
    def of(cls, config: DictConfig) -> KalshiVenueSettings:
        refuse_other_fees(config, KalshiFees, "event contracts are traded for fees=kalshi")
        return settings_of(cls, config)

    def episode(self) -> EpisodeSettings:
        """Cash and fees as the exchange has them; Kalshi knows neither a buffer nor limits."""
        return EpisodeSettings(
            market=self.market,
            starting_cash=self.starting_cash,
            life=self.life,
            fees=self.fees,
            limits=PositionLimits(Decimal(10**9), Decimal(10**9), Decimal(1)),
            cash_buffer=0.0,
        )

    def listings(self) -> list[Listing]:
        """The markets; recorded ones begin as far after the first as they did."""
        if self.folder is None:
            drawn = (synthetic_session((self.seed, k), self.market) for k in range(self.synthetic))
            return [
                Listing(f"{EVENT}-{k}", tape_of(session), event=EVENT)
                for k, session in enumerate(drawn, start=1)
            ]
        step = np.timedelta64(self.interval, "s").astype("timedelta64[ns]")
        recorded = {each.market: each for each in recorded_markets(self.folder, step)}
        unknown = set(self.markets) - set(recorded)
        if unknown:
            raise InputError(f"markets: {self.folder} has no {sorted(unknown)[0]}")
        chosen = [recorded[name] for name in self.markets or recorded]
        begins = min(each.times[0] for each in chosen)
        return [
            Listing(
                each.market, tape_of(each.session), int((each.times[0] - begins) / step), each.event
            )
            for each in chosen
        ]

    def exchange(self, listings: Sequence[Listing], now: np.datetime64) -> Exchange:
        """The exchange of these markets; now: UTC, the instant of its first tick."""
        interval = np.timedelta64(self.interval, "s").astype("timedelta64[ns]")
        begins = now.astype("datetime64[ns]")
        return Exchange(listings, self.episode(), begins, interval, self.settlement)


def _count(value: object) -> Decimal:
    """The markets here trade whole contracts."""
    count = a_traded_count(value)
    if count > LARGEST or count % 1:
        raise ValueError(f"{value} is no whole number of contracts from 1 to {LARGEST}")
    return count


def _instant(seconds: object) -> np.datetime64 | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 2**33:
        raise ValueError("whole seconds since 1970 are required")
    return np.datetime64(seconds * 10**9, "ns")


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a client asked for, checked as far as no market has to be known; by the API's names.

    side: of the book of YES.
    price: USD of YES.
    time_in_force, self_trade_prevention_type: the only ones that are known here.
    client_order_id: the client's; empty where he gave none.
    reduce_only: whether it may only sell what is held.
    expiration_time: UTC, when it ends by itself; none where it does not.
    """

    ticker: Annotated[str, Field(strict=True, min_length=1)]
    side: BookSide
    price: Annotated[Decimal, PlainValidator(an_order_price)]
    count: Annotated[Decimal, PlainValidator(_count)]
    time_in_force: Literal["good_till_canceled"]
    self_trade_prevention_type: Literal["taker_at_cross"]
    client_order_id: Annotated[str, Field(strict=True, max_length=LONGEST_ID)] = ""
    reduce_only: Annotated[bool, Strict()] = False
    expiration_time: Annotated[np.datetime64 | None, PlainValidator(_instant)] = None

    # A field that is not known here would change what the order means.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> OrderRequest:
        """The request of a JSON object; `Refused` names the field that makes no sense."""
        try:
            return TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            problem = error.errors()[0]
            message = f"{problem['loc'][0]}: {problem['msg']}"
            raise Refused(400, "invalid_parameters", message) from None

    def limit_order(self, name: str, count: Decimal) -> LimitOrder:
        """The order in our words, under our id of it."""
        action, side = own_terms(self.side, self.reduce_only)
        return LimitOrder(name, self.ticker, action, side, yes_price(side, self.price), count)


def take(
    exchange: Exchange,
    request: OrderRequest,
    *,
    reused_ids_refused: bool = True,
    partial: bool = False,
    reject: bool = False,
) -> PlacedOrder:
    """Take an order.

    partial: half of it may trade, the rest is cancelled. reject: it ends at the next tick.
    """
    market = listing_of(exchange, request.ticker)
    if exchange.market_state(market.ticker) != "active":
        raise Refused(409, "market_closed", f"{market.ticker} is not trading")
    name = request.client_order_id or f"venue-{len(exchange.orders) + 1}"
    used = any(placed.client_order_id == name for placed in exchange.orders.values())
    if used and reused_ids_refused:
        raise Refused(409, "order_already_exists", "client_order_id has been used")
    if request.expiration_time is not None and request.expiration_time <= exchange.now:
        raise Refused(400, "invalid_parameters", "expiration_time has passed")
    count = _covered_count(exchange, request)
    traded = max(count // 2, Decimal(1)) if partial else count
    order = request.limit_order(name, traded)
    try:
        placed = exchange.submit(order)
    except OrderRejected as error:
        raise Refused(400, "order_not_admitted", str(error)) from error
    placed.expires = request.expiration_time
    placed.held_back = count - traded
    placed.doomed = reject
    return placed


def listing_of(exchange: Exchange, ticker: str) -> Listing:
    """A market, which `Refused` says is not there."""
    if ticker not in exchange.listings:
        raise Refused(404, "not_found", f"market {ticker} not found")
    return exchange.listings[ticker]


def placed_of(exchange: Exchange, order_id: str) -> PlacedOrder:
    """An order, which `Refused` says is not there."""
    if order_id not in exchange.orders:
        raise Refused(404, "not_found", f"order {order_id} not found")
    return exchange.orders[order_id]


def _covered_count(exchange: Exchange, request: OrderRequest) -> Decimal:
    """Contracts of an order; one that may only reduce is cut to what no sale has reserved."""
    if not request.reduce_only:
        return request.count
    _, side = own_terms(request.side, reduces=True)
    view = exchange.view(request.ticker)
    free = view.held(side) - view.resting_count("SELL", side)
    if free <= 0:
        raise Refused(400, "invalid_order", "reduce_only: there is no position to reduce")
    return min(request.count, free)


def warm_up() -> None:
    """Compile what a venue needs, once: a client's first request would wait for that."""
    session = synthetic_session(0, SyntheticMarket(steps=3))
    listings = [Listing("SIM", tape_of(session))]
    exchange = KalshiVenueSettings().exchange(listings, np.datetime64(0, "ns"))
    order = LimitOrder("rehearsal", "SIM", "BUY", "YES", Decimal("0.5"), Decimal(1))
    take(exchange, OrderRequest.of(order_request(order, np.datetime64("2100-01-01", "ns"))))
    exchange.advance()
