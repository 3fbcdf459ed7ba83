"""Sessions: arrays of quotes and trades over which one market of event contracts is played.

A session is a float64 array [T, F] of equal steps, at least two rows, and the F columns of
`SESSION_COLUMNS`. A session has no timestamps.

    yes_bid    best bid for YES, USD, a whole number of ticks from 0 to 1
    yes_ask    best ask of YES, USD, above the bid; the NO ask is 1 less the YES bid
    bid_size   contracts at the best bid
    ask_size   contracts at the best ask
    sold       contracts that market orders sold at the bid in the step that ends at this row
    bought     contracts that market orders bought at the ask in the step that ends at this row
    estimate   probability of YES from a model outside the market at this row; without a model
               the mid quote

A bid of 0 and an ask of 1 are empty sides: no order rests at them. The decision at row k uses rows
up to k; orders that rest are matched with row k + 1. No row depends on later rows. The last row is
settlement: nothing trades at it, and its mid quote is the outcome.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from event_contracts.trading.records import PRICE_UNITS_PER_DOLLAR
from event_contracts.trading.records import TICK_DTYPE as TICK_RECORD
from foundation.arrays import Array, StructuredArray
from foundation.errors import InputError

SESSION_COLUMNS = ("yes_bid", "yes_ask", "bid_size", "ask_size", "sold", "bought", "estimate")
YES_BID, YES_ASK, BID_SIZE, ASK_SIZE, SOLD, BOUGHT, ESTIMATE = range(len(SESSION_COLUMNS))
DEFAULT_TICK_USD = 0.01  # USD
_PRICE_TOL_USD = 1e-6  # USD: tolerance of a price to its tick, for 32-bit floats
MAX_CONTRACT_COUNT = 1e9  # contracts that wait or trade at once
_ROUNDING_TOL_USD = 1e-9  # USD
_ALL_COLUMNS = list(range(len(SESSION_COLUMNS)))
_QUOTE_COLUMNS = [YES_BID, YES_ASK]
_COUNT_COLUMNS = [BID_SIZE, ASK_SIZE, SOLD, BOUGHT]
_PROBABILITY_COLUMNS = [YES_BID, YES_ASK, ESTIMATE]


def validate_session(array: npt.ArrayLike, tick: float = DEFAULT_TICK_USD) -> Array:
    """Validate an array, and return a copy as a session [T, F] with prices exactly on ticks.

    tick: price step, USD; a dollar is a whole number of ticks.

    Raises `InputError` with row and column of an invalid value.
    """
    ticks = ticks_per_dollar(tick)
    session = _as_floats(array)
    quotes, counts = session[:, _QUOTE_COLUMNS], session[:, _COUNT_COLUMNS]
    probabilities = session[:, _PROBABILITY_COLUMNS]
    on_ticks = np.round(quotes * ticks) / ticks
    for columns, wrong, why in (
        (_ALL_COLUMNS, ~np.isfinite(session), "is not a finite number"),
        (_PROBABILITY_COLUMNS, (probabilities < 0) | (probabilities > 1), "is outside 0 … 1"),
        (_COUNT_COLUMNS, counts < 0, "is negative; contracts must be 0 or more"),
        (_COUNT_COLUMNS, counts > MAX_CONTRACT_COUNT, f"exceeds {MAX_CONTRACT_COUNT:g} contracts"),
        (
            _QUOTE_COLUMNS,
            np.abs(quotes - on_ticks) > _PRICE_TOL_USD,
            f"is not a multiple of the tick, ${1 / ticks:g}",
        ),
        ([YES_ASK], on_ticks[:, 1:] <= on_ticks[:, :1], "must be above yes_bid of the same row"),
    ):
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            column = columns[place]
            value = session[row, column]
            raise InputError(f"session: row {row}, {SESSION_COLUMNS[column]}: {value:g} {why}")
    session[:, _QUOTE_COLUMNS] = on_ticks
    return session


def mid_prices(session: Array) -> Array:
    """Return the mid quotes of the session [T], USD."""
    return np.asarray((session[:, YES_BID] + session[:, YES_ASK]) / 2)


def session_to_tick_records(session: Array) -> StructuredArray:
    """Convert sessions [..., T, F] to tick records [..., T]; contracts are rounded down."""
    tape = np.zeros(session.shape[:-1], TICK_RECORD)
    for column, name in enumerate(TICK_RECORD.names or ()):
        values = session[..., column]
        if column in _QUOTE_COLUMNS:
            values = np.round(values * PRICE_UNITS_PER_DOLLAR)
        tape[name] = np.floor(values) if column in _COUNT_COLUMNS else values
    return tape


def session_outcome(session: Array) -> int:
    """Return 1 if YES won (the last row's mid quote is at or above 0.5), else 0."""
    return int(mid_prices(session)[-1] >= 0.5 - _ROUNDING_TOL_USD)


def ticks_per_dollar(tick: float) -> int:
    """Return the number of price steps of `tick` USD in a dollar."""
    ticks = round(1 / tick) if 0 < tick < 1 else 0
    if not 2 <= ticks <= 10_000 or abs(ticks * tick - 1) > _ROUNDING_TOL_USD:
        raise InputError(
            f"tick: {tick:g} USD does not divide a dollar into 2 … 10,000 equal ticks; set 0.01"
        )
    return ticks


def _as_floats(array: npt.ArrayLike) -> Array:
    try:
        session = np.array(array, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"session: not an array of numbers: {str(error).splitlines()[0]}"
        ) from None
    if session.ndim != 2 or session.shape[1] != len(SESSION_COLUMNS) or len(session) < 2:
        raise InputError(
            f"session: shape is {session.shape}; expected two rows or more of"
            f" {len(SESSION_COLUMNS)} columns ({', '.join(SESSION_COLUMNS)})"
        )
    return session
