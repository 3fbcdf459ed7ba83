"""The fees of coins that a venue has taken and not listed, or listed long after it took them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import numpy as np

from execution.alpaca.activities import COIN_FEE
from execution.live.differences import Explained, taker_fees
from execution.live.grounds import Ground, midnight, stamp
from foundation.database import Database
from trainingdata.instants import DAY
from trainingdata.instruments import is_coin, is_symbol

# What was bought on a ground by instants of a range; the index has the symbol and the instant.
_PURCHASES = """
    SELECT qty, ground FROM fills
    WHERE symbol = ? AND at >= ? AND at <= ? AND qty NOT LIKE '-%'
"""
_END = "9999"  # later than every instant, as the journal writes them
_BEGINNING = ""


def explained_by_fees(
    database: Database, ground: Ground, symbols: Iterable[str], taker_fee: Decimal
) -> dict[str, Explained]:
    """By how much each coin that was bought may differ from the sum, by symbol.

    symbols: of which something was held or bought on the ground.
    taker_fee: the fraction that the venue keeps of a purchase at most.
    """
    fees = database.rows(
        "SELECT symbol, max(at) FROM activities WHERE kind = ? GROUP BY symbol", (COIN_FEE,)
    )
    with database.checked():
        since = {symbol: stamp(np.datetime64(last, "ns") - DAY) for symbol, last in fees}
    # Purchases of before the ground were listed with it, or are older: none is a day younger.
    earliest = stamp(midnight(ground.begun_at) - DAY)
    latest = stamp(ground.begun_at + DAY)
    explained = {}
    for symbol in symbols:
        if not (is_symbol(symbol) and is_coin(symbol)):
            continue
        after = database.rows(_PURCHASES, (symbol, since.get(symbol, _BEGINNING), _END))
        before = database.rows(_PURCHASES, (symbol, earliest, latest))
        with database.checked():
            missing = [Decimal(bought) for bought, number in after if number == ground.number]
            listed = [Decimal(bought) for bought, number in before if number < ground.number]
        explained[symbol] = Explained(taker_fees(missing, taker_fee), taker_fees(listed, taker_fee))
    return explained
