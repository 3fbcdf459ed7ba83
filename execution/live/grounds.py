"""Grounds: what an account held when its journal began, or when a person had looked at it.

An activity adds to the ground that counts, or to the one before where the ground has it already.
A trade has an instant that says which. What has only a day may be listed after a ground that has
it: it is of before where the ground shows that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from execution.alpaca.activities import (
    COIN_FEE,
    EXACT,
    EXERCISED_SHARES,
    EXERCISES,
    FILL,
    OPTION_ENDINGS,
    Activity,
)
from execution.live.differences import NONE, total
from execution.live.unlisted import has_expired, shares_of
from execution.option_orders import contract_of, is_option
from foundation.database import Database
from trainingdata.instants import instant, new_york_date

log = logging.getLogger(__name__)

# Quantities of a symbol on a ground: what it began with, and what has been added since.
_QUANTITIES = """
    SELECT qty FROM beginnings WHERE number = ?1 AND symbol = ?2
    UNION ALL SELECT qty FROM fills WHERE ground = ?1 AND symbol = ?2
    UNION ALL SELECT qty FROM activities WHERE ground = ?1 AND symbol = ?2
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """What was held at an instant, to which everything since is added.

    number: from 1; 0 is before the journal began.
    begun_at: instant by the venue's clock.
    """

    number: int
    begun_at: np.datetime64


def ground_of(database: Database, activity: Activity, ground: Ground) -> int:
    """The number of the ground that an activity adds to: this one, or the one before.

    A trade is of before where its instant is; a coin's fee where its day is. Anything else changes
    a position as it is listed, whatever its day, but for what a ground of that day or later shows
    to have been there:

    - the end of an option that it did not hold, and that was not traded since;
    - shares that were exercised with such an option;
    - what it took over beyond all that was written down before it, up to that quantity.
    """
    if _is_of_before(database, activity, ground):
        log.info("activity %s: %s is in what was held already", activity.id, activity.kind)
        return ground.number - 1
    return ground.number


def stamp(at: np.datetime64) -> str:
    """An instant as the journal writes it: texts of one length, in the order of time."""
    return str(at.astype("datetime64[ns]"))


def midnight(at: np.datetime64) -> np.datetime64:
    """The instant at which the New York day of an instant begins."""
    return instant(str(new_york_date(np.array([at]))[0]), name="the day")


def _is_of_before(database: Database, activity: Activity, ground: Ground) -> bool:
    if activity.kind == FILL:
        return bool(activity.at < ground.begun_at)
    # A coin's fee is listed after it was taken: one of an earlier day was taken before the ground.
    if activity.kind == COIN_FEE:
        return bool(activity.at < midnight(ground.begun_at))
    if not activity.quantity:
        return False
    if activity.kind in OPTION_ENDINGS and is_option(activity.symbol):
        old = activity.at < ground.begun_at or has_expired(activity.symbol, ground.begun_at)
        if old and not _was_held(database, activity.symbol, ground):
            return True
    if activity.kind == EXERCISED_SHARES and _is_of_an_option_of_before(database, activity, ground):
        return True
    # What has a later day than the ground was not there yet.
    return bool(activity.at < ground.begun_at) and _was_taken_over(database, activity, ground)


def _was_held(database: Database, symbol: str, ground: Ground) -> bool:
    """Whether the ground held it, or it was traded since."""
    found = database.rows(
        "SELECT 1 FROM beginnings WHERE number = ? AND symbol = ?"
        " UNION ALL SELECT 1 FROM fills WHERE ground = ? AND symbol = ? LIMIT 1",
        (ground.number, symbol, ground.number, symbol),
    )
    return bool(found)


def _is_of_an_option_of_before(database: Database, activity: Activity, ground: Ground) -> bool:
    """Whether shares were moved by an option whose end, of the same day, is of before."""
    marks = ", ".join("?" * len(EXERCISES))
    rows = database.rows(
        f"SELECT symbol, qty, ground FROM activities WHERE kind IN ({marks}) AND at = ?",
        (*sorted(EXERCISES), stamp(activity.at)),
    )
    with database.checked():
        grounds = {
            number
            for symbol, quantity, number in rows
            if is_option(symbol)
            and contract_of(symbol).root == activity.symbol
            # The booking takes the contracts off, so that what was held is the opposite.
            and shares_of(contract_of(symbol), -Decimal(quantity)) == activity.quantity
        }
    return bool(grounds) and ground.number not in grounds


def _was_taken_over(database: Database, activity: Activity, ground: Ground) -> bool:
    """Whether the ground took over as much beyond all that is written down before it."""
    # Before the first ground nothing is known whole.
    if ground.number < 2:
        return False
    held = database.rows(
        "SELECT qty FROM beginnings WHERE number = ? AND symbol = ?",
        (ground.number, activity.symbol),
    )
    before = database.rows(_QUANTITIES, (ground.number - 1, activity.symbol))
    with database.checked():
        began_with, came_to = (total(Decimal(each) for (each,) in rows) for rows in (held, before))
    beyond = EXACT.subtract(began_with, came_to)
    return NONE < activity.quantity <= beyond or beyond <= activity.quantity < NONE
