"""Price moves of a scenario: moves of a historical day, or assumed moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd

from foundation.arrays import Array, Mask
from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class
from marketsimulator.results.stress.book import StressedBook
from trainingdata.bars import CLOSE
from trainingdata.instants import format_utc, new_york_date, parse_instant
from trainingdata.instruments import instrument
from trainingdata.sessions import Session, session_on

HALTED_MOVE_BASIS = "halted"  # basis of a symbol that does not trade


MAX_SCENARIO_PRICE_RISE = 20.0  # GME rose to twenty times its price in January 2021


@settings_class("scenarios")
class Scenario:
    """Scenario of a stress test: a price move of each asset class or symbol at one instant."""

    name: Annotated[str, required_setting("name of the scenario", pattern=r"\S")]
    source: Annotated[
        str,
        required_setting(
            "source of its moves, with a date, or a note that they are assumptions", pattern=r"\S"
        ),
    ]
    day: str | None = setting(
        None, "New York date; a symbol with bars of that session moves as it did then"
    )
    stocks: float = setting(
        0.0, "move of every stock, as a fraction", gt=-1, le=MAX_SCENARIO_PRICE_RISE
    )
    shorts: float | None = setting(
        None,
        "move of every stock held short, as a fraction; null: as `stocks`",
        gt=-1,
        le=MAX_SCENARIO_PRICE_RISE,
    )
    crypto: float = setting(
        0.0, "move of every crypto symbol, as a fraction", gt=-1, le=MAX_SCENARIO_PRICE_RISE
    )
    symbols: Mapping[
        str,
        Annotated[
            float, required_setting("move, as a fraction", gt=-1, le=MAX_SCENARIO_PRICE_RISE)
        ],
    ] = setting({}, "moves of single symbols, instead of those of their class")
    halted: Literal["largest"] | None = setting(
        None,
        "`largest`: the largest stock position cannot be traded and keeps its last"
        " price; null: all symbols trade",
    )

    def __post_init__(self) -> None:
        try:
            self.session()
            for symbol in self.symbols:
                instrument(symbol)
        except InputError as error:
            raise InputError(f"scenarios.{self.name}: {error}") from None

    def session(self) -> Session | None:
        """Return the trading session on the scenario's `day`; None without a day."""
        if self.day is None:
            return None
        found = session_on(new_york_date(np.array([parse_instant(self.day, name="day")]))[0])
        if found is None:
            raise InputError(
                f"day: {self.day} is not a trading day of the stock exchange; choose a trading day"
            )
        return found


@dataclass(frozen=True, slots=True)
class PriceMove:
    """Price move of a symbol in a scenario, and the source of its size."""

    fraction: float  # a fraction of its mark
    basis: str  # source of the move, in words


def scenario_price_moves(scenario: Scenario, book: StressedBook) -> Mapping[str, PriceMove]:
    """Return the price move of each symbol of an account in a scenario.

    A symbol that the scenario halts has a move of 0 and the basis `HALTED_MOVE_BASIS`.
    """
    trading = np.ones(len(book.symbols), dtype=bool)
    stocks = np.where(book.is_crypto, 0.0, np.abs(book.position_values))
    if scenario.halted and stocks.any():
        trading[int(np.argmax(stocks))] = False
    moves, basis = _assumed_moves(scenario, book)
    if session := scenario.session():
        moves, basis = _historical_moves(book, trading, session, moves, basis)
    each = zip(book.symbols, moves.tolist(), basis, trading.tolist(), strict=True)
    # No move has no sign.
    return {
        s: PriceMove(move + 0.0, why) if on else PriceMove(0.0, HALTED_MOVE_BASIS)
        for s, move, why, on in each
    }


def _assumed_moves(scenario: Scenario, book: StressedBook) -> tuple[Array, list[str]]:
    """Return the move that the scenario states for each symbol or its class [S], and its basis."""
    single = {instrument(symbol).symbol: move for symbol, move in scenario.symbols.items()}
    shorts = scenario.stocks if scenario.shorts is None else scenario.shorts
    stocks = np.where(book.quantities < 0, shorts, scenario.stocks)
    by_class = np.where(book.is_crypto, scenario.crypto, stocks).tolist()
    named = zip(book.symbols, by_class, strict=True)
    moves = np.array([single.get(symbol, move) for symbol, move in named])
    return moves, [
        f"stated for {'the symbol' if s in single else 'its class'}" for s in book.symbols
    ]


def _historical_moves(
    book: StressedBook, trading: Mask, session: Session, stated: Array, basis: list[str]
) -> tuple[Array, list[str]]:
    """Return the historical move of each symbol in a session, [S], and the basis of each.

    Moves run from the close of the previous session to the close of the bar at which the loss of
    the whole account is largest. Symbols without bars of that session have the stated move.

    trading: [S] false for a halted symbol, which contributes no loss.
    stated, basis: [S] moves stated by the scenario, and their bases.
    """
    bars, before = book.bars, session_on(session.previous_date)
    if before is None:
        return stated, basis
    eve = (bars.times > before.opens) & (bars.times <= before.closes)
    day = (bars.times > before.closes) & (bars.times <= session.closes)
    own = trading & bars.mask[:, eve].any(axis=1) & bars.mask[:, day].any(axis=1)
    if not own.any():
        return stated, basis
    closes = (
        pd.DataFrame(np.where(bars.mask, bars.values[:, :, CLOSE], np.nan).T).ffill().to_numpy()
    )
    rows = np.flatnonzero(day & bars.mask[own].any(axis=0))
    moves = np.where(own, closes[rows] / closes[np.flatnonzero(eve)[-1]] - 1.0, stated)
    worst = int(np.argmin(moves @ np.where(trading, book.position_values, 0.0)))
    words = (
        f"historical bars of the symbol, {format_utc(before.closes)} to"
        f" {format_utc(bars.times[rows[worst]])}"
    )
    return moves[worst], [words if mine else other for mine, other in zip(own, basis, strict=True)]
