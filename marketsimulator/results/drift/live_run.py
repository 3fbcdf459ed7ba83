"""A live account as a backtest's is shown: marked at the closes of bars, with all of its money."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marketsimulator.records import Booking, InitialPosition, Run
from marketsimulator.results.attribution import fees_in_coin, marks_of
from trainingdata.market import Market

HALF_A_CENT = 0.005  # USD: what floats leave over is less


def marked_at_closes(run: Run, market: Market) -> Run:
    """The run of a journal, with rows whose worth follows from the bars alone.

    A position is worth what its last close makes it, as in a backtest; what is not among the bars
    is cash. Cash that neither a fill nor a booking explains is `other` of the account.
    """
    bars = market.bars
    fills = [fill for fill in run.fills if fill.symbol in bars.symbols]
    at, _ = run.curve()
    cash = np.array([row.cash for row in run.rows])
    counted = np.minimum(np.searchsorted(at, [fill.booked_at for fill in fills]), len(at) - 1)
    paid = np.zeros(len(at))
    np.add.at(paid, counted, [float(fill.qty) * fill.price for fill in fills])
    in_coin = np.zeros(len(at))
    np.add.at(in_coin, counted, fees_in_coin(fills))
    gross = {False: np.zeros(len(at)), True: np.zeros(len(at))}
    equity = cash.copy()
    begins = {}
    quantities = run.quantities(bars.symbols)
    for s, symbol in enumerate(bars.symbols):
        if not quantities[s].any():
            continue
        marks, _ = marks_of(market, s, at)
        worth = quantities[s] * marks
        equity += worth
        gross[bool(bars.crypto[s])] += np.abs(worth)
        if symbol in run.begins:
            begins[symbol] = InitialPosition(run.begins[symbol].quantity, float(marks[0]))
    listed = np.array([row.other - row.interest for row in run.rows])
    unlisted = np.diff(cash, prepend=cash[0]) + paid - listed
    rows = [
        row._replace(
            equity=float(equity[k]),
            gross_stock=float(gross[False][k]),
            gross_crypto=float(gross[True][k]),
            other=row.other + float(unlisted[k]),
            coin_fees=float(in_coin[k]),
        )
        for k, row in enumerate(run.rows)
    ]
    unexplained = [
        Booking(row.at, "", "other", float(unlisted[k]))
        for k, row in enumerate(run.rows)
        if abs(unlisted[k]) >= HALF_A_CENT
    ]
    bookings = [
        booking if booking.symbol in bars.symbols else booking._replace(symbol="")
        for booking in (*run.bookings, *unexplained)
    ]
    return replace(run, fills=fills, rows=rows, bookings=bookings, begins=begins)
