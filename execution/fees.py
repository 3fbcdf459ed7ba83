"""What trading costs: spread and slippage in basis points by class, and fees by date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainingdata.errors import InputError

Array = npt.NDArray[np.float64]
BASIS_POINT = 1e-4


@dataclass(frozen=True, slots=True)
class DatedRate:
    """A rate in force from a New York date (inclusive) until the next one. cap: most a trade pays, USD."""

    since: str
    rate: float
    cap: float = float("inf")

    def __post_init__(self) -> None:
        try:
            np.datetime64(self.since, "D")
        except ValueError:
            raise InputError(f"fees: since {self.since!r} is no date (YYYY-MM-DD)") from None
        if not (self.rate >= 0 and self.cap >= 0):
            raise InputError(f"fees: rate {self.rate} or cap {self.cap} since {self.since} is negative")


@dataclass(frozen=True, slots=True)
class DayFees:
    """The rates of one date: sec per USD sold, taf per share sold up to taf_cap a trade, cat per share traded."""

    sec: float
    taf: float
    taf_cap: float
    cat: float


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """Regulatory fees on stocks by date, and the coin venue's taker fee.

    sec_per_dollar: SEC section 31, on sales. taf_per_share: FINRA trading activity fee, on sales. cat_per_share:
    consolidated audit trail, both sides. crypto_taker: fraction of what is traded.
    """

    sec_per_dollar: tuple[DatedRate, ...] = ()
    taf_per_share: tuple[DatedRate, ...] = ()
    cat_per_share: tuple[DatedRate, ...] = ()
    crypto_taker: float = 0.0025

    def __post_init__(self) -> None:
        for name in ("sec_per_dollar", "taf_per_share", "cat_per_share"):
            dates = [rate.since for rate in getattr(self, name)]
            if dates != sorted(set(dates)):
                raise InputError(f"fees.{name}: dates must increase, got {', '.join(dates)}")
        if not 0 <= self.crypto_taker < 1:
            raise InputError(f"fees.crypto_taker: {self.crypto_taker} is outside 0 … 1")

    def on(self, date: np.datetime64) -> DayFees:
        """The rates in force on a New York date."""
        taf = _in_force(self.taf_per_share, date)
        return DayFees(
            sec=_in_force(self.sec_per_dollar, date).rate,
            taf=taf.rate,
            taf_cap=taf.cap,
            cat=_in_force(self.cat_per_share, date).rate,
        )


@dataclass(frozen=True, slots=True)
class TradingCosts:
    """Basis points of price that a market order pays beside fees, by class."""

    stock_half_spread_bps: float = 1.0
    stock_slippage_bps: float = 1.0
    crypto_half_spread_bps: float = 2.0
    crypto_slippage_bps: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0 <= getattr(self, name) < 5_000:
                raise InputError(f"costs.{name}: {getattr(self, name)} is outside 0 … 5000")

    def half_spread(self, crypto: npt.NDArray[np.bool_]) -> Array:
        """[S] fraction of price."""
        return np.where(crypto, self.crypto_half_spread_bps, self.stock_half_spread_bps) * BASIS_POINT

    def slippage(self, crypto: npt.NDArray[np.bool_]) -> Array:
        """[S] fraction of price."""
        return np.where(crypto, self.crypto_slippage_bps, self.stock_slippage_bps) * BASIS_POINT

    def expected(self, crypto: npt.NDArray[np.bool_], fees: FeeSchedule) -> Array:
        """[S] cost of trading one USD that a decision reckons with: half-spread, slippage and the taker fee.

        Regulatory fees on stocks (below 0.3 basis points of a sale) are left out of the decision, not of the ledger.
        """
        return self.half_spread(crypto) + self.slippage(crypto) + np.where(crypto, fees.crypto_taker, 0.0)


def _in_force(rates: tuple[DatedRate, ...], date: np.datetime64) -> DatedRate:
    past = [rate for rate in rates if np.datetime64(rate.since, "D") <= date]
    return past[-1] if past else DatedRate("1900-01-01", 0.0)
