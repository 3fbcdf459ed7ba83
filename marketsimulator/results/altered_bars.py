"""Bars and markets that are altered after a cutoff, for the audit of look-ahead bias."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, UnconfirmedBars
from trainingdata.delistings import Delisting, next_session_open
from trainingdata.market import Market

SCRAMBLE_VOLATILITY = 0.02  # deviation of a bar's log return in a scrambled future


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

    These symbols have no later bars. For every second such symbol the market also lists a delisting
    in the next session, at a price of zero.
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
