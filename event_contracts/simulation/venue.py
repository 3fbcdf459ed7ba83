"""The practice venue of event contracts: one account's orders over the simulated exchange.

An order waits until the clock's next tick and meets that: the answer to a new order says that
nothing has filled. Orders with an expiration end before the first tick that comes after it. What a
market has settled at is paid once it is finalized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from event_contracts.simulation.exchange import Exchange, Listing, PlacedOrder, Settlement
from event_contracts.simulation.recorded import RecordedMarket, recorded_markets
from event_contracts.simulation.sessions import tape_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket, synthetic_session
from event_contracts.simulation.tickets import OrderRequest, Refused, Ticket
from event_contracts.trading.actions import LIFE
from event_contracts.trading.admission import PositionLimits
from event_contracts.trading.fees import NOTHING, KalshiFees
from event_contracts.trading.orders import FLAT, PAYOUT, Holding, LimitOrder, Outcome
from event_contracts.trading.venue_orders import order_request
from foundation.configuration import settings_of
from foundation.errors import InputError, OrderRejected, refuse_outside
from marketsimulator.settings import refuse_other_fees

EVENT = "SIM"  # of synthetic markets
_WITHOUT = PositionLimits(Decimal(10**9), Decimal(10**9), Decimal(1))
MarketStatus = Literal["initialized", "active", "closed", "determined", "finalized"]
Level = tuple[Decimal, Decimal]  # USD, contracts


@dataclass(frozen=True, slots=True)
class KalshiVenueSettings:
    """A practice venue of event contracts: its markets, the account, the rules.

    folder: of recorded files, see `recorded`; none: synthetic markets.
    markets: tickers of the recorded markets that are played; none: all.
    synthetic: how many synthetic markets, SIM-1, SIM-2, …, are played, 1 … 200.
    seed: of the synthetic markets.
    market: parameters of the synthetic markets.
    interval: seconds between ticks, 1 … 86,400.
    starting_cash: USD, in whole cents, above 0, 1,000,000 at most.
    life: ticks after which a resting order ends, 1 … 1,000,000; as long as the environments' unless
        it is set. Kalshi's own orders wait until they are cancelled.
    limited: whether the venue holds orders to the buffer and the limits of the environments, and
        cancels what is about to break them. Kalshi itself does neither.
    settlement: ticks from the end of trading until a market is finalized and pays, 0 … 10,000. One
        before that it is determined; 0 does all at once.
    reused_ids_refused: whether an order is refused whose client_order_id has been used. Kalshi does
        not say what becomes of one.
    fees: rates and rounding by date; those of `as_of` hold.
    """

    folder: str | None = None
    markets: tuple[str, ...] = ()
    synthetic: int = 2
    seed: int = 0
    market: SyntheticMarket = field(default_factory=SyntheticMarket)
    interval: int = 60
    starting_cash: float = 1000.0
    life: int = LIFE
    limited: bool = False
    settlement: int = 0
    reused_ids_refused: bool = True
    fees: KalshiFees = field(default_factory=KalshiFees)

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            synthetic=(1, 200),
            seed=(0, 2**62),
            interval=(1, 86_400),
            life=(1, 1e6),
            settlement=(0, 10_000),
        )
        if self.markets and self.folder is None:
            raise InputError("markets: tickers are of recorded markets; name their folder, too")
        self.episode()

    @classmethod
    def of(cls, config: DictConfig) -> KalshiVenueSettings:
        """The checked settings of a composed configuration."""
        refuse_other_fees(config, KalshiFees, "event contracts are traded for fees=kalshi")
        return settings_of(cls, config, lists=("markets",))

    def episode(self) -> EpisodeSettings:
        """Cash, fees and limits as the exchange has them."""
        own = EpisodeSettings(
            market=self.market, starting_cash=self.starting_cash, life=self.life, fees=self.fees
        )
        return own if self.limited else replace(own, limits=_WITHOUT, cash_buffer=0.0)

    def listings(self) -> list[Listing]:
        """The markets; recorded ones begin as far after the first as they did.

        Raises `InputError` for a folder without markets, or a ticker that is not in it; `DataError`
        for files that cannot be read.
        """
        if self.folder is None:
            return [self._synthetic(number) for number in range(self.synthetic)]
        step = np.timedelta64(self.interval, "s").astype("timedelta64[ns]")
        recorded = {each.market: each for each in recorded_markets(self.folder, step)}
        unknown = set(self.markets) - set(recorded)
        if unknown:
            raise InputError(f"markets: {self.folder} has no {sorted(unknown)[0]}")
        chosen = [recorded[name] for name in self.markets or recorded]
        begins = min(each.times[0] for each in chosen)
        return [_listing(each, int((each.times[0] - begins) / step)) for each in chosen]

    def _synthetic(self, number: int) -> Listing:
        tape = tape_of(synthetic_session((self.seed, number), self.market))
        return Listing(f"{EVENT}-{number + 1}", tape, event=EVENT)


def _listing(recorded: RecordedMarket, first: int) -> Listing:
    return Listing(recorded.market, tape_of(recorded.session), first, recorded.event)


class KalshiVenue:
    """The account's side of the exchange.

    exchange: matching, cash and holdings.
    paid_in: USD of deposits, less what was taken out.
    tickets: orders by order_id, in the order in which they came.

    settings: rules, and cash at the beginning.
    listings: markets.
    now: UTC, the instant of the first tick.

    Raises
    ------
    Refused
        in every method, for a ticker or an order that the venue does not know, or that has ended.
    """

    def __init__(
        self, settings: KalshiVenueSettings, listings: Sequence[Listing], now: np.datetime64
    ) -> None:
        self.settings = settings
        interval = np.timedelta64(settings.interval, "s").astype("timedelta64[ns]")
        begins = now.astype("datetime64[ns]")
        self.exchange = Exchange(listings, settings.episode(), begins, interval)
        self.paid_in = NOTHING
        self.tickets: dict[str, Ticket] = {}

    @property
    def now(self) -> np.datetime64:
        """UTC, the instant of the tick that is shown."""
        return self.exchange.now

    @property
    def payments(self) -> list[Settlement]:
        """Settlements that have been paid, in that order."""
        return [each for each in self.exchange.settlements if self.paid_at(each) <= self.now]

    @property
    def is_over(self) -> bool:
        """Whether every market has paid."""
        return len(self.payments) == len(self.exchange.listings)

    @property
    def cash(self) -> Decimal:
        """USD; resting orders are not deducted, and what is not paid yet is no cash."""
        unpaid = sum((each.payout for each in self._unpaid.values()), NOTHING)
        return self.exchange.cash + self.paid_in - unpaid

    @property
    def holdings(self) -> dict[str, Holding]:
        """What is held, by market; of one that has settled until it pays."""
        unpaid = self._unpaid
        held = {
            name: unpaid[name].held if name in unpaid else self.exchange.holding(name)
            for name in self.exchange.listings
        }
        return {name: each for name, each in held.items() if each != FLAT}

    @property
    def _unpaid(self) -> dict[str, Settlement]:
        settled = self.exchange.settlements
        return {each.market: each for each in settled if self.paid_at(each) > self.now}

    def paid_at(self, settlement: Settlement) -> np.datetime64:
        """UTC, when a market that has settled is finalized and pays."""
        return self.exchange.at(settlement.tick + self.settings.settlement)

    def listing(self, ticker: str) -> Listing:
        """A market."""
        if ticker not in self.exchange.listings:
            raise Refused(404, "not_found", f"market {ticker} not found")
        return self.exchange.listings[ticker]

    def status(self, ticker: str) -> MarketStatus:
        """How far the life of a market has come."""
        state = self.exchange.market_state(ticker)
        if state != "settled":
            return "active" if state == "open" else "initialized"
        left = self._settlement(ticker).tick + self.settings.settlement - self.exchange.tick
        if left <= 0:
            return "finalized"
        return "determined" if left == 1 else "closed"

    def outcome(self, ticker: str) -> Outcome | None:
        """What came true; nothing before a market is determined."""
        if self.status(ticker) in ("determined", "finalized"):
            return self._settlement(ticker).outcome
        return None

    def best(self, ticker: str) -> tuple[Level, Level]:
        """USD of YES and contracts of others that bid, and that ask.

        Where nobody does they are $0, or $1, and nothing.
        """
        bid, ask = (NOTHING, NOTHING), (PAYOUT, NOTHING)
        if self.status(ticker) == "active":
            quote = self.exchange.quote(ticker)
            tick = self.exchange.shown(ticker)
            if quote.yes_bid > 0 and tick["bid_size"]:
                bid = quote.yes_bid, Decimal(int(tick["bid_size"]))
            if quote.yes_ask < PAYOUT and tick["ask_size"]:
                ask = quote.yes_ask, Decimal(int(tick["ask_size"]))
        return bid, ask

    def submit(
        self, request: OrderRequest, *, partial: bool = False, reject: bool = False
    ) -> Ticket:
        """Take an order.

        partial: half of it may trade, the rest is cancelled. reject: it ends at the next tick.

        Raises `Refused` for a market that does not trade, a price between its steps, a used
        client_order_id, and an order that cash or inventory do not cover.
        """
        self.listing(request.ticker)
        if self.status(request.ticker) != "active":
            raise Refused(409, "market_closed", f"{request.ticker} is not trading")
        used = {ticket.request.client_order_id for ticket in self.tickets.values()} - {""}
        if request.client_order_id in used and self.settings.reused_ids_refused:
            raise Refused(409, "order_already_exists", "client_order_id has been used")
        if request.expiration_time is not None and request.expiration_time <= self.now:
            raise Refused(400, "invalid_parameters", "expiration_time has passed")
        count = self._covered_count(request)
        traded = max(count // 2, Decimal(1)) if partial else count
        placed = self._place(request, traded)
        name = request.client_order_id or f"venue-{len(self.tickets) + 1}"
        ticket = Ticket(request, placed, name, held_back=count - traded, refused_later=reject)
        self.tickets[ticket.order_id] = ticket
        return ticket

    def ticket(self, order_id: str) -> Ticket:
        """An order."""
        if order_id not in self.tickets:
            raise Refused(404, "not_found", f"order {order_id} not found")
        return self.tickets[order_id]

    def cancel(self, order_id: str) -> Decimal:
        """Take an order out of the book; contracts that waited."""
        ticket = self.ticket(order_id)
        if ticket.status != "resting":
            raise Refused(404, "not_found", f"order {order_id} is {ticket.status}")
        reduced = ticket.waiting
        self.exchange.cancel(order_id)
        return reduced

    def advance(self) -> None:
        """Move the clock by a tick, and let orders meet it."""
        for ticket in self.tickets.values():
            expires = ticket.request.expiration_time
            gone = expires is not None and expires < self.now + self.exchange.interval
            if gone or ticket.refused_later:
                self.exchange.cancel(ticket.order_id)
        self.exchange.advance()

    def _place(self, request: OrderRequest, count: Decimal) -> PlacedOrder:
        order = request.limit_order(request.client_order_id or "venue", count)
        if request.price % self.exchange.quote(request.ticker).tick:
            raise Refused(
                400, "invalid_price", f"price {request.price} is not on the market's ticks"
            )
        if order.action == "BUY":
            self._refuse_uncovered(order)
        try:
            return self.exchange.submit(order)
        except OrderRejected as error:
            code = "reduce_only" if order.action == "SELL" else "order_not_admitted"
            raise Refused(400, code, str(error)) from error

    def _covered_count(self, request: OrderRequest) -> Decimal:
        """Contracts of an order; one that may only reduce is cut to what no sale has reserved."""
        if not request.reduce_only:
            return request.count
        view = self.exchange.view(request.ticker)
        free = view.held(request.outcome) - view.resting_count("SELL", request.outcome)
        if free <= 0:
            raise Refused(400, "invalid_order", "reduce_only: there is no position to reduce")
        return min(request.count, free)

    def _refuse_uncovered(self, order: LimitOrder) -> None:
        """Refuse a purchase that the account has no cash for."""
        admission = self.exchange.space.admission
        free = admission.free_cash(replace(self.exchange.view(order.market), cash=self.cash))
        if admission.fees.most_cost(order.price, order.count) > free:
            raise Refused(400, "insufficient_balance", "insufficient balance")

    def _settlement(self, ticker: str) -> Settlement:
        return next(each for each in self.exchange.settlements if each.market == ticker)


def rehearse() -> None:
    """Compile what a venue needs, once: a client's first request would wait for that."""
    session = synthetic_session(0, SyntheticMarket(steps=3))
    venue = KalshiVenue(
        KalshiVenueSettings(), [Listing("SIM", tape_of(session))], np.datetime64(0, "ns")
    )
    order = LimitOrder("rehearsal", "SIM", "BUY", "YES", Decimal("0.5"), Decimal(1))
    venue.submit(OrderRequest.of(order_request(order, np.datetime64("2100-01-01", "ns"))))
    venue.advance()
