"""What a book may meet before it can be traded: named days and assumptions, as moves of prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from foundation.arrays import Array, Mask
from foundation.errors import InputError
from foundation.settings import about, setting, settings_class
from marketsimulator.results.stress_book import HeldBook
from trainingdata.bars import CLOSE
from trainingdata.correlation import session_returns
from trainingdata.instants import instant, new_york_date, utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import Session, last_four_pm, session_of

LARGEST = "largest"
HALTED = "halted"  # the basis of what does not trade
FEWEST_RETURNS = 20  # of a symbol, from which a deviation is estimated
LARGEST_RISE = 20.0  # GME rose to twenty times its price in January 2021


@settings_class("scenarios")
class Scenario:
    """What may happen to a book between two prices."""

    name: Annotated[str, about("of the scenario", pattern=r"\S")]
    source: Annotated[
        str, about("of its moves, with a date, or that they are an assumption", pattern=r"\S")
    ]
    day: str | None = setting(
        None, "New York date; a symbol's own bars of that session decide, if any"
    )
    stocks: float = setting(0.0, "move of every stock, a fraction", gt=-1, le=LARGEST_RISE)
    shorts: float | None = setting(
        None, "the same of every stock held short; none: as `stocks`", gt=-1, le=LARGEST_RISE
    )
    coins: float = setting(0.0, "the same of every coin", gt=-1, le=LARGEST_RISE)
    symbols: Mapping[str, Annotated[float, about("a fraction", gt=-1, le=LARGEST_RISE)]] = setting(
        {}, "moves of single symbols, in the place of their class's"
    )
    against: bool = setting(
        False, "whether these moves are of longs, and shorts move the other way"
    )
    halted: str | None = setting(
        None, "a stock that stops trading at its last price, or `largest`; none: everything trades"
    )
    correlation: float | None = setting(
        None, "between any two symbols as the book moves; none: moves as above", ge=0, le=0.999
    )
    deviations: float | None = setting(None, "of the book a day, which it loses", gt=0, le=20)

    def __post_init__(self) -> None:
        place = f"scenarios: {self.name}"
        try:
            named = {instrument(symbol).symbol for symbol in self.symbols}
            halts = self.halted not in (None, LARGEST) and instrument(str(self.halted))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        self.session()
        stated = (self.stocks, self.shorts, self.coins, self.symbols, self.day, self.against)
        furthest = max(map(abs, (self.stocks, *self.symbols.values())))
        for wrong, why in (
            (len(named) < len(self.symbols), "symbols names one twice; leave one of them"),
            (
                halts and halts.kind is Kind.CRYPTO,
                f"halted: {self.halted} is a coin, whose venues halt no trading",
            ),
            (
                self.against and self.shorts is not None,
                "against and shorts both say how a short moves; leave one",
            ),
            (
                self.against and furthest >= 1,
                f"a move of {furthest:g} against the book is a fall of 100 % or more on one of its"
                f" sides; a squeeze is shorts: {furthest:g} in the place of against",
            ),
            (
                (self.correlation is None) != (self.deviations is None),
                "correlation and deviations go together; give both",
            ),
            (
                self.correlation is not None and any(stated),
                "with a correlation the moves follow from the book; leave day, stocks, shorts,"
                " coins, symbols and against",
            ),
        ):
            if wrong:
                raise InputError(f"{place}: {why}")

    @property
    def moves_nothing(self) -> bool:
        stated = (self.stocks, self.shorts, self.coins, *self.symbols.values())
        return not (any(stated) or self.day or self.halted or self.deviations)

    def session(self) -> Session | None:
        """The session of its day; none without a day."""
        if self.day is None:
            return None
        place = f"scenarios: {self.name}: day"
        found = session_of(new_york_date(np.array([instant(self.day, name=place)]))[0])
        if found is None:
            raise InputError(f"{place}: {self.day} is no session of the stock exchange")
        return found


@dataclass(frozen=True, slots=True)
class Move:
    """How far the price of a symbol moves."""

    move: float  # a fraction of its mark
    basis: str  # what decided that, in words


def moves_of(
    scenario: Scenario, book: HeldBook, window: int
) -> tuple[Mapping[str, Move], tuple[str, ...]]:
    """The moves of a book's symbols, `HALTED` what does not trade, and what a reader should know.

    window: daily returns that deviations are estimated from, at most. `InputError` where there are
    no bars to take them from.
    """
    stated = {instrument(symbol).symbol: move for symbol, move in scenario.symbols.items()}
    halted, notes = _halted(scenario.halted, book)
    if absent := [symbol for symbol in stated if symbol not in book.symbols]:
        notes += (f"not held, so that their moves change nothing: {', '.join(absent)}.",)
    if scenario.correlation is not None and scenario.deviations is not None:
        moves = _book_move(book, ~halted, window, scenario.correlation, scenario.deviations)
        basis = [f"{scenario.deviations:g} deviations of the book"] * len(moves)
    else:
        shorts = scenario.stocks if scenario.shorts is None else scenario.shorts
        stocks = np.where(book.quantities < 0, shorts, scenario.stocks)
        by_class = np.where(book.crypto, scenario.coins, stocks).tolist()
        named = zip(book.symbols, by_class, strict=True)
        moves = np.array([stated.get(symbol, move) for symbol, move in named])
        basis = [f"stated of {'it' if s in stated else 'its class'}" for s in book.symbols]
        if scenario.against:
            # A short loses as much as a long of the same size.
            moves = moves * np.sign(book.quantities)
        if session := scenario.session():
            moves, basis = _own_moves(book, ~halted, session, moves, basis)
    if (moves <= -1).any():
        raise InputError(
            f"{book.symbols[int(np.argmin(moves))]} would fall by all that it is worth and more;"
            " name fewer deviations"
        )
    # No move has no sign.
    found = map(Move, (moves + 0.0).tolist(), basis)
    still = Move(0.0, HALTED)
    each = zip(book.symbols, found, halted, strict=True)
    return {symbol: still if stops else move for symbol, move, stops in each}, notes


def _halted(name: str | None, book: HeldBook) -> tuple[Mask, tuple[str, ...]]:
    """[S] what stops trading, and what is to be said of it."""
    halted = np.zeros(len(book.symbols), dtype=bool)
    if name is None:
        return halted, ()
    sizes = np.where(book.crypto, 0.0, np.abs(book.values))
    if name != LARGEST:
        name = instrument(name).symbol
        sizes = sizes * (np.array(book.symbols) == name)
    if not sizes.any():
        none = "stock" if name == LARGEST else name
        return halted, (f"Nothing is halted: no {none} is held.",)
    s = int(np.argmax(sizes))
    halted[s] = True
    return halted, (f"{book.symbols[s]} is halted at its last price.",)


def _own_moves(
    book: HeldBook, trading: Mask, session: Session, stated: Array, basis: list[str]
) -> tuple[Array, list[str]]:
    """[S] moves of a day by the symbols' own bars, where they are there; else those stated.

    They are from the close of the session before to the close of the bar of that day at which the
    book has lost most: all of them at one instant. What is not trading loses nothing.
    """
    before = session_of(session.before)
    if before is None:
        return stated, basis
    tables = [book.bars.real_bars(s) for s in range(len(book.symbols))]
    bases = {}  # number of a symbol's last bar of the session before, which has one of the day too
    for s in np.flatnonzero(trading).tolist():
        times = tables[s][0]
        k = int(np.searchsorted(times, before.closes, side="right")) - 1
        if k >= 0 and times[k] > before.opens and (times[k + 1 : k + 2] <= session.closes).any():
            bases[s] = k
    if not bases:
        return stated, basis
    known = np.unique(np.concatenate([tables[s][0] for s in bases]))
    instants = known[(known > before.closes) & (known <= session.closes)]
    moves = np.tile(stated, (len(instants), 1))
    for s, k in bases.items():
        times, values = tables[s]
        now = np.searchsorted(times, instants, side="right") - 1
        moves[:, s] = values[now, CLOSE] / values[k, CLOSE] - 1.0
    worst = int(np.argmin(moves @ np.where(trading, book.values, 0.0)))
    words = f"own bars, {utc_text(before.closes)} to {utc_text(instants[worst])}"
    return moves[worst], [words if s in bases else basis[s] for s in range(len(basis))]


def _book_move(
    book: HeldBook, trading: Mask, window: int, correlation: float, deviations: float
) -> Array:
    """[S] the likeliest returns of a day on which the book loses k of its deviations.

    -k Σv / √(vᵀΣv) with Σ = diag(σ) R diag(σ), R of one correlation off its diagonal, v the book's
    values in USD and σ the deviations of its daily log returns; of what is trading alone.
    """
    moves = np.zeros(len(book.symbols))
    moving = np.flatnonzero(trading)
    if not len(moving):
        return moves
    returns = session_returns(book.known, last_four_pm(book.at), window)[:, moving]
    counts = np.isfinite(returns).sum(axis=0)
    if counts.min() < FEWEST_RETURNS:
        s = int(np.argmin(counts))
        raise InputError(
            f"{book.symbols[moving[s]]} has {counts[s]} daily returns by {utc_text(book.at)}, and a"
            f" deviation takes {FEWEST_RETURNS}; data.dir=[DIR] names bars of it"
        )
    sigma = np.nanstd(returns, axis=0, ddof=1)
    matrix = np.full((len(sigma), len(sigma)), correlation)
    np.fill_diagonal(matrix, 1.0)
    values = book.values[moving]
    spread = sigma[:, None] * matrix * sigma[None, :] @ values
    deviation = float(np.sqrt(values @ spread))
    if deviation > 0:
        moves[moving] = -deviations * spread / deviation
    return moves
