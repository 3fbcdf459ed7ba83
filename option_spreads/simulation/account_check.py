"""An account's months beside the bands that resampling gave them beforehand.

The band of a month is learned from trades that had closed before its first day and from nothing
later. Runs begin with the account as it was then: its balance, and the last trades that the
autoscaler's statistics rest on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.counts import counted
from foundation.errors import InputError
from foundation.figures import percent, usd
from foundation.sample_size import FEWEST_FILLS
from option_spreads.simulation.resampled_accounts import MonteCarloSettings
from option_spreads.simulation.resampling import (
    NO_TRADE,
    ResamplingRules,
    account_paths,
    draw_trades,
    whole_units,
)
from option_spreads.simulation.trade_sample import Flow, sample_of
from trainingdata.sessions import sessions_between

PERCENTILES = (5, 50, 95)
# Share of months that lie outside by chance: of 700 months of simulated accounts of unchanged luck
# (docs/SPREADS.md) 106 did. Exact bands would leave out a tenth.
OUTSIDE = 0.15
ONE_DAY = np.timedelta64(1, "D")


def account_months(flows: Sequence[Flow], settings: MonteCarloSettings) -> list[dict[str, Any]]:
    """The months of an account, from its first trade's to its last's, and their bands; USD.

    A month's `sessions` are the exchange's; of the first month those from its first trade on, of
    the last those up to its last. `result` is less FEE_PER_CONTRACT. With fewer than 30 trades to
    learn from there is no band. The band is that of the runs in blocks; trades a day that are not
    set are those that a band is learned from, by sessions.
    """
    if any(flow.closed is None for flow in flows):
        raise InputError(
            "check: a row of the file has neither Timestamp_ET nor Exit_Time: nobody knows in which"
            " month it is"
        )
    months = [_month_of(flow) for flow in flows if flow.size]
    numbers = np.arange(min(months), max(months) + 1)
    return [_month(flows, np.datetime64(number), settings) for number in numbers]


def _closed(flow: Flow) -> np.datetime64:
    assert flow.closed is not None
    return flow.closed


def _month_of(flow: Flow) -> np.datetime64:
    month: np.datetime64 = _closed(flow).astype("datetime64[M]")
    return month


def _month(
    flows: Sequence[Flow], number: np.datetime64, settings: MonteCarloSettings
) -> dict[str, Any]:
    begins = number.astype("datetime64[D]")
    ends = (number + 1).astype("datetime64[D]") - ONE_DAY
    before = [flow for flow in flows if _closed(flow) < begins]
    within = [flow for flow in flows if flow.size and _month_of(flow) == number]
    days = [_closed(flow) for flow in flows if flow.size]
    sessions = len(sessions_between(max(begins, min(days)), min(ends, max(days))))
    fee = Fraction(str(settings.FEE_PER_CONTRACT))
    result = float(sum((flow.amount - fee * flow.size for flow in within), Fraction(0)))
    balance = Fraction(str(settings.STARTING_CAPITAL)) + sum(flow.amount for flow in before)
    learned = [flow for flow in before if flow.size]
    made = f"{number}: {usd(result, 0)} by {counted(len(within), 'trade')}"
    band: Sequence[float | None] = (None, None, None)
    share = place = None
    words = (
        f"{made}; {counted(len(learned), 'trade')} had closed before it, a band takes"
        f" {FEWEST_FILLS}"
    )
    if len(learned) >= FEWEST_FILLS and sessions:
        runs = _results_of_runs(balance, learned, sessions, settings)
        band = low, median, high = [float(q) for q in np.percentile(runs, PERCENTILES)]
        share = float((runs < result).mean())
        place = "below" if result < low else "above" if result > high else "within"
        words = (
            f"{made}, {place} the band of {usd(low)} to {usd(high)} (median {usd(median)}) that the"
            f" {counted(len(learned), 'trade')} before it give"
        )
    return {
        "month": str(number),
        "sessions": sessions,
        "trades": len(within),
        "result": result,
        "balance_before": float(balance),
        "trades_learned_from": len(learned),
        **{f"p{q}": value for q, value in zip(PERCENTILES, band, strict=True)},
        "share_of_runs_below": share,
        "place": place,
        "words": words,
    }


def _results_of_runs(
    balance: Fraction, learned: Sequence[Flow], sessions: int, settings: MonteCarloSettings
) -> Array:
    """What the runs of a month bring [R], USD, beginning with this balance."""
    sample = sample_of(learned)
    trades_a_day = settings.trades_per_day or sample.trades_per_day
    draws = draw_trades(
        len(learned),
        settings.runs,
        sessions,
        trades_a_day,
        settings.seed,
        block=settings.block_length(trades_a_day),
        # What is learned from few trades may lie far from what they are of.
        uncertainty=True,
    )
    # The account's last trades come first, as days that are over: statistics and bootstrap have
    # them, the balance has them already.
    history = min(len(learned), max(settings.ROLLING_WINDOW, settings.BOOTSTRAP_TRADES))
    a_day = draws.shape[2]
    past = math.ceil(history / a_day)
    lead = np.full(past * a_day, NO_TRADE, dtype=np.int32)
    lead[:history] = np.arange(len(learned) - history, len(learned))
    days = np.broadcast_to(lead.reshape(past, a_day), (settings.runs, past, a_day))
    paths = account_paths(
        sample.results,
        sample.risks,
        np.concatenate([days, draws], axis=1),
        ResamplingRules.of(settings)._replace(start=whole_units(balance), past=past),
        sample.overlaps,
    )
    return np.round(paths.balances[:, -1] - paths.start, 4)


def check_content(months: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The months, how many lie outside their bands, and how likely so many are by chance."""
    places = [month["place"] for month in months if month["place"] is not None]
    outside = sum(place != "within" for place in places)
    judged = len(places)
    tail = (
        math.comb(judged, k) * OUTSIDE**k * (1 - OUTSIDE) ** (judged - k)
        for k in range(outside, judged + 1)
    )
    chance = min(sum(tail), 1.0)
    verdict = (
        f"{outside} of {counted(judged, 'month')} outside the band, as were {percent(OUTSIDE, 0)}"
        " of the months of simulated accounts of unchanged luck; by luck so many or more have a"
        f" chance of {percent(chance, 1)}."
    )
    if not judged:
        verdict = f"No month has {FEWEST_FILLS} trades before it: nothing is judged."
    return {
        "months": months,
        "judged": judged,
        "outside": outside,
        "p_so_many": chance if judged else None,
        "verdict": verdict,
    }
