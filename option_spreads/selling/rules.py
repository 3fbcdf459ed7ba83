"""Entry and exit rules of credit spreads on same-day index options.

The live seller and the backtest share these rules. Prices are points of the index per share; a
contract is for a hundred shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field

from execution.orders.option_orders import SHARES_PER_OPTION, OptionContract, OptionLeg
from execution.orders.orders import Side
from foundation.arrays import Array
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from option_spreads.autoscaler.rules import WIDTH_POINTS_BY_STRATEGY, parse_strategy
from trainingdata.sessions import Session

ExitReason = Literal["stop", "gap", "target", "trailing", "time", "expired", "settled", "flattened"]
Number = TypeVar("Number", float, Array)

SESSION_MINUTES = 390  # minutes from 09:30 to 16:00
TRADING_DAYS = 252
SessionMinute = Annotated[float, Field(ge=0, le=SESSION_MINUTES)]  # minutes after 09:30
UnitFraction = Annotated[float, Field(gt=0, le=1)]

# Implied by prints of same-day S&P 500 options (docs/STUDIES.md): volatility at the money as a
# multiple of the volatility index, and the session's share of a day's variance.
DEFAULT_VIX_MULTIPLE = 0.8
DEFAULT_SESSION_VARIANCE_SHARE = 0.65

# Share of a session's variance in each of its hours; the last is half an hour. SPY against its
# volatility index, 2023-04 to 2024-12, each ± 0.01 to 0.02 (docs/STUDIES.md).
HOURLY_VARIANCE_SHARES = (0.245, 0.150, 0.105, 0.105, 0.140, 0.130, 0.125)

# Distance of the short strikes from the index, in standard deviations to the close.
DEFAULT_STRIKE_DISTANCES = {"CALL": 0.6, "PUT": 0.6, "IRON_CONDOR": 0.8, "OTM_SINGLE_SIDED": 1.0}

# Distance of a strike from the closing price within which assignment is uncertain, as a fraction
# of the price.
ASSIGNMENT_UNCERTAINTY_BAND = 0.002

# Minutes before the close from which on a broker takes no orders for options that then expire.
# Alpaca, "How To Trade 0DTE Options on Alpaca", read on 2026-11-23: until 15:15 New York time, for
# broad ETFs ("SPY, QQQ, etc") until 15:30; from 15:30 and 15:45 on it begins to liquidate expiring
# options. This applies to openings and closings alike. The page does not mention half-days, for
# which the same distance is assumed, nor other ETFs, nor index options: they settle in cash, and
# are assumed to trade until the close.
STOCK_ORDER_CUTOFF_MINUTES = 45.0
BROAD_ETF_ORDER_CUTOFF_MINUTES = 30.0
_BROAD_ETFS = frozenset({"SPY", "QQQ"})
_CASH_SETTLED_ROOTS = frozenset(
    {
        *("SPX", "SPXW", "XSP", "OEX", "XEO", "DJX", "VIX", "VIXW"),
        *("NDX", "NDXP", "XND", "RUT", "RUTW", "MRUT"),
    }
)


@dataclass(frozen=True, slots=True)
class StrikeLeg:
    """A leg of a spread, defined by strike and side, without root and expiry.

    strike: strike price, points of the index.
    is_call: true for calls, false for puts.
    side: `sell` for a short leg, `buy` for the leg that protects it.
    """

    strike: float
    is_call: bool
    side: Side

    def __str__(self) -> str:
        return f"{self.side} {self.strike:g} {'call' if self.is_call else 'put'}"

    @property
    def is_short(self) -> bool:
        return self.side == "sell"


@dataclass(frozen=True, slots=True)
class Spread:
    """A credit spread: on each side a short option, and a long option that limits its loss.

    strategy: CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED.
    legs: short leg, then long leg, of each side; an iron condor has a call side and a put side.
    """

    strategy: str
    legs: tuple[StrikeLeg, ...]

    def __post_init__(self) -> None:
        shorts = sum(leg.is_short for leg in self.legs)
        if len(self.legs) not in (2, 4) or shorts * 2 != len(self.legs):
            raise InputError(
                f"{self.strategy}: each side of a spread needs one sold option and one"
                " bought option further out"
            )
        for short, long in self.vertical_legs:
            # A long leg nearer to the index than the short one, or of the other kind, caps no loss:
            # the width would understate the risk that contracts are sized from.
            beyond = (long.strike > short.strike) if short.is_call else (long.strike < short.strike)
            if not (
                short.is_short and not long.is_short and short.is_call == long.is_call and beyond
            ):
                raise InputError(
                    f"{self.strategy}: the long strike {long.strike:g} does not cover"
                    f" the short strike {short.strike:g}"
                )

    @property
    def vertical_legs(self) -> tuple[tuple[StrikeLeg, StrikeLeg], ...]:
        """Return a (short leg, long leg) pair for the call side, the put side or both."""
        return tuple(zip(self.legs[::2], self.legs[1::2], strict=True))

    @property
    def strikes_label(self) -> str:
        """Return the strikes of the legs as text, separated by slashes."""
        return "/".join(f"{leg.strike:g}" for leg in self.legs)

    @property
    def width(self) -> float:
        """Return the points between a side's strikes; for an iron condor, of its wider side."""
        return max(abs(long.strike - short.strike) for short, long in self.vertical_legs)

    @property
    def collateral(self) -> Decimal:
        """Return the collateral per contract, USD: the width; the credit is not deducted."""
        return Decimal(str(self.width)) * SHARES_PER_OPTION

    def affordable_contracts(self, buying_power: Decimal | Fraction) -> int:
        """Return the number of contracts whose collateral a buying power in USD covers."""
        # The credit is excluded, because it depends on the fill.
        return max(int(Fraction(buying_power) // Fraction(self.collateral)), 0)

    def settlement_value(self, index_close: float) -> float:
        """Return the amount that the seller pays at cash settlement, points.

        index_close: level of the index at the close, points.
        """
        worths = (
            index_close - leg.strike if leg.is_call else leg.strike - index_close
            for leg in self.legs
        )
        signs = (1 if leg.is_short else -1 for leg in self.legs)
        return math.fsum(sign * max(worth, 0.0) for sign, worth in zip(signs, worths, strict=True))

    def may_deliver_shares(self, stock_price: float) -> bool:
        """Return whether shares may be delivered if the options expire at this stock price.

        Shares are delivered if a short option expires in the money and its long option does not; if
        both do, the shares offset. Near a strike delivery is uncertain: holders may exercise after
        the close, and the last bar of a feed is not the official price.
        """
        near = ASSIGNMENT_UNCERTAINTY_BAND * stock_price
        for short, long in self.vertical_legs:
            beyond = stock_price if short.is_call else -stock_price
            sold, bought = (leg.strike if leg.is_call else -leg.strike for leg in (short, long))
            if beyond > sold - near and not beyond > bought + near:
                return True
        return False


def find_opposite_leg(spread: Spread, open_spreads: Iterable[Spread]) -> StrikeLeg | None:
    """Return the first leg that would close an open leg in place of opening one; None if none.

    The venue nets options: an order that buys an option that another spread has sold would reduce
    that position, and leave the other spread without its leg.

    open_spreads: spreads of the same root and expiry, also those with an order in flight.
    """
    held = {(leg.strike, leg.is_call, leg.side) for each in open_spreads for leg in each.legs}
    opposite: dict[Side, Side] = {"buy": "sell", "sell": "buy"}
    return next(
        (leg for leg in spread.legs if (leg.strike, leg.is_call, opposite[leg.side]) in held), None
    )


def build_spread(
    strategy: str, spot: float, *, distance: float, width: float, strike_step: float = 5.0
) -> Spread:
    """Build the spread that a strategy sells at this level of the index; amounts are points.

    CALL sells above the index, PUT below the index, IRON_CONDOR on both sides. OTM_SINGLE_SIDED is
    a PUT with a larger distance and width.

    spot: level of the index.
    distance: distance of the short strikes from the index, before rounding.
    width: distance of a long strike from its short strike.
    strike_step: step between listed strikes; short strikes are rounded to it, away from the index.

    Raises InputError for an unknown strategy, and for amounts that do not fit the index.
    """
    name = parse_strategy(strategy)
    if not (distance >= 0 and width > 0 and strike_step > 0 and spot > distance + width):
        raise InputError(
            f"{name}: distance {distance}, width {width} and strike step {strike_step} are"
            f" invalid for an index of {spot}; the step and width must be above 0, and distance"
            " plus width below the index"
        )
    above = math.ceil((spot + distance) / strike_step) * strike_step
    below = math.floor((spot - distance) / strike_step) * strike_step
    calls = (StrikeLeg(above, True, "sell"), StrikeLeg(above + width, True, "buy"))
    puts = (StrikeLeg(below, False, "sell"), StrikeLeg(below - width, False, "buy"))
    legs = {"CALL": calls, "PUT": puts, "OTM_SINGLE_SIDED": puts, "IRON_CONDOR": (*calls, *puts)}
    return Spread(name, legs[name])


def remaining_variance_share(minutes_to_close: Number) -> Number:
    """Return the share of a session's variance that occurs in its last minutes.

    It is interpolated from HOURLY_VARIANCE_SHARES.

    minutes_to_close: minutes to the close, 0 to 390.
    """
    ends = np.minimum(60.0 * np.arange(len(HOURLY_VARIANCE_SHARES) + 1), SESSION_MINUTES)
    passed = np.concatenate([[0.0], np.cumsum(HOURLY_VARIANCE_SHARES)])
    left: Number = 1.0 - np.interp(SESSION_MINUTES - minutes_to_close, ends, passed)
    return left


@settings_class("implied")
class ImpliedVolatility:
    """At-the-money implied volatility of same-day options, and its variance over a session."""

    vix_multiple: float = setting(
        DEFAULT_VIX_MULTIPLE,
        "at-the-money volatility, as a multiple of the volatility index",
        ge=0,
        le=10,
    )
    session_variance_share: float = setting(
        DEFAULT_SESSION_VARIANCE_SHARE,
        "fraction of a day's variance between open and close (SPY: 0.64)",
        ge=0,
        le=1,
    )

    def remaining_variance_days(self, minutes_to_close: Number) -> Number:
        """Return the share of a day's variance that falls in the last `minutes_to_close`."""
        return remaining_variance_share(minutes_to_close) * self.session_variance_share

    def remaining_variance_years(self, minutes_to_close: Number) -> Number:
        """Return the share of a year's variance that falls in the last `minutes_to_close`.

        Option prices use it as the time to expiry in years.
        """
        return self.remaining_variance_days(minutes_to_close) / TRADING_DAYS

    def annual_standard_deviation(self, vix: Number, index: float = 1.0) -> Number:
        """Return the implied standard deviation of the index at the money, points per year.

        With an index of 1 the result is the annualised implied volatility.

        vix: volatility index, points.
        index: level of the index, points.
        """
        return index * self.vix_multiple * vix / 100

    def standard_deviation_to_close(self, index: float, vix: float, minute: float) -> float:
        """Return the implied standard deviation of the index from a minute to the close, points.

        index, vix: index and volatility index, points.
        minute: minutes after 09:30.
        """
        return self.annual_standard_deviation(vix, index) * math.sqrt(
            self.remaining_variance_years(SESSION_MINUTES - minute)
        )


@settings_class("rules")
class SpreadRules:
    """Rules of one strategy: when to sell a spread, and when to buy it back."""

    strategy: str = setting("PUT", "CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED", key=False)
    distance: float | None = setting(
        None,
        "distance from the index to the short strikes, in standard deviations to the"
        " close; null: the strategy's default",
        ge=0,
        lt=100,
    )
    width: float | None = setting(
        None,
        "width between the strikes of a side, points; null: the strategy's default",
        gt=0,
        lt=1e4,
    )
    strike_step: float = setting(5.0, "step between listed strikes, points", ge=0.01, le=1e3)
    entry_minutes: tuple[Annotated[int, Field(ge=0, lt=SESSION_MINUTES)], ...] = setting(
        (30, 120, 210), "entry times, each in minutes after 09:30, 0 to 389", min_length=1
    )
    min_vix: float = setting(0.0, "minimum volatility index for an entry, points")
    max_vix: float = setting(35.0, "maximum volatility index for an entry, points")
    min_credit: float = setting(0.1, "minimum credit for an entry, points", ge=0, le=1e4)
    stop_multiple: float | None = setting(
        2.0,
        "loss at which a spread is bought back, as a multiple of its credit; the tighter of"
        " the two stops applies",
        gt=0,
    )
    stop_usd: float | None = setting(
        150.0, "loss at which a spread is bought back, USD per contract", gt=0
    )
    target: float | None = setting(
        0.75, "profit at which a spread is bought back, as a share of its credit", gt=0, le=1
    )
    trail_start: float | None = setting(
        0.4, "profit that arms the trailing stop, as a share of the credit", gt=0, le=1
    )
    trail_giveback: float = setting(
        0.2,
        "drop from the best profit at which the armed trailing stop buys back, as a"
        " share of the credit",
        gt=0,
        le=1,
    )
    hold_to_close: tuple[tuple[SessionMinute, UnitFraction], ...] = setting(
        ((240, 0.6), (300, 0.45), (345, 0.3)),
        "pairs of a minute after 09:30 and a share of the credit: from that minute on, a"
        " spread with at least that profit is held to the close, with its stops kept",
    )
    exit_minute: float | None = setting(
        None,
        "minute after 09:30 from which all spreads are bought back, for options that deliver"
        " shares; null: hold to cash settlement",
        gt=0,
        lt=SESSION_MINUTES,
    )

    def __post_init__(self) -> None:
        if len(set(self.entry_minutes)) < len(self.entry_minutes):
            raise InputError(
                f"rules.entry_minutes: {list(self.entry_minutes)} contains a duplicate; remove it"
            )
        if self.min_vix > self.max_vix:
            raise InputError(
                f"rules.min_vix: {self.min_vix:g} is above rules.max_vix, {self.max_vix:g}: no"
                " spread would be sold"
            )
        parse_strategy(self.strategy)
        minutes = [minute for minute, _ in self.hold_to_close]
        if minutes != sorted(minutes):
            raise InputError(f"rules.hold_to_close: minutes {minutes} must be in ascending order")

    @property
    def distance_and_width(self) -> tuple[float, float]:
        """Return the short strikes' distance in standard deviations, and the width in points.

        Each is the strategy's default if it is not set.
        """
        name = parse_strategy(self.strategy)
        distance = DEFAULT_STRIKE_DISTANCES[name] if self.distance is None else self.distance
        width = WIDTH_POINTS_BY_STRATEGY[name] if self.width is None else self.width
        return distance, width

    @property
    def last_entry_minute(self) -> float:
        """Return the minute after 09:30 from which no spread is sold."""
        return SESSION_MINUTES if self.exit_minute is None else self.exit_minute

    def propose_spread(self, spot: float, vix: float, deviation_to_close: float) -> Spread | None:
        """Return the spread to sell; None if the volatility index is outside the rules' bounds.

        spot, vix: index and volatility index, points.
        deviation_to_close: standard deviation of the index to the close, points.
        """
        if not self.min_vix <= vix <= self.max_vix:
            return None
        distance, width = self.distance_and_width
        return build_spread(
            self.strategy,
            spot,
            distance=distance * deviation_to_close,
            width=width,
            strike_step=self.strike_step,
        )

    def accepts_credit(self, credit: float, spread: Spread) -> bool:
        """Return whether a spread may be sold at this credit, points.

        The credit must be at least `min_credit` and less than the width.
        """
        # A credit of the whole width leaves no risk to size contracts from.
        return self.min_credit <= credit < spread.width

    def check_entry_times(self, last_order_minute: float = SESSION_MINUTES) -> None:
        """Raise InputError for entry times at which no spread can be sold.

        last_order_minute: minute after 09:30 from which the broker accepts no orders.
        """
        latest = min(self.last_entry_minute, last_order_minute)
        if late := [minute for minute in self.entry_minutes if minute >= latest]:
            reason = (
                "the broker accepts no orders from"
                if last_order_minute < self.last_entry_minute
                else "the session ends at"
                if self.exit_minute is None
                else "rules.exit_minute ends sales at"
            )
            raise InputError(
                f"rules.entry_minutes: no spread can be sold at {late}, because {reason} minute"
                f" {latest:g}; choose earlier minutes"
            )

    def must_exit(self, minute: float) -> bool:
        """Return whether spreads must be bought back at this minute after 09:30, at any profit."""
        return self.exit_minute is not None and minute >= self.exit_minute

    def find_exit_reason(
        self, credit: float, cost: float, previous_cost: float, best_profit: float, minute: float
    ) -> ExitReason | None:
        """Return the reason to buy a spread back, or None to keep it. Amounts are points.

        credit: credit of the sale.
        cost: current cost of buying the spread back.
        previous_cost: cost of buying the spread back at the previous poll.
        best_profit: highest profit of any poll, including this one.
        minute: minutes after 09:30.
        """
        profit = credit - cost
        # Stops come first, so that a profit that is held to the close does not disable them.
        stop = self._stop_loss(credit)
        if -profit >= stop:
            # A cost that rose by more than the whole stop since the last poll has jumped over it:
            # the excess is lost as well, and the exit has its own name.
            return "gap" if cost - previous_cost > stop else "stop"
        # Options that deliver shares must be closed before the close, whatever their profit.
        if self.must_exit(minute):
            return "time"
        held = [share for since, share in self.hold_to_close if minute >= since]
        if held and profit >= held[-1] * credit:
            return None
        if self.target is not None and profit >= self.target * credit:
            return "target"
        armed = self.trail_start is not None and best_profit >= self.trail_start * credit
        if armed and best_profit - profit >= self.trail_giveback * credit:
            return "trailing"
        return None

    def _stop_loss(self, credit: float) -> float:
        """Return the loss in points at which a spread is bought back; infinity without a stop."""
        limits = []
        # A spread without a credit would be at a multiple of it from the start.
        if self.stop_multiple is not None and credit:
            limits.append(self.stop_multiple * credit)
        if self.stop_usd is not None:
            limits.append(self.stop_usd / SHARES_PER_OPTION)
        return min(limits, default=math.inf)


@settings_class("costs")
class SpreadCosts:
    """Trading costs of a spread. Each order pays fees; cash settlement does not."""

    slippage: float = setting(
        0.05, "slippage per leg, points from the mid price, for simulated prices", ge=0, le=1e3
    )
    commission: float = setting(
        0.65, "broker's commission, USD per contract, leg and order", ge=0, le=1e3
    )
    fee: float = setting(
        0.65, "exchange and OCC fees, USD per contract, leg and order", ge=0, le=1e3
    )

    def compute_fees(self, spread: Spread, order_count: int) -> Decimal:
        """Return commission and fees of `order_count` orders in a spread, USD per contract."""
        a_leg = Decimal(str(self.commission)) + Decimal(str(self.fee))
        return a_leg * len(spread.legs) * order_count


def build_option_legs(spread: Spread, root: str, expiry: date) -> tuple[OptionLeg, ...]:
    """Return a spread's legs as option contracts of a root and an expiry, in the same order."""
    return tuple(
        OptionLeg(OptionContract(root, expiry, leg.is_call, Decimal(str(leg.strike))), leg.side)
        for leg in spread.legs
    )


def minutes_since_open(session: Session, at: np.datetime64) -> float:
    """Return the minutes from a session's open to an instant."""
    return float((at - session.opens) / np.timedelta64(1, "m"))


def default_order_cutoff_minutes(root: str) -> float:
    """Return how many minutes before the close expiring options stop taking orders at Alpaca.

    root: root of the options' symbols, such as SPY or SPXW.
    """
    if root in _CASH_SETTLED_ROOTS:
        return 0.0
    return BROAD_ETF_ORDER_CUTOFF_MINUTES if root in _BROAD_ETFS else STOCK_ORDER_CUTOFF_MINUTES


def order_cutoff_time(session: Session, cutoff_minutes: float) -> np.datetime64:
    """Return the instant from which a broker refuses orders for options that expire in a session.

    cutoff_minutes: minutes before the session's close.
    """
    return session.closes - np.timedelta64(round(cutoff_minutes * 60_000), "ms")
