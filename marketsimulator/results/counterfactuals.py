"""Counterfactuals: reruns with one change (forecasts, costs or bars) as controls for a run.

Beliefs are the expected returns and covariances of all decisions of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable
from execution.orders.fees import FeeSchedule
from execution.orders.lending import MarginTerms
from foundation.settings import with_changes
from marketsimulator.settings import BacktestSettings, CounterfactualKind
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, UnconfirmedBars
from trainingdata.delistings import Delisting, next_session_open
from trainingdata.market import Market

COST_MULTIPLES = (0.0, 2.0, 4.0)  # multiples of the costs
SCRAMBLE_VOLATILITY = 0.02  # deviation of a bar's log return in a scrambled future
DATED_FEE_RATES = ("sec_per_dollar", "taf_per_share", "cat_per_share")
COMMISSION_FIELDS = ("commission_bps", "commission_per_share")
LENDING_RATE_FIELDS = ("interest_rate", "borrow_rate")
LENDING_RATE_TABLES = ("interest_rates", "borrow_rates")


class Counterfactual(NamedTuple):
    """One change to a backtest, as a function on its settings and a function on its beliefs.

    name_suffix: suffix appended to the name of the changed backtest.
    change_settings: function that maps the original settings to the changed ones.
    change_beliefs: function that maps the original beliefs to the changed ones.
    """

    name_suffix: str
    change_settings: Callable[[BacktestSettings], BacktestSettings]
    change_beliefs: Callable[[BeliefTable], BeliefTable]


def _unchanged(value: Any) -> Any:
    return value


NO_COUNTERFACTUAL = Counterfactual("", _unchanged, _unchanged)


def build_counterfactuals(kinds: Sequence[CounterfactualKind], seed: int) -> list[Counterfactual]:
    """Build the counterfactuals of these kinds.

    seed: seed of the shuffled forecasts.
    """
    found: list[Counterfactual] = []
    if "lag" in kinds:
        found.append(Counterfactual("lagged", _unchanged, lag_beliefs))
    if "shuffled" in kinds:
        found.append(Counterfactual("shuffled", _unchanged, partial(shuffle_beliefs, seed=seed)))
    if "costs" in kinds:
        found += [
            Counterfactual(f"costs×{scale:g}", partial(scale_costs, scale=scale), _unchanged)
            for scale in COST_MULTIPLES
        ]
    return found


def scramble_later_bars(bars: Bars, cutoff: np.datetime64, seed: int) -> Bars:
    """Return the bars with all prices after `cutoff` multiplied by a random walk.

    All prices of bars that start at `cutoff` or later change. A bar that contains `cutoff` keeps
    its open, at which orders may have filled; its high, low and close change.
    """
    rng = np.random.default_rng(seed)
    values = bars.values.copy()
    for s, item in enumerate(bars.instruments):
        starts = bars.clock(item.kind).starts_by_end(bars.times)
        later = starts >= cutoff
        running = (starts < cutoff) & (bars.times > cutoff)
        walk = np.exp(np.cumsum(rng.normal(0, SCRAMBLE_VOLATILITY, int(later.sum()))))
        values[s, later, :VOLUME] *= walk[:, None]
        close = values[s, running, CLOSE] * np.exp(
            rng.normal(0, SCRAMBLE_VOLATILITY, int(running.sum()))
        )
        values[s, running, CLOSE] = close
        values[s, running, HIGH] = np.maximum(values[s, running, OPEN], close)
        values[s, running, LOW] = np.minimum(values[s, running, OPEN], close)
    return replace(bars, values=values)


def drop_later_bars(bars: Bars, cutoff: np.datetime64) -> Bars:
    """Return the panel without the bars that start at `cutoff` or later.

    A bar that contains `cutoff` stays, because an order decided at `cutoff` may fill in it.
    """
    mask = bars.mask.copy()
    for s, item in enumerate(bars.instruments):
        # An instant without a bar of this kind has no start, NaT, for which every comparison is
        # false: the negation keeps its mask.
        mask[s] &= ~(bars.clock(item.kind).starts_by_end(bars.times) >= cutoff)
    values = np.where(mask[:, :, None], bars.values, np.nan)
    stop = int(np.flatnonzero(mask.any(axis=0))[-1]) + 1
    shorter = replace(
        bars,
        values=values,
        mask=mask,
        unconfirmed_bars=_unconfirmed_bars_before(bars, cutoff, bars.symbols),
    )
    return shorter.slice_rows(0, stop)


def _unconfirmed_bars_before(
    bars: Bars, cut: np.datetime64, symbols: Collection[str]
) -> tuple[UnconfirmedBars, ...]:
    """Return the unconfirmed bars without those of `symbols` that start at `cut` or later."""
    kept = []
    for item, (times, values) in zip(
        bars.instruments, bars.unconfirmed_bars, strict=bool(bars.unconfirmed_bars)
    ):
        early = bars.clock(item.kind).starts_by_end(times) < cut
        early |= item.symbol not in symbols
        kept.append((times[early], values[early]))
    return tuple(kept)


def delist_random_symbols(market: Market, cutoff: np.datetime64, seed: int) -> Market:
    """Return the market with a random half of the symbols delisted after `cutoff`.

    These symbols have no later bars. For every second of them the market also lists a delisting in
    the next session, at a price of zero.
    """
    bars = market.bars
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(bars.symbols))[: max(1, len(bars.symbols) // 2)]
    shorter = drop_later_bars(bars, cutoff)
    mask = bars.mask.copy()
    mask[chosen, : len(shorter.times)] = shorter.mask[chosen]
    mask[chosen, len(shorter.times) :] = False
    values = np.where(mask[:, :, None], bars.values, np.nan)
    unconfirmed_bars = _unconfirmed_bars_before(
        bars, cutoff, {bars.symbols[s] for s in chosen.tolist()}
    )
    cut_short = replace(bars, values=values, mask=mask, unconfirmed_bars=unconfirmed_bars)
    opens = next_session_open(cutoff)
    listed = tuple(Delisting(bars.symbols[s], opens, opens) for s in sorted(chosen[::2].tolist()))
    endings = replace(
        market.delisting_rules,
        explicit_delistings=(*market.delisting_rules.explicit_delistings, *listed),
    )
    return replace(market, bars=cut_short, delisting_rules=endings)


def lag_beliefs(beliefs: BeliefTable) -> BeliefTable:
    """Return beliefs in which each decision has the forecast of the symbol's previous decision.

    A forecast is the expected return `mu` with its deviation `sigma`. The first decision of each
    symbol has no predecessor and is dropped.
    """
    mu = beliefs.mu.copy()
    sigma = beliefs.sigma.copy()
    adjustable = beliefs.is_adjustable.copy()
    for s in range(mu.shape[2]):
        rows = np.flatnonzero(beliefs.is_adjustable[:, s])
        mu[rows[1:], :, s] = beliefs.mu[rows[:-1], :, s]
        sigma[rows[1:], :, s] = beliefs.sigma[rows[:-1], :, s]
        adjustable[rows[:1], s] = False
    return beliefs._replace(mu=mu, sigma=sigma, is_adjustable=adjustable)


def shuffle_beliefs(beliefs: BeliefTable, seed: int) -> BeliefTable:
    """Return beliefs with each symbol's expected returns permuted among its decisions.

    The ratios mu / sigma are permuted, so that bet sizes keep their distribution and lose their
    timing.
    """
    rng = np.random.default_rng(seed)
    mu = beliefs.mu.copy()
    for s in range(mu.shape[2]):
        rows = np.flatnonzero(beliefs.is_adjustable[:, s])
        ratio = beliefs.mu[rows, :, s] / beliefs.sigma[rows, :, s]
        mu[rows, :, s] = rng.permutation(ratio) * beliefs.sigma[rows, :, s]
    return beliefs._replace(mu=mu)


def scale_costs(settings: BacktestSettings, scale: float) -> BacktestSettings:
    """Return the settings with costs, fees and lending rates multiplied by `scale`."""
    scaled = {f"costs.{name}": scale * cost for name, cost in asdict(settings.costs).items()}
    return replace(
        with_changes(settings, scaled),
        fees=_scale_fees(settings.fees, scale),
        margin=_scale_margin(settings.margin, scale),
    )


def _scale_fees(fees: FeeSchedule, scale: float) -> FeeSchedule:
    scaled: dict[str, Any] = {name: scale * getattr(fees, name) for name in COMMISSION_FIELDS}
    for name in DATED_FEE_RATES:
        # A rate without a cap has an infinite one, and 0 times infinity is not a number.
        scaled[name] = tuple(
            replace(rate, rate=scale * rate.rate, cap=scale * rate.cap if scale else rate.cap)
            for rate in getattr(fees, name)
        )
    # A crypto fee is charged in the crypto that is bought and cannot exceed the purchase.
    scaled["crypto_tiers"] = tuple(
        replace(tier, maker=min(scale * tier.maker, 0.99), taker=min(scale * tier.taker, 0.99))
        for tier in fees.crypto_tiers
    )
    return replace(fees, **scaled)


def _scale_margin(margin: MarginTerms, scale: float) -> MarginTerms:
    scaled: dict[str, Any] = {name: scale * getattr(margin, name) for name in LENDING_RATE_FIELDS}
    for name in LENDING_RATE_TABLES:
        rates = getattr(margin, name)
        scaled[name] = tuple(replace(rate, rate=scale * rate.rate) for rate in rates)
    return replace(margin, **scaled)
