"""Sources of a run's bars: folders of files, or the synthetic market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from foundation.arrays import Array, Instants, first_true_index
from foundation.errors import DataError, InputError, format_suggestion
from foundation.settings import setting, settings_class
from trainingdata.bars import HIGH, LOW, OHLCV_FIELDS, VOLUME, Bars, build_panel
from trainingdata.confirmation import build_unconfirmed_bar_warnings, find_unconfirmed_bars
from trainingdata.conventions import BarFileConventions, EpochUnit, TimestampSide
from trainingdata.corporate_actions import CorporateAction, adjust_for_splits, read_corporate_events
from trainingdata.delistings import (
    DEFAULT_DELISTING_LOSS,
    DEFAULT_MISSED_SESSIONS,
    Delisting,
    DelistingRules,
    Rename,
    check_delistings,
    latest_symbol,
)
from trainingdata.file_formats import VolumeUnit
from trainingdata.instants import check_time_zone, format_utc, parse_instant
from trainingdata.instruments import closest_symbols, parse_symbols
from trainingdata.market import Market
from trainingdata.resampling import aggregate_bars
from trainingdata.splits import (
    find_suspect_opens,
    find_unexplained_jumps,
    find_volume_steps,
    refuse_jumps,
)
from trainingdata.synthetic import SYNTHETIC_SYMBOLS, SyntheticMarket
from trainingdata.timeframe import HOURLY, Timeframe, TimeframeName

Adjustment = Literal["split", "all", "raw"]
Feed = Literal["iex", "sip"]
InstantRange = tuple[np.datetime64, np.datetime64]
# Relative tolerance between finer bars and a run's: they are rounded, or adjusted for splits,
# separately.
FINER_BARS_RTOL = 1e-3


class CorporateEvents(NamedTuple):
    """The events of an actions file by kind, each kind in time order.

    actions: dividends and splits.
    delistings: delistings, including mergers.
    renames: changes of a symbol's name.
    """

    actions: tuple[CorporateAction, ...] = ()
    delistings: tuple[Delisting, ...] = ()
    renames: tuple[Rename, ...] = ()

    def renames_until(self, at: np.datetime64 | None) -> list[Rename]:
        """Return the renames up to an instant; None: all renames."""
        return [each for each in self.renames if at is None or each.effective_open <= at]


@settings_class("data")
class DataSettings:
    """Settings of a run's bars: their source, conventions, and price adjustment."""

    dir: tuple[str, ...] = setting((), "folders or files of bars; empty: the synthetic market")
    zone: str | None = setting(
        None, "time zone of timestamps without one, such as America/New_York; null: rejected"
    )
    epoch: EpochUnit | None = setting(
        None, "unit of epoch timestamps: `s`, `ms`, `us` or `ns`; null: rejected"
    )
    stamps: TimestampSide | None = setting(
        None,
        "whether timestamps mark the `begin` or the `end` of a bar, if neither the file nor the "
        "exchange calendar shows it; null: rejected",
    )
    volume_unit: VolumeUnit | None = setting(
        None,
        "unit of crypto volume, `coins` or `usd`, if a file does not state it; null: rejected by "
        "features that use volume",
    )
    execution_bars: tuple[str, ...] = setting(
        (),
        "folders or files of finer bars (1, 5, 15 or 30 minutes) for order fills; empty: the bars "
        "of decisions",
    )
    actions: str | None = setting(
        None,
        "file of dividends, splits, mergers, renames and delistings (columns symbol, date, kind, "
        "value; optional into, cash, known)",
    )
    delisted_after: int | None = setting(
        DEFAULT_MISSED_SESSIONS,
        "sessions without a bar, while others of its class have bars, after which a symbol counts "
        "as delisted; null: never",
        ge=1,
    )
    delisting_loss: float = setting(
        DEFAULT_DELISTING_LOSS,
        "loss at delisting as a fraction of the last price, unless data.actions states a payout "
        "(Shumway 1997)",
        ge=0,
        le=1,
    )
    adjustment: Adjustment = setting(
        "split",
        "adjustment of prices: `split`: for splits, and dividends are booked as cash; `all`: for "
        "splits and dividends; `raw`: for neither, and both are booked",
    )
    accept_jumps: bool = setting(
        False,
        "true: report jumps that resemble a split, and actions that prices do not show, as data "
        "warnings; false: reject the bars",
    )
    feed: Feed = setting("iex", "data feed of stock bars, `iex` (free) or `sip` (paid plan)")
    seed: int = setting(0, "random seed of the synthetic market", ge=0, lt=2**63)
    information_coefficient: float = setting(
        0.15, "information coefficient of the synthetic market, per bar", ge=0, le=0.5
    )
    start: str = setting("2023-01-02", "first New York date of the synthetic market")
    end: str = setting("2024-06-28", "last New York date of the synthetic market")

    def __post_init__(self) -> None:
        if not all(place.strip() for place in self.dir):
            raise InputError(
                "data.dir: a path is empty; name a folder or a file, or `.` for the current folder"
            )
        check_time_zone(self.zone, "data.zone")

    @property
    def conventions(self) -> BarFileConventions:
        """Conventions for bar files that do not state their own."""
        return BarFileConventions(
            uses_adjusted_close=self.adjustment == "all",
            time_zone=self.zone,
            epoch_unit=self.epoch,
            timestamp_side=self.stamps,
            volume_unit=self.volume_unit,
        )

    def load_panel(
        self,
        symbols: Sequence[str],
        start: str | None,
        end: str | None,
        timeframe: Timeframe | None = None,
    ) -> Bars:
        """Load the panel of all bars up to `end`, including the history before `start`.

        Unconfirmed bars (`trainingdata.confirmation`) are not used.

        symbols: symbols; a text may list several, separated by commas; empty: all symbols.
        start, end: New York dates, both inclusive, or instants with a zone; None: no bound.
        timeframe: timeframe of the bars; None: days if the files have daily bars, else hours.

        Raises InputError for settings or files that cannot be used.
        """
        names = parse_symbols(symbols) or None
        first = parse_instant(start, name="start") if start else None
        last = parse_instant(end, name="end", end_of_day=True) if end else None
        if first is not None and last is not None and first > last:
            raise InputError(f"start: {start} is after end {end}; choose an earlier start")
        if self.dir:
            bars = self._with_data_warnings(self._load_file_bars(names, first, last, timeframe))
        else:
            bars = self._generate_synthetic(names, first, last, timeframe or HOURLY)
        try:
            check_delistings(bars, self._read_events().delistings)
        except DataError as error:
            raise DataError(f"data.actions: {error}") from None
        return bars

    def _load_file_bars(
        self,
        symbols: Sequence[str] | None,
        start: np.datetime64 | None,
        end: np.datetime64 | None,
        timeframe: Timeframe | None,
    ) -> Bars:
        from trainingdata.bar_files import read_bars

        return read_bars(
            [Path(folder).expanduser() for folder in self.dir],
            symbols,
            start=start,
            end=end,
            timeframe=timeframe,
            conventions=self.conventions,
            renames=self._read_events().renames_until(end),
        )

    def _with_data_warnings(self, bars: Bars) -> Bars:
        """Return the bars without unconfirmed bars, and with data warnings in their provenance.

        Raises DataError for a jump that resembles a split, unless such jumps are accepted.
        """
        listed = self.actions_in_file()
        raw = self.adjustment == "raw"
        jumps = find_unexplained_jumps(bars, listed, raw=raw)
        refuse_jumps(jumps, accepted=self.accept_jumps)
        adjusted = adjust_for_splits(bars, listed) if raw else bars
        left_out = find_unconfirmed_bars(adjusted)
        named = {(one.symbol, one.bar_start) for one in jumps}
        opens = find_suspect_opens(bars, left_out, listed, raw=raw)
        found = [*jumps, *(one for one in opens if (one.symbol, one.bar_start) not in named)]
        found += find_volume_steps(adjusted, listed)
        if not found and not left_out.any():
            return bars
        origins = []
        for s, (item, origin) in enumerate(zip(bars.instruments, bars.provenances, strict=True)):
            own = [one for one in found if one.symbol == item.symbol]
            times, values = bars.bars_of_symbol(s)
            starts = bars.clock(item.kind).starts_by_end(times)
            doubts = build_unconfirmed_bar_warnings(
                item, starts, values, left_out[s, bars.mask[s]], own
            )
            origins.append(replace(origin, data_warnings=doubts))
        return replace(bars, provenances=tuple(origins)).drop_bars(left_out)

    def build_market(self, bars: Bars, start_row: int = 0) -> Market:
        """Return the market data of a run: its bars, corporate actions and delistings.

        start_row: index of the run's first instant in `load_panel`.
        """
        endings = DelistingRules(
            self._read_events().delistings, self.delisted_after, self.delisting_loss
        )
        return Market(bars, start_row, self.actions_to_book(), self.accept_jumps, endings)

    def with_finer_bars(self, market: Market) -> Market:
        """Return the market with the finer bars of `data.execution_bars` for order fills.

        If the setting is empty, the market is returned unchanged.

        Raises InputError for files that cannot be used, or that contradict the market's bars.
        """
        if not self.execution_bars:
            return market
        if not self.dir:
            raise InputError(
                "data.execution_bars: the synthetic market has no finer bars; set data.dir=FOLDER"
            )
        from trainingdata.bar_files import read_finer_bars

        bars = market.bars
        try:
            finer = read_finer_bars(
                [Path(place).expanduser() for place in self.execution_bars],
                bars.symbols,
                bars.timeframe,
                bars.last_instant,
                conventions=self.conventions,
                renames=self._read_events().renames_until(bars.last_instant),
            )
        except DataError as error:
            raise DataError(
                f"data.execution_bars: {str(error).removeprefix('data.dir: ')}"
            ) from error
        return replace(market, finer_bars=build_finer_panel(finer, bars, market.start_row))

    def load_panel_up_to(
        self, symbols: Sequence[str], now: np.datetime64, timeframe: Timeframe | None = None
    ) -> Bars:
        """Load the bars in files that were known at an instant; every symbol needs such a bar.

        timeframe: timeframe of the bars; None: days if the files have daily bars, else hours.

        Raises InputError for files that cannot be used.
        """
        return self._load_file_bars(symbols, None, now, timeframe)

    def actions_to_book(self) -> tuple[CorporateAction, ...]:
        """Return the dividends and splits that must be booked on positions.

        They are those that the prices do not include: all actions for raw prices, else the
        dividends.

        Raises InputError for a file that cannot be used, or prices that include dividends already.
        """
        listed = self.actions_in_file()
        if self.adjustment == "raw":
            return listed
        return tuple(action for action in listed if action.dividend)

    def actions_in_file(self) -> tuple[CorporateAction, ...]:
        """Return the dividends and splits of the actions file, in time order.

        Raises InputError for prices that include dividends already.
        """
        found = self._read_events().actions
        if found and self.adjustment == "all":
            raise InputError(
                "data.actions: data.adjustment=all already includes dividends and splits in the"
                " prices; set data.adjustment=split, or remove them from the file"
            )
        return found

    def _read_events(self) -> CorporateEvents:
        """Return the events of the actions file in time order, under the symbols' latest names."""
        if self.actions is None:
            return CorporateEvents()
        try:
            path = Path(self.actions).expanduser()
            listed = read_corporate_events(path, raw=self.adjustment == "raw")
        except DataError as error:
            raise DataError(f"data.actions: {error}") from error
        renames = tuple(each for each in listed if isinstance(each, Rename))
        old = {each.symbol for each in renames}

        def latest_name(symbol: str, at: np.datetime64) -> str:
            return latest_symbol(symbol, at, renames) if symbol in old else symbol

        actions = (each for each in listed if isinstance(each, CorporateAction))
        ends = (each for each in listed if isinstance(each, Delisting))
        return CorporateEvents(
            tuple(
                replace(each, symbol=latest_name(each.symbol, each.effective_open))
                for each in actions
            ),
            tuple(
                replace(
                    each,
                    symbol=latest_name(each.symbol, each.effective_open),
                    successor=latest_name(each.successor, each.effective_open),
                )
                for each in ends
            ),
            renames,
        )

    def _generate_synthetic(
        self,
        names: list[str] | None,
        start: np.datetime64 | None,
        end: np.datetime64 | None,
        timeframe: Timeframe,
    ) -> Bars:
        market = SyntheticMarket(
            seed=self.seed,
            information_coefficient=self.information_coefficient,
            start=self.start,
            end=self.end,
            timeframe=timeframe,
        )
        refuse_non_synthetic_symbols(names or ())
        # The whole market is drawn and then cut: fewer symbols or an earlier end would otherwise
        # change the draws of the rest.
        bars = market.generate_bars()
        if end is not None:
            bars = bars.slice_until(end)
        if not len(bars.times) or (start is not None and start > bars.last_instant):
            raise InputError(
                f"start, end: no bar in this range; the synthetic market runs from {self.start} to"
                f" {self.end} (data.start, data.end)"
            )
        numbers = [s for s, symbol in enumerate(bars.symbols) if names is None or symbol in names]
        tables = [(bars.instruments[s], *bars.bars_of_symbol(s)) for s in numbers]
        return build_panel(tables, bars.source, timeframe)


def refuse_non_synthetic_symbols(names: Sequence[str], searched: str = "") -> None:
    """Raise `InputError` for symbols that the synthetic market does not have.

    names: symbols to check.
    searched: folder that was searched for bars of these symbols, for the message; empty for none.
    """
    unknown = next((symbol for symbol in names if symbol not in SYNTHETIC_SYMBOLS), None)
    if unknown is not None:
        where = f", and no bars of {unknown} were found below {searched}" if searched else ""
        raise InputError(
            f"symbols: the synthetic market has no {unknown}{where}"
            f"; available: {', '.join(SYNTHETIC_SYMBOLS)}; for your own bars, set data.dir=FOLDER"
            f"{format_suggestion(closest_symbols(unknown, SYNTHETIC_SYMBOLS))}"
        )


def load_bars(
    *folders: str | Path,
    symbols: Sequence[str] = (),
    start: str | None = None,
    end: str | None = None,
    timeframe: TimeframeName | None = None,
    time_zone: str | None = None,
    epoch: EpochUnit | None = None,
    stamps: TimestampSide | None = None,
    volume_unit: VolumeUnit | None = None,
    accept_jumps: bool = False,
) -> Bars:
    """Load the bars of folders or files as one panel on a common clock.

    The panel's values are [S, T, 5]: open, high, low, close, volume.

    folders: folders or files, CSV or Parquet; one file per symbol, or files with a symbol column.
    symbols: symbols of the panel; empty: all.
    start, end: New York dates, both inclusive, or instants with a zone. The panel includes the
        history before `start`, which the first decision needs.
    timeframe: `1d`, `1h`, `30m`, `15m` or `5m`; shorter bars are aggregated to it. None: daily if
        the files are daily, else hourly.
    time_zone: time zone of timestamps without a zone, such as America/New_York; None: such
        timestamps are rejected.
    epoch: unit of epoch timestamps, `s`, `ms`, `us` or `ns`, if the files do not state it.
    stamps: whether timestamps mark the `begin` or the `end` of a bar, if the files do not state it.
    volume_unit: unit of crypto volume, `coins` or `usd`, if the files do not state it.
    accept_jumps: whether price jumps that resemble a split are accepted and reported in the panel's
        `data_warnings`; otherwise such jumps raise an error.

    Raises InputError for folders, files, symbols or dates that cannot be used, naming them.
    """
    if not folders:
        raise InputError("load_bars: no folder given; pass at least one folder or file")
    places = tuple(str(folder) for folder in folders)
    settings = DataSettings(
        dir=places,
        zone=time_zone,
        epoch=epoch,
        stamps=stamps,
        volume_unit=volume_unit,
        accept_jumps=accept_jumps,
    )
    return settings.load_panel(symbols, start, end, Timeframe(timeframe) if timeframe else None)


def resolve_range(bars: Bars, start: str | None, end: str | None) -> InstantRange:
    """Return the bounds of a range as instants.

    start, end: bounds as text, as in the settings of a run; None: the panel's first or last
        instant.
    """
    first = parse_instant(start, name="start") if start else bars.times[0]
    last = parse_instant(end, name="end", end_of_day=True) if end else bars.last_instant
    return np.datetime64(first), np.datetime64(last)


def build_finer_panel(finer_bars: Bars, bars: Bars, start_row: int) -> Bars:
    """Return a panel of finer bars whose instants include all instants of `bars`.

    Finer bars outside every bar of `bars` are dropped, because no decision can use them.

    finer_bars: finer bars of the same symbols, from files.
    bars: the panel of the run.
    start_row: index of the instant after which every bar needs finer bars.

    Raises DataError for a bar that has no finer bars, or that its finer bars contradict.
    """
    tables = []
    origins = []
    for s, item in enumerate(bars.instruments):
        number = finer_bars.symbols.index(item.symbol)
        what = f"data.execution_bars: {finer_bars.provenances[number].file}: {item.symbol}"
        times, values = bars.bars_of_symbol(s)
        starts = bars.clock(item.kind).starts_by_end(times)
        ends, parts = finer_bars.bars_of_symbol(number)
        begun = finer_bars.clock(item.kind).starts_by_end(ends)
        k = np.searchsorted(starts, begun, side="right") - 1
        within = (k >= 0) & (begun < times[k])
        k, ends, parts = k[within], ends[within], parts[within]
        lacking = ~np.isin(np.arange(len(times)), k) & (times > bars.times[start_row])
        if lacking.any():
            at = format_utc(starts[first_true_index(lacking)])
            raise DataError(
                f"{what} has no {finer_bars.timeframe.minutes}-minute bar within"
                f" {bars.timeframe.singular_bar_text} that starts at {at}; supply files that cover"
                " the whole"
                " run, or narrow start and end"
            )
        held = np.unique(k)
        _refuse_contradictory_bars(
            what, bars, starts[held], values[held], aggregate_bars(starts[k], parts)[1]
        )
        tables.append((item, ends, parts))
        origins.append(finer_bars.provenances[number])
    met = build_panel(tables, finer_bars.source, finer_bars.timeframe, bars.times)
    return replace(met, provenances=tuple(origins))


def _refuse_contradictory_bars(
    what: str, bars: Bars, starts: Instants, values: Array, made: Array
) -> None:
    """Raise `DataError` if bars aggregated from finer bars differ from the given bars.

    what: start of the message: setting, file and symbol.
    starts: [N] start times of the given bars.
    values: [N, 5] prices and volume of the given bars.
    made: [N, 5] prices and volume of the aggregated bars.
    """
    apart = made[:, :VOLUME] / values[:, :VOLUME] - 1
    # A part without a trade has no bar, so the aggregated range may be narrower, but not wider.
    apart[:, HIGH] = np.maximum(apart[:, HIGH], 0)
    apart[:, LOW] = np.minimum(apart[:, LOW], 0)
    wrong = np.abs(apart) > FINER_BARS_RTOL
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{what}: {OHLCV_FIELDS[column]} of {bars.timeframe.singular_bar_text} that starts at"
            f" {format_utc(starts[row])} is {values[row, column]:.10g}, but"
            f" {made[row, column]:.10g} in the finer bars; use one vendor and one adjustment for"
            " both"
        )
