"""Trading costs: half-spread and slippage by asset class, and fees by date."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class
from trainingdata.instants import parse_date

BASIS_POINT = 1e-4


@settings_class("fees")
class DatedRate:
    """A rate in force from a New York date, inclusive, until the date of the next rate."""

    since: Annotated[str, required_setting("first date of the rate, YYYY-MM-DD")]
    # Published rates have other units: the SEC states USD per million, brokers state percent.
    rate: Annotated[float, required_setting("rate in the unit of its table", ge=0, lt=10)]
    cap: float = setting(float("inf"), "largest fee of one trade, USD", ge=0, allow_inf_nan=True)
    source: str = setting("", "publication that states the rate")
    read_on: str | None = setting(None, "date on which the source was read, YYYY-MM-DD")
    verified: bool = setting(True, "false: not confirmed by the source; reports show a warning")

    def __post_init__(self) -> None:
        parse_date(self.since)
        _check_read_date(self.read_on)


@settings_class("fees.crypto_tiers")
class CryptoTier:
    """Fees of the crypto venue from a 30-day volume upwards, deducted from the asset received."""

    volume: Annotated[
        float, required_setting("30-day volume from which the tier applies, USD", ge=0)
    ]
    maker: Annotated[
        float, required_setting("maker fee (resting order), fraction of traded value", ge=0, lt=1)
    ]
    taker: Annotated[
        float, required_setting("taker fee (immediate order), fraction of traded value", ge=0, lt=1)
    ]
    source: str = setting("", "publication that states the tier")
    read_on: str | None = setting(None, "date on which the source was read, YYYY-MM-DD")
    verified: bool = setting(True, "false: not confirmed by the source; reports show a warning")

    def __post_init__(self) -> None:
        _check_read_date(self.read_on)


def _check_read_date(read: str | None) -> None:
    if read is not None:
        parse_date(read)


@settings_class("fees")
class FeeSchedule:
    """Regulatory stock fees by date, crypto fees by trading volume, and commissions."""

    sec_per_dollar: tuple[DatedRate, ...] = setting((), "SEC section 31 fee, USD per USD of sales")
    taf_per_share: tuple[DatedRate, ...] = setting(
        (), "FINRA trading activity fee, USD per share sold"
    )
    cat_per_share: tuple[DatedRate, ...] = setting(
        (), "consolidated audit trail fee, USD per share, both sides"
    )
    crypto_tiers: tuple[CryptoTier, ...] = setting(
        (CryptoTier(0.0, 0.0015, 0.0025),), "fee tiers of the crypto venue, from volume 0 up"
    )
    commission_bps: float = setting(0.0, "commission, basis points of traded value", ge=0, lt=5000)
    commission_per_share: float = setting(0.0, "commission per share, USD", ge=0, lt=5000)

    def __post_init__(self) -> None:
        for name in ("sec_per_dollar", "taf_per_share", "cat_per_share"):
            dates = [rate.since for rate in getattr(self, name)]
            if dates != sorted(set(dates)):
                raise InputError(f"fees.{name}: dates must increase, got {', '.join(dates)}")
        volumes = [tier.volume for tier in self.crypto_tiers]
        if not volumes or volumes[0] != 0 or volumes != sorted(set(volumes)):
            raise InputError(
                f"fees.crypto_tiers: volumes must start at 0 and increase, got {volumes}"
            )

    @property
    def crypto_taker_rate(self) -> float:
        return self.crypto_tiers[0].taker

    def unverified_stock_tables(self, first: np.datetime64, last: np.datetime64) -> list[str]:
        """Return the names of stock fee tables with an unverified rate in a range of dates.

        A rate is unverified if its source does not confirm it.

        first, last: New York dates, inclusive.
        """
        tables = ("sec_per_dollar", "taf_per_share", "cat_per_share")
        return [name for name in tables if _has_unverified_rate(getattr(self, name), first, last)]

    @property
    def has_unverified_crypto_tier(self) -> bool:
        """True if at least one crypto tier is not confirmed by its source."""
        return not all(tier.verified for tier in self.crypto_tiers)


@settings_class("costs")
class TradingCosts:
    """Costs of a market order other than fees, by asset class: basis points and market impact.

    A decision accounts for the costs in basis points, but not for the market impact.
    """

    stock_half_spread_bps: float = setting(
        1.0, "half-spread of stocks, basis points of price", ge=0, lt=5000
    )
    stock_slippage_bps: float = setting(
        1.0,
        "adverse price move of stocks until an order arrives, basis points of price",
        ge=0,
        lt=5000,
    )
    stock_impact: float = setting(
        0.0,
        "market impact of stocks: coefficient c of the square-root law, c · volatility of a bar · "
        "√(fraction of its volume), fraction of price (Almgren et al. 2005); about 1 is usual",
        ge=0,
        lt=5000,
    )
    crypto_half_spread_bps: float = setting(
        2.0, "half-spread of crypto, basis points of price", ge=0, lt=5000
    )
    crypto_slippage_bps: float = setting(
        1.0,
        "adverse price move of crypto until an order arrives, basis points of price",
        ge=0,
        lt=5000,
    )
    crypto_impact: float = setting(
        0.0, "market impact of crypto: coefficient as in stock_impact", ge=0, lt=5000
    )

    def impact_coefficient(self, crypto: npt.NDArray[np.bool_]) -> Array:
        """Return the coefficient [S] of the square-root law of market impact."""
        return np.where(crypto, self.crypto_impact, self.stock_impact)

    def half_spread(self, crypto: npt.NDArray[np.bool_]) -> Array:
        """Return the half-spread [S], a fraction of price."""
        points = np.where(crypto, self.crypto_half_spread_bps, self.stock_half_spread_bps)
        return points * BASIS_POINT

    def slippage(self, crypto: npt.NDArray[np.bool_]) -> Array:
        """Return the slippage [S], a fraction of price."""
        points = np.where(crypto, self.crypto_slippage_bps, self.stock_slippage_bps)
        return points * BASIS_POINT

    def expected_cost(self, crypto: npt.NDArray[np.bool_], fees: FeeSchedule) -> Array:
        """Return the expected cost [S] of trading one USD, as used in decisions.

        The cost is the sum of half-spread, slippage, commission and taker fee. Regulatory fees on
        stocks (below 0.3 basis points of a sale) are not included here, although the simulation
        books them for each trade.
        """
        # A decision sends market orders, which take liquidity, so crypto pays the taker fee; the
        # first tier is that of an account without volume.
        commission = fees.commission_bps * BASIS_POINT
        fee = np.where(crypto, fees.crypto_taker_rate + commission, commission)
        return self.half_spread(crypto) + self.slippage(crypto) + fee


def _has_unverified_rate(
    rates: tuple[DatedRate, ...], first: np.datetime64, last: np.datetime64
) -> bool:
    """Return whether an unverified rate is in force on a date from `first` to `last`."""
    begins = [np.datetime64(rate.since, "D") for rate in rates]
    ends = [*begins[1:], last + 1]
    return any(
        not rate.verified and begin <= last and first < end
        for rate, begin, end in zip(rates, begins, ends, strict=False)
    )


def rates_and_caps_on(
    rates: tuple[DatedRate, ...], dates: npt.NDArray[np.datetime64], default: float = 0.0
) -> tuple[Array, Array]:
    """Return the rate and the cap in force on each New York date, [D] each.

    default: rate before the first date of the table, where there is no cap.
    """
    if not rates:
        return np.full(len(dates), default), np.full(len(dates), np.inf)
    since = np.array([rate.since for rate in rates], dtype="datetime64[D]")
    row = np.searchsorted(since, dates, side="right")
    values = np.array([default, *(rate.rate for rate in rates)])
    caps = np.array([np.inf, *(rate.cap for rate in rates)])
    return values[row], caps[row]
