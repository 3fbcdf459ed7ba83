"""What a book may meet before it can be traded: named days and assumptions, as moves of prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from foundation.arrays import Array, Instants, Mask
from foundation.errors import InputError, nearest_or_all
from foundation.settings import about, setting, settings_class
from marketsimulator.results.stress_book import HeldBook
from trainingdata.bars import CLOSE, Bars
from trainingdata.correlation import session_returns
from trainingdata.instants import instant, new_york_date, utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import Session, last_four_pm, session_of

LARGEST = "largest"
OWN_BARS = "own bars"  # what a basis begins with where they decided
FEWEST_RETURNS = 20  # of a symbol, from which a deviation is estimated
_WHOLE_LOSS = -1.0
_LARGEST_RISE = 20.0  # GME rose to twenty times its price in January 2021


@settings_class("scenarios")
class Scenario:
    """What may happen to a book between two prices."""

    name: Annotated[str, about("of the scenario")]
    source: Annotated[
        str, about("where its moves are from and of which date, or that they are an assumption")
    ]
    day: str | None = setting(
        None,
        "New York date of a session; a symbol's own bars decide where there are any of that day",
    )
    stocks: float = setting(0.0, "move of every stock, a fraction above -1, 20 at most")
    shorts: float | None = setting(
        None,
        "the same of every stock that is held short, in the place of `stocks`; none: as `stocks`",
    )
    coins: float = setting(0.0, "the same of every coin")
    symbols: Mapping[str, float] = setting(
        {}, "moves of single symbols, in the place of their class's"
    )
    against: bool = setting(
        False, "whether these moves are of what is held long, and what is short moves the other way"
    )
    halted: str | None = setting(
        None,
        "a stock that trades no more and keeps its last price, or `largest`; none: "
        "everything trades",
    )
    correlation: float | None = setting(
        None,
        "between any two symbols as the whole book moves; none: moves are those above",
        ge=0,
        le=0.999,
    )
    deviations: float | None = setting(
        None, "of the book a day that it then loses, 20 at most", gt=0, le=20
    )

    def __post_init__(self) -> None:
        for key in ("name", "source"):
            if not getattr(self, key).strip():
                raise InputError(f"scenarios: {self.name or 'one'} has no {key}, and needs one")
        self._check_moves()
        self._check_symbols()
        if self.day is not None:
            self.session()
        self._check_correlation()

    def _check_moves(self) -> None:
        place = f"scenarios: {self.name}"
        if self.against and self.shorts is not None:
            raise InputError(f"{place}: against and shorts both say how a short moves; leave one")
        classes = {"stocks": self.stocks, "shorts": self.shorts or 0.0, "coins": self.coins}
        for key, move in (*classes.items(), *self.symbols.items()):
            if self.against and key != "coins" and abs(move) >= 1:
                raise InputError(
                    f"{place}: a move of {move:g} ({key}) against the book is a fall of 100 % or"
                    f" more on one of its sides; a squeeze is shorts:"
                    f" {min(abs(move), _LARGEST_RISE):g} in the place of against"
                )
            if not _WHOLE_LOSS < move <= _LARGEST_RISE:
                raise InputError(
                    f"{place}: a move of {move:g} ({key}) is outside -1 … {_LARGEST_RISE:g}; -0.2"
                    " is a fall of 20 %"
                )

    def _check_symbols(self) -> None:
        place = f"scenarios: {self.name}"
        halted = [] if self.halted in (None, LARGEST) else [str(self.halted)]
        try:
            symbols = [instrument(symbol).symbol for symbol in self.symbols]
            coins = [symbol for symbol in halted if instrument(symbol).kind is Kind.CRYPTO]
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        for symbol in coins:
            raise InputError(f"{place}: halted: {symbol} is a coin, whose venues halt no trading")
        for symbol in symbols:
            if symbols.count(symbol) > 1:
                raise InputError(f"{place}: symbols names {symbol} twice; leave one of them")

    def _check_correlation(self) -> None:
        if (self.correlation is None) != (self.deviations is None):
            raise InputError(
                f"scenarios: {self.name}: correlation and deviations go together; give both"
            )
        own = (self.stocks, self.shorts, self.coins, self.symbols, self.day, self.against)
        if self.correlation is not None and any(own):
            raise InputError(
                f"scenarios: {self.name}: with a correlation the moves follow from the book; leave"
                " day, stocks, shorts, coins, symbols and against"
            )

    def session(self) -> Session | None:
        """The session of its day; none without a day.

        Raises
        ------
        InputError
            for a day without a session.
        """
        if self.day is None:
            return None
        place = f"scenarios: {self.name}: day"
        found = session_of(new_york_date(np.array([instant(self.day, name=place)]))[0])
        if found is None:
            raise InputError(f"{place}: {self.day} is no session of the stock exchange")
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Moves:
    """How far each symbol of a book moves, [S].

    fractions: of its mark.
    basis: what decided that, in words.
    halted: which do not trade any more.
    notes: what a reader should know.
    """

    fractions: Array
    basis: tuple[str, ...]
    halted: Mask
    notes: tuple[str, ...] = ()


class NotComputed(InputError):
    """A scenario that a book has not the bars for; the message says which are missing."""


def chosen_scenarios(
    scenarios: Sequence[Scenario], only: Sequence[str] = ()
) -> tuple[Scenario, ...]:
    """Those that are named, in the order in which they are defined; all where none is.

    Raises
    ------
    InputError
        for a name that none has, or two have.
    """
    names = [scenario.name for scenario in scenarios]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"own: {name} is the name of two scenarios; give yours another")
    for name in only:
        if name not in names:
            raise InputError(f"only: there is no scenario {name!r}{nearest_or_all(name, names)}")
    chosen = tuple(each for each in scenarios if not only or each.name in only)
    if not chosen:
        raise InputError("scenarios: there is none")
    return chosen


def moves_of(scenario: Scenario, book: HeldBook, window: int) -> Moves:
    """The moves of a book's symbols.

    window: daily returns that deviations are estimated from, at most.

    Raises
    ------
    NotComputed
        where deviations are needed, and there are no bars to take them from.
    """
    halted, notes = _halted(scenario, book)
    if scenario.correlation is not None and scenario.deviations is not None:
        moves = _book_move(book, ~halted, window, scenario.correlation, scenario.deviations)
        basis = (f"{scenario.deviations:g} deviations of the book",) * len(book.symbols)
    else:
        moves, basis = _stated_moves(scenario, book)
        session = scenario.session()
        if session is not None and book.bars is not None:
            moves, basis = _own_moves(book, book.bars, ~halted, session, moves, basis)
    if (moves <= _WHOLE_LOSS).any():
        raise NotComputed(
            f"{book.symbols[int(np.argmin(moves))]} would fall by all that it is worth and more;"
            " name fewer deviations"
        )
    moves = np.where(halted, 0.0, moves) + 0.0  # no move has no sign
    basis = tuple("halted" if h else words for h, words in zip(halted, basis, strict=True))
    return Moves(moves, basis, halted, (*notes, *_absent(scenario, book)))


def unmoved(book: HeldBook) -> Moves:
    """No move at all."""
    still = np.zeros(len(book.symbols))
    return Moves(still, ("none",) * len(still), still != 0)


def _halted(scenario: Scenario, book: HeldBook) -> tuple[Mask, tuple[str, ...]]:
    """[S] what stops trading, and what is to be said of it."""
    halted = np.zeros(len(book.symbols), dtype=bool)
    if scenario.halted is None:
        return halted, ()
    if scenario.halted != LARGEST:
        name = instrument(scenario.halted).symbol
        if name not in book.symbols:
            return halted, (f"{name} is not held: nothing is halted.",)
        halted[book.symbols.index(name)] = True
        return halted, (f"{name} is halted at its last price.",)
    stocks = np.where(book.crypto, 0.0, np.abs(book.values))
    if not stocks.any():
        return halted, ("No stock is held: nothing is halted.",)
    halted[int(np.argmax(stocks))] = True
    return halted, (f"{book.symbols[int(np.argmax(stocks))]} is halted at its last price.",)


def _absent(scenario: Scenario, book: HeldBook) -> tuple[str, ...]:
    """What is to be said of symbols that a scenario moves and the book does not hold."""
    named = [instrument(symbol).symbol for symbol in scenario.symbols]
    absent = [symbol for symbol in named if symbol not in book.symbols]
    if not absent:
        return ()
    return (f"not held, so that their moves change nothing: {', '.join(absent)}.",)


def _stated_moves(scenario: Scenario, book: HeldBook) -> tuple[Array, tuple[str, ...]]:
    """[S] the moves that the scenario states, and whose they are."""
    own = {instrument(symbol).symbol: move for symbol, move in scenario.symbols.items()}
    shorts = scenario.stocks if scenario.shorts is None else scenario.shorts
    stocks = np.where(book.quantities < 0, shorts, scenario.stocks)
    moves = np.where(book.crypto, scenario.coins, stocks)
    basis = []
    for s, symbol in enumerate(book.symbols):
        moves[s] = own.get(symbol, moves[s])
        basis.append("stated of it" if symbol in own else "stated of its class")
    if scenario.against:
        # A short loses as much as a long of the same size.
        moves = moves * np.sign(book.quantities)
    return moves, tuple(basis)


def _own_moves(
    book: HeldBook,
    bars: Bars,
    trading: Mask,
    session: Session,
    stated: Array,
    basis: tuple[str, ...],
) -> tuple[Array, tuple[str, ...]]:
    """[S] moves of a day by the symbols' own bars, where they are there; else those stated.

    They are from the close of the session before to the close of the bar of that day at which the
    book has lost most: all of them at one instant. What is not trading loses nothing.
    """
    before = session_of(session.before)
    if before is None:
        return stated, basis
    tables = {s: bars.real_bars(s) for s in range(len(book.symbols))}
    own = [s for s in np.flatnonzero(trading).tolist() if _holds(tables[s][0], before, session)]
    if not own:
        return stated, basis
    known: Instants = np.unique(np.concatenate([tables[s][0] for s in own]))
    instants = known[(known > before.closes) & (known <= session.closes)]
    moves = np.tile(stated, (len(instants), 1))
    for s in own:
        times, values = tables[s]
        closes = values[:, CLOSE]
        base = closes[np.searchsorted(times, before.closes, side="right") - 1]
        moves[:, s] = closes[np.searchsorted(times, instants, side="right") - 1] / base - 1.0
    worst = int(np.argmin(moves @ np.where(trading, book.values, 0.0)))
    words = f"{OWN_BARS}, {utc_text(before.closes)} to {utc_text(instants[worst])}"
    found = tuple(words if s in own else basis[s] for s in range(len(basis)))
    return np.asarray(moves[worst]), found


def _holds(times: Instants, before: Session, session: Session) -> bool:
    """Whether bars have a close of the session before, and one of the day."""
    k = int(np.searchsorted(times, before.closes, side="right")) - 1
    return bool(
        k >= 0 and times[k] > before.opens and k + 1 < len(times) and times[k + 1] <= session.closes
    )


def _book_move(
    book: HeldBook, trading: Mask, window: int, correlation: float, deviations: float
) -> Array:
    """[S] the likeliest returns of a day on which the book loses k of its deviations.

    -k Σv / √(vᵀΣv) with Σ = diag(σ) R diag(σ), R of one correlation off its diagonal, v the book's
    values in USD and σ the deviations of its daily log returns; of what is trading alone.

    Raises
    ------
    NotComputed
        naming a symbol of which there are too few returns.
    """
    advice = "data.dir=[DIR] names bars of it"
    if book.known is None:
        raise NotComputed(f"deviations need bars of {', '.join(book.symbols)}; {advice}")
    moves = np.zeros(len(book.symbols))
    moving = np.flatnonzero(trading)
    if not len(moving):
        return moves
    returns = session_returns(book.known, last_four_pm(book.at), window)[:, moving]
    counts = np.isfinite(returns).sum(axis=0)
    if counts.min() < FEWEST_RETURNS:
        s = int(np.argmin(counts))
        raise NotComputed(
            f"{book.symbols[moving[s]]} has {counts[s]} daily returns by {utc_text(book.at)}, and a"
            f" deviation takes {FEWEST_RETURNS}; {advice}"
        )
    sigma = np.nanstd(returns, axis=0, ddof=1)
    matrix = np.full((len(sigma), len(sigma)), correlation)
    np.fill_diagonal(matrix, 1.0)
    covariance = sigma[:, None] * matrix * sigma[None, :]
    values = book.values[moving]
    spread = covariance @ values
    deviation = float(np.sqrt(values @ spread))
    if deviation > 0:
        moves[moving] = -deviations * spread / deviation
    return moves
