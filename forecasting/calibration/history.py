"""Bars and base forecasts of an asset class: regression inputs known at each bar, and outcomes.

Dimensions: S symbols, M bars of all symbols, N base forecasts, n rows, H steps, K trailing
averages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from forecasting.calibration.dispersion import CalibrationSample
from forecasting.calibration.variance import (
    IntradaySlots,
    estimate_bar_variances,
    trailing_variance_averages,
)
from forecasting.forecast import HORIZON
from forecasting.moments import LogReturnMoments
from forecasting.windows import WindowKeys, mix_bits
from foundation.arrays import Array, Array32, Index, Instants
from foundation.errors import DataError
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import format_utc
from trainingdata.instruments import AssetClass
from trainingdata.timeframe import Timeframe

# log variance of a bar below which a symbol carries no information
MIN_LOG_VARIANCE = 2 * np.log(1e-7)
DIGEST_SEEDS = (
    0x243F6A8885A308D3,
    0x13198A2E03707344,
)  # seeds of two 64-bit digests: first digits of pi
_EMPTY = np.empty(0)
_NO_FORECASTS = np.empty((0, HORIZON), dtype=np.float32)
_NO_INDICES = np.empty(0, dtype=np.int64)
_NO_TIMES = np.empty(0, dtype="datetime64[ns]")


@dataclass(frozen=True, eq=False, slots=True)
class AssetClassHistory:
    """The bars and base forecasts of one asset class, concatenated by symbol.

    kind: asset class.
    timeframe: timeframe of the bars.
    panel_symbol_indices: [S] index of each symbol in the panel, increasing.
    symbols: [S] names of the symbols.
    bar_offsets: [S + 1] position of each symbol's first bar.
    times: [M] instant at which each bar became known.
    cumulative_bar_digests: [M + 1, 2] cumulative digests of the preceding bars; the digest of a
        range of bars is the difference of two of them.
    log_close: [M] log of the close.
    bar_variances: [M] variance of each bar's log return.
    intraday_slots: [T, 1 + H] intraday slot of the bar at each instant of the trading clock, and of
        the next H bars.
    clock_index: [M] index of each bar's instant on that clock.
    first_forecast_bar: [S] index of the bar with the first base forecast, among each symbol's bars.
    forecast_end_bar: [S] index after the bar with the last base forecast; all bars between have
        one too.
    forecast_offsets: [S] position of each symbol's first base forecast.
    forecast_median, forecast_log_variance: [N, H] median and log variance of the log return in each
        base forecast, for all asset classes.
    first_step_median_to_deviation: [N] median of the first step divided by its deviation. It is 0
        without a forecast, for another asset class, and for a symbol whose price does not move,
        because its ratio would be rounding error.
    """

    kind: AssetClass
    timeframe: Timeframe
    panel_symbol_indices: Index
    symbols: tuple[str, ...]
    bar_offsets: Index
    times: Instants
    cumulative_bar_digests: WindowKeys
    log_close: Array
    bar_variances: Array
    intraday_slots: IntradaySlots
    clock_index: Index
    first_forecast_bar: Index = field(default_factory=lambda: _NO_INDICES)
    forecast_end_bar: Index = field(default_factory=lambda: _NO_INDICES)
    forecast_offsets: Index = field(default_factory=lambda: _NO_INDICES)
    forecast_median: Array32 = field(default_factory=lambda: _NO_FORECASTS)
    forecast_log_variance: Array32 = field(default_factory=lambda: _NO_FORECASTS)
    first_step_median_to_deviation: Array = field(default_factory=lambda: _EMPTY)

    @classmethod
    def from_bars(cls, kind: AssetClass, bars: Bars) -> AssetClassHistory:
        """Build the history of an asset class from a panel, without forecasts."""
        members = np.flatnonzero(bars.crypto == (kind is AssetClass.CRYPTO))
        tables = [bars.bars_of_symbol(s) for s in members.tolist()]
        times = np.concatenate([_NO_TIMES, *(own for own, _ in tables)])
        clock = bars.times[bars.mask[members].any(axis=0)]
        column = np.searchsorted(clock, times)
        digest = np.zeros((1 + len(times), len(DIGEST_SEEDS)), dtype=np.uint64)
        if tables:
            digests = [_digests(own, values) for own, values in tables]
            np.cumsum(np.concatenate(digests), axis=0, out=digest[1:])
        return cls(
            kind=kind,
            timeframe=bars.timeframe,
            panel_symbol_indices=members,
            symbols=tuple(bars.symbols[s] for s in members.tolist()),
            bar_offsets=np.cumsum([0, *(len(own) for own, _ in tables)]),
            times=times,
            cumulative_bar_digests=digest,
            log_close=np.concatenate([_EMPTY, *(np.log(own[:, CLOSE]) for _, own in tables)]),
            bar_variances=np.concatenate(
                [_EMPTY, *(estimate_bar_variances(own) for _, own in tables)]
            ),
            intraday_slots=bars.clock(kind).slot_indices(clock, HORIZON),
            clock_index=column,
        )

    def with_forecasts(self, base: LogReturnMoments) -> AssetClassHistory:
        """Return a copy of the history with base forecasts.

        base: moments of the forecasts for the panel, one at every bar from a symbol's first to its
            last.

        Raises DataError for a bar without a forecast.
        """
        parts = base.windows.slices_by_symbol()
        first, end = [], []
        first_step = np.zeros(len(base.windows))
        plain = np.ones(len(self.intraday_slots))
        for member, (s, own) in enumerate(self.iterate_bar_times()):
            symbol = self.symbols[member]
            last = base.windows.last_bar_index[parts[s]]
            # Fits find a forecast by its bar index: after a gap they would read the wrong forecast.
            gaps = np.flatnonzero(np.diff(last) != 1)
            if len(gaps):
                missing = format_utc(own[last[gaps[0]] + 1])
                raise DataError(
                    f"calibration: forecaster {base.name} has no forecast for {symbol} at"
                    f" {missing}, but one is needed at every bar between the symbol's first and"
                    " last forecast; add it, or set forecaster.calibrated=false"
                )
            first.append(int(last[0]) if len(last) else len(own))
            end.append(int(last[-1]) + 1 if len(last) else len(own))
            recent = trailing_variance_averages(
                self.bar_variances,
                self.clock_index,
                plain,
                self.bar_offsets[:-1],
                np.full(len(last), member),
                self.bar_offsets[member] + last,
            )
            rows = parts[s].start + np.flatnonzero(recent[:, -1] >= np.exp(MIN_LOG_VARIANCE))
            deviation = np.exp(base.log_variance[rows, 0] / 2)
            first_step[rows] = np.nan_to_num(base.median[rows, 0] / deviation)
        return replace(
            self,
            first_forecast_bar=np.array(first, dtype=np.int64),
            forecast_end_bar=np.array(end, dtype=np.int64),
            forecast_offsets=np.array(
                [parts[s].start for s in self.panel_symbol_indices.tolist()], dtype=np.int64
            ),
            forecast_median=base.median,
            forecast_log_variance=base.log_variance,
            first_step_median_to_deviation=first_step,
        )

    @property
    def slot_count(self) -> int:
        """Number of intraday slots in a day."""
        return self.timeframe.clock(self.kind).slot_count

    def iterate_bar_times(self) -> Iterator[tuple[int, Instants]]:
        """Yield each symbol's index in the panel, and the instants when its bars became known."""
        spans = zip(
            self.panel_symbol_indices.tolist(), self.bar_offsets, self.bar_offsets[1:], strict=False
        )
        return ((s, self.times[first:stop]) for s, first, stop in spans)

    def count_known_bars(self, now: np.datetime64) -> Index:
        """Return the number of each symbol's bars that were known at an instant, [S]."""
        counts = [np.searchsorted(own, now, side="right") for _, own in self.iterate_bar_times()]
        return np.array(counts, dtype=np.int64)

    def fit_key(self, week: np.datetime64) -> str:
        """Return the digest of the bars known at the start of a week, the key of its fit."""
        # The numbers of bars are part of the key, because a fit stores the index of the first bar
        # in its averages.
        ends = self.count_known_bars(week)
        bars = (
            self.cumulative_bar_digests[self.bar_offsets[:-1] + ends]
            - self.cumulative_bar_digests[self.bar_offsets[:-1]]
        )
        what = f"{self.timeframe.name} {week} {self.symbols} {ends.tolist()} ".encode()
        return hashlib.sha256(what + bars.tobytes()).hexdigest()

    def slice_first_step_ratios(self, starts: Index, stops: Index) -> list[Array]:
        """Return the `first_step_median_to_deviation` values in a range of each symbol's bars.

        starts, stops: [S] first bar of each symbol, and end of its bars (exclusive).
        """
        rows = self.forecast_offsets - self.first_forecast_bar
        spans = zip(
            rows + np.clip(starts, self.first_forecast_bar, self.forecast_end_bar),
            rows + np.clip(stops, self.first_forecast_bar, self.forecast_end_bar),
            strict=True,
        )
        return [self.first_step_median_to_deviation[first:stop] for first, stop in spans]


def build_sample(
    history: AssetClassHistory,
    first_bar_index: Index,
    symbol_index: Index,
    bar_index: Index,
    pattern: Array,
) -> CalibrationSample:
    """Build the regression inputs of n forecasts from data known when they were issued.

    history: bars and base forecasts of the asset class.
    first_bar_index: [S] index of each symbol's first bar in the trailing averages.
    symbol_index: [n] index of each forecast's symbol in the class, nondecreasing.
    bar_index: [n] index of the issuing bar among the symbol's bars, increasing within a symbol.
    pattern: [K] intraday pattern: relative variance per bar by slot.
    """
    # The averages use no bar before `since`: the result is a function of the last bars, whatever
    # the length of the loaded history.
    bar = history.bar_offsets[symbol_index] + bar_index
    row = (
        history.forecast_offsets[symbol_index]
        + bar_index
        - history.first_forecast_bar[symbol_index]
    )
    first = history.bar_offsets[:-1] + first_bar_index
    column = history.clock_index[bar]
    by_instant = pattern[history.intraday_slots]
    # `trailing_variance_averages` would be compiled again for a strided array.
    of_day = np.ascontiguousarray(by_instant[:, 0])
    past_variance = trailing_variance_averages(
        history.bar_variances, history.clock_index, of_day, first, symbol_index, bar
    )
    season = np.cumsum(by_instant[column, 1:], axis=1)
    return CalibrationSample(
        log_trailing_variances=np.log(past_variance),
        # The base forecaster's variance covers the whole horizon, so it is divided by the pattern's
        # sum over all its bars.
        base_log_variance=history.forecast_log_variance[row] - np.log(season),
        median_log_return=history.forecast_median[row].astype(np.float64),
        cumulative_intraday_factor=season,
        slot_of_day=history.intraday_slots[column, 0].astype(np.int64),
        symbol_index=symbol_index,
        instant_index=column,
    )


def compute_realised_outcomes(
    history: AssetClassHistory, symbol_index: Index, bar_index: Index, ends: Index
) -> tuple[Array, Array]:
    """Return the realised log return and variance after each step of n forecasts, each [n, H].

    symbol_index, bar_index: [n] index of each forecast's symbol, and of its issuing bar among the
        symbol's bars.
    ends: [S] number of known bars of each symbol; later outcomes are NaN.
    """
    issued = history.bar_offsets[symbol_index] + bar_index
    known = bar_index[:, None] + 1 + np.arange(HORIZON) < ends[symbol_index][:, None]
    bar = np.where(known, issued[:, None] + 1 + np.arange(HORIZON), issued[:, None])
    move = np.where(known, history.log_close[bar] - history.log_close[issued][:, None], np.nan)
    return move, np.where(known, np.cumsum(history.bar_variances[bar], axis=1), np.nan)


def _digests(times: Instants, values: Array) -> WindowKeys:
    """Return two 64-bit digests of each bar, [N, 2].

    times: [N] instants of the bars.
    values: [N, 5] values of the bars.
    """
    lanes = []
    for seed in DIGEST_SEEDS:
        digest = mix_bits(times.astype("datetime64[ns]").view(np.uint64) ^ np.uint64(seed))
        for column in values.T:
            digest = mix_bits(digest ^ np.ascontiguousarray(column).view(np.uint64))
        lanes.append(digest)
    return np.stack(lanes, axis=1)
