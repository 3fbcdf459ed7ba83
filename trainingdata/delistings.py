"""Delistings, mergers and renames of symbols.

A symbol is missing from the first session of its class in which its file has no bar. It counts as
delisted after several such sessions in a row, unless it trades in the next session. With daily bars
the delisting is booked at that next session's open, with shorter bars at the open of the session
after it. An unconfirmed bar counts as present. The delisting is known from its booking on: no
earlier decision uses it. The last bar of a panel does not mean a delisting. A row of the actions
file may state a delisting, and when it became known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Array, Index, Instants, Mask
from foundation.errors import DataError
from foundation.formatting import format_rounded_price
from trainingdata.bars import CLOSE, Bars, Provenance
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import Timeframe

# Shumway (1997), The Delisting Bias in CRSP Data: the mean return of NYSE and AMEX stocks that were
# delisted for their performance, if the file of returns has none.
DEFAULT_DELISTING_LOSS = 0.3
MAX_PAYOUT_MULTIPLE = 10.0  # times the last close; a larger payout is an error in the row, no offer
DEFAULT_MISSED_SESSIONS = 10  # a halt for news lasts hours; one for late filings lasts weeks

SymbolSeries = tuple[Instants, Array, Provenance]


@dataclass(frozen=True, slots=True)
class Delisting:
    """A delisting of a symbol, by merger or otherwise, and the payout per share.

    symbol: the delisted symbol.
    effective_open: open of the first session without the symbol.
    booked_at: instant of the booking: the first session open, not before `effective_open`, at which
        the delisting was known.
    cash_per_share: USD paid per share; NaN if unknown.
    last_price_fraction: further payout, as a fraction of the last price.
    exchange_ratio: further payout, in shares of `successor` per share.
    successor: the symbol that replaces the old one; empty for none.
    unconfirmed_price: last price in USD if no other bar confirms it and `cash_per_share` depends on
        it; else 0.
    """

    symbol: str
    effective_open: np.datetime64
    booked_at: np.datetime64
    cash_per_share: float = 0.0
    last_price_fraction: float = 0.0
    exchange_ratio: float = 0.0
    successor: str = ""
    unconfirmed_price: float = 0.0


@dataclass(frozen=True, slots=True)
class Rename:
    """A change of a symbol's name.

    symbol: the old symbol.
    effective_open: open of the first session under the new symbol.
    successor: the new symbol.
    """

    symbol: str
    effective_open: np.datetime64
    successor: str


@dataclass(frozen=True, slots=True)
class DelistingRules:
    """Rules for the delistings of symbols in a panel.

    explicit_delistings: delistings stated in the actions file.
    missed_sessions: number of sessions without a bar after which a symbol counts as delisted,
        unless it trades in the next session; None: only delistings in the actions file count.
    loss_fraction: fraction of the last price that is lost if no file states the payout.
    """

    explicit_delistings: tuple[Delisting, ...] = ()
    missed_sessions: int | None = None
    loss_fraction: float = DEFAULT_DELISTING_LOSS

    def booked_delistings(self, bars: Bars) -> tuple[Delisting, ...]:
        """Return the delistings booked by the panel's last instant, in time order."""
        found = [
            self._subtract_loss(each, bars) if np.isnan(each.cash_per_share) else each
            for each in self.explicit_delistings
            if each.symbol in bars.symbols
        ]
        found += [
            each for each in self._delistings_by_absence(bars) if not _trades_again(bars, each)
        ]
        found = [each for each in found if each.booked_at <= bars.last_instant]
        return tuple(sorted(found, key=lambda each: (each.booked_at, each.symbol)))

    def cancelled_delistings(self, bars: Bars) -> tuple[Delisting, ...]:
        """Return the delistings that are cancelled, as the symbol trades again at the booking."""
        return tuple(
            each for each in self._delistings_by_absence(bars) if _trades_again(bars, each)
        )

    def _delistings_by_absence(self, bars: Bars) -> Iterator[Delisting]:
        """Yield a delisting for each symbol that has missed enough sessions, even if cancelled."""
        if self.missed_sessions is None:
            return
        absent = BarAbsence.from_bars(bars)
        # A daily bar shows whether a symbol trades in a session from its open on. With shorter
        # bars the session has to be over: a first trade may come at any hour of it.
        missed = self.missed_sessions if bars.timeframe.is_daily else self.missed_sessions + 1
        for s, span in np.argwhere(absent.missed_sessions == missed).tolist():
            # A span without any bar does not increase the count: the first one is meant.
            if span and absent.missed_sessions[s, span - 1] == missed:
                continue
            opens = np.datetime64(absent.next_opens[span])
            yield self._subtract_loss(Delisting(bars.symbols[s], opens, opens), bars)

    def _subtract_loss(self, end: Delisting, bars: Bars) -> Delisting:
        """Return a delisting with a payout of the last price less the loss.

        The price of the symbol's last bar counts even if it is unconfirmed, because no later bar
        can confirm it.
        """
        worth = 1.0 - self.loss_fraction
        last = _last_unconfirmed_close(bars, end)
        if not last:
            return replace(end, cash_per_share=0.0, last_price_fraction=worth)
        return replace(
            end, cash_per_share=worth * last, last_price_fraction=0.0, unconfirmed_price=last
        )

    def delisted_mask(self, bars: Bars) -> Mask:
        """Return a mask [S] of symbols delisted by the panel's end that have no bar since."""
        last = {each.symbol: each.booked_at for each in self.booked_delistings(bars)}
        return np.array(
            [
                symbol in last and bool(_bar_starts_of_symbol(bars, symbol)[-1] < last[symbol])
                for symbol in bars.symbols
            ],
            dtype=bool,
        )


@dataclass(frozen=True, eq=False, slots=True)
class BarAbsence:
    """Number of sessions without a bar, by symbol and span.

    A span lasts from one session's open to the next; a panel has D spans.

    missed_sessions: [S, D] number of spans since the symbol's last bar in which another symbol of
        its class had a bar; 0 before the symbol's first bar.
    next_opens: [D] open of the session after each span.
    """

    missed_sessions: Index
    next_opens: Instants

    @classmethod
    def from_bars(cls, bars: Bars) -> BarAbsence:
        """Count for each symbol of a panel the spans without a bar."""
        # A bar that becomes known at a session's open belongs to the span before.
        opens = exchange_calendar().opens
        number = np.searchsorted(opens, bars.times, side="left")
        spans, first = np.unique(number, return_index=True)
        has = np.logical_or.reduceat(bars.has_bar, first, axis=1)
        missing = np.zeros(has.shape, dtype=np.int64)
        for members in (bars.crypto, ~bars.crypto):
            due = np.cumsum(has[members].any(axis=0))
            last = np.maximum.accumulate(np.where(has[members], due, 0), axis=1)
            missing[members] = np.where(last > 0, due - last, 0)
        return cls(missing, opens[np.minimum(spans, len(opens) - 1)])

    @property
    def missed_sessions_at_end(self) -> Index:
        """Number of spans without a bar up to the panel's end, [S]."""
        return np.asarray(self.missed_sessions[:, -1])


def check_delistings(bars: Bars, delistings: Iterable[Delisting]) -> None:
    """Validate the delistings that the actions file states against the bars.

    Raises DataError for a delisting that the bars contradict, or whose successor has no bars.
    """
    for each in delistings:
        if each.symbol not in bars.symbols or each.effective_open > bars.last_instant:
            continue
        date = _new_york_date(each.effective_open)
        starts = _bar_starts_of_symbol(bars, each.symbol)
        if len(starts) and starts[-1] >= each.effective_open:
            raise DataError(
                f"{each.symbol} is delisted on {date}, but its file has later bars; correct the row"
                " or remove the bars"
            )
        last = bars.bars_of_symbol(bars.symbols.index(each.symbol))[1][-1:, CLOSE]
        if (each.cash_per_share > MAX_PAYOUT_MULTIPLE * last).any():
            raise DataError(
                f"{each.symbol} is delisted on {date} for"
                f" {format_rounded_price(each.cash_per_share, 2)}"
                f" USD per share, more than {MAX_PAYOUT_MULTIPLE:g} times its last close"
                f" {format_rounded_price(last[0], 2)}; correct the row or the bars"
            )
        if not each.successor:
            continue
        if each.successor not in bars.symbols:
            raise DataError(
                f"{each.symbol} becomes {each.successor} on {date}, but {each.successor} is not"
                " among the run's symbols; add it"
            )
        if instrument(each.successor).kind is not instrument(each.symbol).kind:
            raise DataError(
                f"{each.symbol} cannot become {each.successor}: one is a stock, the other crypto;"
                " correct the row"
            )
        first = _bar_starts_of_symbol(bars, each.successor)[:1]
        if not len(first) or new_york_date(first)[0] > date:
            raise DataError(
                f"{each.symbol} becomes {each.successor} on {date}, but {each.successor} has no bar"
                " by then; supply its bars, or use kind `ended` with the payout per share"
            )


def join_renamed_series(
    series: dict[str, SymbolSeries], renames: Sequence[Rename], timeframe: Timeframe
) -> None:
    """Join the bars of old and new symbols under the latest symbol, in place.

    series: known-at instants, values and provenance of each symbol's bars.
    renames: renames in time order.
    timeframe: timeframe of the bars.

    Raises DataError for a missing new symbol, for bars of the old symbol after the rename, and for
    bars of the new symbol before it.
    """
    for each in renames:
        if each.symbol not in series:
            continue
        date = _new_york_date(each.effective_open)
        words = f"data.actions: {each.symbol} is renamed to {each.successor} on {date}"
        if each.successor not in series:
            raise DataError(
                f"{words}, but {each.successor} is not among the run's symbols; use"
                f" {each.successor} instead of {each.symbol}"
            )
        times, values, origin = series.pop(each.symbol)
        later_times, later_values, later = series[each.successor]
        clock = timeframe.clock(instrument(each.successor).kind)
        if len(times) and clock.starts_by_end(times[-1:])[0] >= each.effective_open:
            raise DataError(
                f"{words}, but {origin.file} has later bars; remove those bars, or the row"
            )
        if len(later_times) and clock.starts_by_end(later_times[:1])[0] < each.effective_open:
            raise DataError(
                f"{words}, but {later.file} has earlier bars, possibly of another company; remove"
                " those bars, or remove the row if they are of the same company"
            )
        note = f"traded as {each.symbol} until {date}; those bars are from {origin.file}"
        series[each.successor] = (
            np.concatenate([times, later_times]),
            np.concatenate([values, later_values]),
            replace(later, notes=(note, *origin.notes, *later.notes)),
        )


def latest_symbol(symbol: str, at: np.datetime64, renames: Iterable[Rename]) -> str:
    """Return the latest name of the security that had the name `symbol` at an instant.

    renames: renames in time order.
    """
    for each in renames:
        if each.symbol == symbol and at <= each.effective_open:
            symbol = each.successor
    return symbol


def earlier_symbols(symbols: Iterable[str], renames: Sequence[Rename]) -> list[str]:
    """Return all earlier names of symbols, sorted."""
    names = set(symbols)
    for each in reversed(renames):
        if each.successor in names:
            names.add(each.symbol)
    return sorted(names.difference(symbols))


def next_session_open(at: np.datetime64) -> np.datetime64:
    """Return the open of the first session after an instant."""
    opens = exchange_calendar().opens
    return np.datetime64(opens[np.searchsorted(opens, at, side="right")])


def _last_unconfirmed_close(bars: Bars, end: Delisting) -> float:
    """Return the close of a symbol's last bar before its delisting if it is unconfirmed; else 0."""
    if not bars.unconfirmed_bars:
        return 0.0
    s = bars.symbols.index(end.symbol)
    times, values = bars.unconfirmed_bars[s]
    before = np.flatnonzero((times <= end.booked_at) & (times >= bars.times[0]))
    if not len(before):
        return 0.0
    last = before[times[before].argmax()]
    accepted = bars.times[bars.mask[s]]
    later = (accepted > times[last]) & (accepted <= end.booked_at)
    return 0.0 if later.any() else float(values[last, CLOSE])


def _trades_again(bars: Bars, end: Delisting) -> bool:
    """Return whether a bar covers the open at which a delisting is booked: the symbol still trades.

    A first trade later in that session is unknown at the open, and does not cancel the delisting.
    """
    s = bars.symbols.index(end.symbol)
    known = bars.times[bars.has_bar[s]]
    return bool(
        ((_bar_starts_of_symbol(bars, end.symbol) <= end.booked_at) & (known > end.booked_at)).any()
    )


def _bar_starts_of_symbol(bars: Bars, symbol: str) -> Instants:
    """Return the start times of a symbol's bars, including unconfirmed bars."""
    s = bars.symbols.index(symbol)
    return bars.clock(bars.instruments[s].kind).starts_by_end(bars.times[bars.has_bar[s]])


def _new_york_date(opens: np.datetime64) -> np.datetime64:
    return np.datetime64(new_york_date(np.array([opens]))[0])
