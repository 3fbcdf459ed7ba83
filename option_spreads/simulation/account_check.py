"""An account's months beside the bands that resampling gave them beforehand.

The band of a month is learned from trades that had closed before its first day and from nothing
later. Runs begin with the account as it was then: its balance, its peak, a drawdown halt that was
in force, and the last trades that the autoscaler's statistics rest on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from foundation.arrays import Array
from foundation.counts import counted
from foundation.errors import InputError
from foundation.figures import percent, usd
from foundation.sample_size import FEWEST_FILLS
from option_spreads.autoscaler.rules import Drawdown
from option_spreads.simulation.resampled_accounts import MonteCarloSettings
from option_spreads.simulation.resampling import (
    NO_TRADE,
    ResamplingRules,
    account_paths,
    draw_trades,
    whole_units,
)
from option_spreads.simulation.trade_sample import Flow, sample_of, trades_per_session
from trainingdata.sessions import sessions_between

PERCENTILES = (5, 50, 95)
# Share of months that lie outside by chance: of 700 months of simulated accounts of unchanged luck
# (docs/SPREADS.md) 106 did. Exact bands would leave out a tenth.
OUTSIDE = 0.15
LEARNED = (
    "The band of a month is learned from the trades that had closed before its first day, and runs"
    " begin with the account as it was then; nothing later is looked at."
)
ONE_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class Month:
    """A month of an account; USD.

    month: its year and number, 2024-10.
    sessions: of the exchange; of the first month those from its first trade, of the last those up
        to its last.
    trades: that closed in it.
    result: of those, less FEE_PER_CONTRACT.
    balance: at its beginning.
    learned: trades that its band is learned from, all closed before it.
    band: 5th, 50th and 95th percentile of the runs; none with fewer than 30 trades to learn from.
    share_below: of the runs, those that end below the result; none without a band.
    """

    month: str
    sessions: int
    trades: int
    result: float
    balance: float
    learned: int
    band: tuple[float, float, float] | None = None
    share_below: float | None = None

    @property
    def place(self) -> Literal["below", "within", "above"] | None:
        """Where the result lies; None without a band."""
        if self.band is None:
            return None
        low, _, high = self.band
        return "below" if self.result < low else "above" if self.result > high else "within"

    @property
    def words(self) -> str:
        """What is said of it."""
        made = f"{self.month}: {usd(self.result, 0)} by {counted(self.trades, 'trade')}"
        if self.band is None:
            return (
                f"{made}; {counted(self.learned, 'trade')} had closed before it, a band takes"
                f" {FEWEST_FILLS}"
            )
        low, median, high = map(usd, self.band)
        return (
            f"{made}, {self.place} the band of {low} to {high} (median {median}) that the"
            f" {counted(self.learned, 'trade')} before it give"
        )

    @property
    def content(self) -> dict[str, Any]:
        """Its figures by name, as JSON has them."""
        band = self.band or (None, None, None)
        percentiles = {f"p{q}": value for q, value in zip(PERCENTILES, band, strict=True)}
        return {
            "month": self.month,
            "sessions": self.sessions,
            "trades": self.trades,
            "result": self.result,
            "balance_before": self.balance,
            "trades_learned_from": self.learned,
            **percentiles,
            "share_of_runs_below": self.share_below,
            "place": self.place,
            "words": self.words,
        }


def account_months(
    account: Sequence[Flow], known: Sequence[Flow], settings: MonteCarloSettings
) -> list[Month]:
    """The months of an account, from its first trade's to its last's, and their bands.

    The band is that of the runs in blocks; trades a day that are not set are those that a band is
    learned from, by sessions within the spans of their files.

    known: trades of another file, which are learned from too: only months after the last of them
        are given. Those that the account has as well are learned from once; what was paid in or out
        does not matter.
    """
    known = [flow for flow in known if flow.size]
    _refuse_undated(account, "check")
    _refuse_undated(known, "trades")
    months = [_month_of(flow) for flow in account if flow.size]
    first = min(months)
    if known:
        first = max(first, max(map(_month_of, known)) + 1)
    if first > max(months):
        raise InputError(
            f"check: no trade of it closed after {first - 1}, the month of the last of trades=…;"
            " leave trades out, and each month is beside what the account's earlier trades give"
        )
    numbers = np.arange(first, max(months) + 1)
    return [_month(account, known, np.datetime64(number), settings) for number in numbers]


def trades_in_both(account: Sequence[Flow], known: Sequence[Flow]) -> int:
    return sum(flow.size > 0 for flow in known) - len(_others(account, known))


def learned_text(in_both: int) -> str:
    """What bands are learned from; in_both: trades that two files have."""
    if not in_both:
        return LEARNED
    return f"{LEARNED} Learned from once: {counted(in_both, 'trade')} that trades=… has as well."


def _others(account: Sequence[Flow], known: Sequence[Flow]) -> list[Flow]:
    """Trades of another file that the account has not.

    An id alone does not say so: each run of a simulation may have the same ones.
    """
    there = {_identity(flow) for flow in account if flow.size and flow.name}
    return [flow for flow in known if flow.size and _identity(flow) not in there]


def _identity(flow: Flow) -> tuple[object, ...]:
    return flow.name, flow.entered, flow.closed, *flow.times, flow.amount


def _refuse_undated(flows: Sequence[Flow], key: str) -> None:
    for number, flow in enumerate(flows, 1):
        if flow.closed is None:
            kind = "trade" if flow.size else "deposit or withdrawal"
            raise InputError(
                f"{key}: result {number} of the file ({flow.name or 'without an id'}) is a {kind}"
                " without a time: Timestamp_ET or Exit_Time says in which month it is"
            )


def _closed(flow: Flow) -> np.datetime64:
    assert flow.closed is not None
    return flow.closed


def _month_of(flow: Flow) -> np.datetime64:
    month: np.datetime64 = _closed(flow).astype("datetime64[M]")
    return month


def _month(
    account: Sequence[Flow],
    known: Sequence[Flow],
    number: np.datetime64,
    settings: MonteCarloSettings,
) -> Month:
    begins = number.astype("datetime64[D]")
    ends = (number + 1).astype("datetime64[D]") - ONE_DAY
    before = [flow for flow in account if _closed(flow) < begins]
    within = [flow for flow in account if flow.size and _month_of(flow) == number]
    days = [_closed(flow) for flow in account if flow.size]
    sessions = len(sessions_between(max(begins, min(days)), min(ends, max(days))))
    fee = Fraction(str(settings.FEE_PER_CONTRACT))
    result = sum((flow.amount - fee * flow.size for flow in within), Fraction(0))
    traded = [flow for flow in before if flow.size]
    learned = [*_others(account, known), *traded]
    balance = Fraction(str(settings.STARTING_CAPITAL)) + sum(flow.amount for flow in before)
    month = Month(
        month=str(number),
        sessions=sessions,
        trades=len(within),
        result=float(result),
        balance=float(balance),
        learned=len(learned),
    )
    if len(learned) < FEWEST_FILLS or not sessions:
        return month
    a_day = settings.trades_per_day or trades_per_session(learned, [known, traded])
    results = _results_of_runs(before, learned, sessions, a_day, settings)
    low, median, high = (float(q) for q in np.percentile(results, PERCENTILES))
    return replace(
        month, band=(low, median, high), share_below=float((results < month.result).mean())
    )


def _results_of_runs(
    before: Sequence[Flow],
    learned: Sequence[Flow],
    sessions: int,
    trades_a_day: float,
    settings: MonteCarloSettings,
) -> Array:
    """What the runs of a month bring [R], USD.

    before: the account's own trades, deposits and withdrawals until then.
    learned: the trades that are resampled, the account's own at the end.
    """
    start = Fraction(str(settings.STARTING_CAPITAL))
    balances = list(accumulate((flow.amount for flow in before), initial=start))
    drawdown = Drawdown.along(balances, settings)
    needed = max(settings.ROLLING_WINDOW, settings.BOOTSTRAP_TRADES)
    history = min(sum(flow.size > 0 for flow in before), needed)
    sample = sample_of(learned)
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
    # The account's own trades come first, as days that are over: statistics and bootstrap have
    # them, the balance has them already.
    a_day = draws.shape[2]
    past = math.ceil(history / a_day)
    lead = np.full(past * a_day, NO_TRADE, dtype=np.int32)
    lead[:history] = np.arange(len(learned) - history, len(learned))
    days = np.broadcast_to(lead.reshape(past, a_day), (settings.runs, past, a_day))
    paths = account_paths(
        sample.results,
        sample.risks,
        np.concatenate([days, draws], axis=1),
        ResamplingRules.of(settings)._replace(
            start=whole_units(balances[-1]),
            peak=whole_units(drawdown.peak),
            stopped=drawdown.in_force > 0,
            past=past,
        ),
        sample.overlaps,
    )
    return np.round(paths.balances[:, -1] - paths.start, 4)


def check_content(months: Sequence[Month]) -> dict[str, Any]:
    """The months, how many lie outside their bands, and how likely so many are by chance."""
    places = [month.place for month in months if month.place is not None]
    outside = sum(place != "within" for place in places)
    judged = len(places)
    chance = sum(
        math.comb(judged, k) * OUTSIDE**k * (1 - OUTSIDE) ** (judged - k)
        for k in range(outside, judged + 1)
    )
    return {
        "months": [month.content for month in months],
        "judged": judged,
        "outside": outside,
        "p_so_many": min(chance, 1.0) if judged else None,
        "verdict": _verdict(judged, outside, chance),
    }


def _verdict(judged: int, outside: int, chance: float) -> str:
    if not judged:
        return f"No month has {FEWEST_FILLS} trades before it: nothing is judged."
    return (
        f"{outside} of {counted(judged, 'month')} outside the band, as were"
        f" {percent(OUTSIDE, 0)} of the"
        f" months of simulated accounts of unchanged luck; by luck so many or more have a chance"
        f" of {percent(min(chance, 1.0), 1)}."
    )
