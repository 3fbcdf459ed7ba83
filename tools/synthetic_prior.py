"""The synthetic prior that the shipped checkpoint is trained on: price paths with several futures.

No market data is involved. Every series is drawn from a mixture. Its volatility is GARCH or GJR,
stochastic with leverage, or constant, with Student-t innovations, intraday seasonality, overnight
gaps and two-state regimes. Returns may have small drift, first-order autocorrelation of either
sign, momentum, level reversion and jumps. Prices may have bid-ask bounce, tick rounding and stale
bars. One series in twenty is trend plus season.

Several futures continue from the same state. The pinball gradient of a quantile is then the share
of futures below it minus its level, with little noise. B series, L bars of context, F futures, H
steps, T bars simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array

BURN_IN = 60  # bars simulated before the context; volatility is stationary after them
# Bars a day or a week of sessions, from half-day crypto to ten-minute grids.
PERIODS = (5, 7, 13, 24, 26, 39)
PERIOD_SHARES = (0.06, 0.36, 0.1, 0.36, 0.06, 0.06)


@dataclass(frozen=True, eq=False, slots=True)
class SyntheticPaths:
    """Log prices relative to the last context bar (which is 0 before noise is added).

    context: [B, L].
    futures: [B, F, H].
    scale: [B] standard deviation of the context's one-bar returns.
    """

    context: Array
    futures: Array
    scale: Array


class _Process(NamedTuple):
    """Parameters of each series, [B] or [B, T]; returns are in units of its baseline deviation."""

    alpha: Array  # of the last square, in the variance of GJR-GARCH
    gamma: Array  # of the last square after a fall
    beta: Array  # of the variance
    stochastic: npt.NDArray[np.bool_]  # true if volatility is stochastic instead of GARCH
    persistence: Array  # of the fast log variance, a bar
    vol_of_vol: Array  # of the fast log variance
    leverage: Array  # correlation of the fast log variance with the return's shock
    slow_persistence: Array  # of the slow log variance, a bar
    slow_vol_of_vol: Array  # of the slow log variance
    freedom: Array  # degrees of the Student-t shocks
    regime: Array  # [B, T] multiplier of the deviation, one of two
    season: Array  # [B, T] multiplier of the deviation, by place in the period
    drift: Array  # a bar
    autocorrelation: Array  # of a return with the previous one
    trend: Array  # share of the momentum in a return
    memory: Array  # of the momentum, a bar
    reversion: Array  # share of the level that a bar reverts
    jump_rate: Array  # jumps a bar


def sample_paths(
    rng: np.random.Generator, batch: int, context: int, horizon: int, futures: int
) -> SyntheticPaths:
    """Draw `batch` series of `context` bars, each with `futures` continuations of `horizon`."""
    length = BURN_IN + context
    process = _draw_process(rng, batch, length + horizon)
    past, state = _simulate(rng, process, np.arange(length), _start(rng, process))
    # All futures continue from one state: they differ by later shocks only.
    states = tuple(np.repeat(part[:, None], futures, axis=1) for part in state)
    future, _ = _simulate(rng, process, np.arange(length, length + horizon), states)
    level = np.cumsum(past, axis=-1)
    ahead = level[:, -1][:, None, None] + np.cumsum(future, axis=-1)
    base = np.exp(rng.uniform(np.log(6e-4), np.log(2.5e-2), batch))
    level = level * base[:, None]
    ahead = ahead * base[:, None, None]
    level, ahead = _trend_and_season(rng, level, ahead, base)
    level, ahead = _observe(rng, level, ahead, base)
    anchor = level[:, -1].copy()
    level = level[:, BURN_IN:]
    returns = np.diff(level, axis=1)
    scale = np.maximum(returns.std(axis=1), 1e-6)
    return SyntheticPaths(level - anchor[:, None], ahead - anchor[:, None, None], scale)


def sample_ohlc(
    rng: np.random.Generator, batch: int, context: int, horizon: int, futures: int
) -> SyntheticPaths:
    """Draw open, high, low and close of `batch` series: 4·batch rows, four rows per series."""
    close = sample_paths(rng, batch, context + 1, horizon, futures)
    reach = rng.uniform(0.2, 0.9, batch)
    gap = rng.uniform(0.0, 0.3, batch)

    def bars(path: Array, before: Array) -> Array:
        previous = np.concatenate([before[..., None], path[..., :-1]], axis=-1)
        shape = (batch,) + (1,) * (path.ndim - 1)
        unit = close.scale.reshape(shape)
        start = previous + rng.normal(size=path.shape) * unit * gap.reshape(shape)
        above = np.abs(rng.normal(size=path.shape)) * unit * reach.reshape(shape)
        high = np.maximum(start, path) + above
        below = np.abs(rng.normal(size=path.shape)) * unit * reach.reshape(shape)
        low = np.minimum(start, path) - below
        return np.stack([start, high, low, path], axis=1)

    past = bars(close.context[:, 1:], close.context[:, 0])
    last = np.repeat(close.context[:, -1][:, None], futures, axis=1)
    ahead = bars(close.futures, last)
    return SyntheticPaths(
        past.reshape(4 * batch, context),
        ahead.reshape(4 * batch, futures, horizon),
        np.repeat(close.scale, 4),
    )


def _draw_process(rng: np.random.Generator, batch: int, length: int) -> _Process:
    def in_share(share: float, values: Array) -> Array:
        """Return the values for a share of the series, 0 for the others."""
        return np.where(rng.random(batch) < share, values, 0.0)

    alpha = rng.uniform(0.02, 0.14, batch)
    gamma = in_share(0.5, rng.uniform(0.0, 0.12, batch))
    persistence = 1 - np.exp(rng.uniform(np.log(0.004), np.log(0.15), batch))
    constant = rng.random(batch) < 0.12
    alpha = np.where(constant, 0.0, alpha)
    gamma = np.where(constant, 0.0, gamma)
    beta = np.where(constant, 1.0, np.maximum(persistence - alpha - gamma / 2, 0.0))
    switch = rng.random((batch, length)) < rng.uniform(0.005, 0.04, batch)[:, None]
    wild = (np.cumsum(switch, axis=1) + rng.integers(0, 2, batch)[:, None]) % 2 == 1
    regime = np.where(wild, np.exp(in_share(0.25, rng.uniform(0.2, 1.1, batch)))[:, None], 1.0)
    return _Process(
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        stochastic=(rng.random(batch) < 0.5) & ~constant,
        persistence=rng.uniform(0.8, 0.98, batch),
        vol_of_vol=rng.uniform(0.2, 1.0, batch),
        leverage=in_share(0.5, rng.uniform(-0.7, 0.1, batch)),
        slow_persistence=1 - np.exp(rng.uniform(np.log(5e-4), np.log(1e-2), batch)),
        slow_vol_of_vol=in_share(0.8, rng.uniform(0.2, 1.2, batch)),
        freedom=np.exp(rng.uniform(np.log(3.0), np.log(25.0), batch)),
        regime=regime,
        season=_seasonality(rng, batch, length),
        drift=in_share(0.5, rng.normal(0, 0.02, batch)),
        autocorrelation=in_share(0.5, np.clip(rng.normal(0, 0.1, batch), -0.4, 0.4)),
        trend=in_share(0.4, np.clip(rng.normal(0.03, 0.08, batch), -0.3, 0.3)),
        memory=rng.uniform(0.4, 0.9, batch),
        reversion=in_share(0.15, rng.uniform(0.005, 0.1, batch)),
        jump_rate=in_share(0.2, rng.uniform(0.002, 0.02, batch)),
    )


def _seasonality(rng: np.random.Generator, batch: int, length: int) -> Array:
    """Return a deviation multiplier [B, T] of mean square one.

    It is a U-shape or a sinusoid, with a gap at the first bar.
    """
    period = rng.choice(PERIODS, batch, p=PERIOD_SHARES)
    phase = (np.arange(length)[None, :] + rng.integers(0, 1_000, batch)[:, None]) % period[:, None]
    place = phase / np.maximum(period[:, None] - 1, 1)
    depth = rng.uniform(0.0, 0.6, batch)[:, None]
    u_shape = 1 + depth * (4 * (2 * place - 1) ** 2 - 4 / 3) / 2
    sinus = 1 + depth * np.sin(2 * np.pi * (place + rng.random(batch)[:, None]))
    shape = np.where(rng.random(batch)[:, None] < 0.5, u_shape, sinus)
    # Seven bars are a stock's session, whose first bar includes the night.
    daily_gap = (period == 7) & (rng.random(batch) < 0.85) | (rng.random(batch) < 0.08)
    gap = np.where(daily_gap, rng.uniform(1.5, 4.0, batch), 1.0)[:, None]
    shape = np.maximum(shape, 0.15) * np.where(phase == 0, gap, 1.0)
    shape = np.where((rng.random(batch) < 0.2)[:, None] & ~daily_gap[:, None], 1.0, shape)
    return np.asarray(shape / np.sqrt((shape**2).mean(axis=1, keepdims=True)))


def _start(rng: np.random.Generator, p: _Process) -> tuple[Array, ...]:
    """Return the state at the start, [B] each.

    Variance, fast and slow log variance, last return, momentum, level.
    """
    batch = len(p.freedom)
    zero = np.zeros(batch)
    slow = p.slow_vol_of_vol * rng.standard_normal(batch)
    fast = p.vol_of_vol * rng.standard_normal(batch)
    return np.ones(batch), fast, slow, zero, zero, zero


def _simulate(
    rng: np.random.Generator, p: _Process, times: npt.NDArray[np.int64], state: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...]]:
    """Return returns [B, …, T] in baseline deviations, and the state after them, from `state`."""
    variance, fast, slow, last, momentum, level = state
    lead = variance.shape
    column = (slice(None),) + (None,) * (variance.ndim - 1)
    freedom = p.freedom[column]
    unit = np.sqrt((freedom - 2) / freedom)
    shape = (len(times), *lead)
    shocks = rng.standard_t(np.broadcast_to(freedom, shape)) * unit
    fast_noise = rng.standard_normal(shape)
    slow_noise = rng.standard_normal(shape)
    jumps = (rng.random(shape) < p.jump_rate[column]) * rng.normal(0, 4.0, shape)
    alpha = p.alpha[column]
    gamma = p.gamma[column]
    beta = p.beta[column]
    stay = p.persistence[column]
    vol_of_vol = p.vol_of_vol[column]
    rho = p.leverage[column]
    rest = np.sqrt(1 - rho**2)
    stochastic = p.stochastic[column]
    slow_stay = p.slow_persistence[column]
    slow_gain = (p.slow_vol_of_vol * np.sqrt(1 - p.slow_persistence**2))[column]
    fast_gain = vol_of_vol * np.sqrt(1 - stay**2)
    memory = p.memory[column]
    gain = np.sqrt(1 - memory**2)
    # With this constant the unconditional variance of the GARCH is one.
    constant = 1 - alpha - gamma / 2 - beta
    out = np.empty(shape)
    for k, t in enumerate(times):
        deviation = np.where(stochastic, np.exp((fast + slow) / 2), np.sqrt(variance))
        shock = deviation * shocks[k]
        variance = constant + (alpha + gamma * (shock < 0)) * shock**2 + beta * variance
        noise = rho * np.clip(shocks[k], -4, 4) + rest * fast_noise[k]
        fast = stay * fast + fast_gain * noise
        slow = slow_stay * slow + slow_gain * slow_noise[k]
        move = (shock + jumps[k]) * (p.season[:, t] * p.regime[:, t])[column] + p.drift[column]
        move = move + p.autocorrelation[column] * last + p.trend[column] * momentum
        move = move - p.reversion[column] * level
        last = move
        momentum = memory * momentum + gain * move
        level = level * 0.995 + move
        out[k] = np.clip(move, -40, 40)
    return np.moveaxis(out, 0, -1), (variance, fast, slow, last, momentum, level)


def _trend_and_season(
    rng: np.random.Generator, level: Array, ahead: Array, base: Array
) -> tuple[Array, Array]:
    """Replace one series in twenty by slope, sine and independent noise around them."""
    length = level.shape[-1]
    horizon = ahead.shape[-1]
    size = (len(base), 1)
    chosen = rng.random(len(base)) < 0.05
    t = np.arange(length + horizon)
    period = rng.choice(PERIODS, size)
    slope = rng.normal(0, 0.3, size) * t
    swing = rng.uniform(0.5, 6, size)
    curve = (slope + swing * np.sin(2 * np.pi * (t / period + rng.random(size)))) * base[:, None]
    past = curve[:, :length] + rng.normal(size=level.shape) * base[:, None]
    future = curve[:, None, length:] + rng.normal(size=ahead.shape) * base[:, None, None]
    return np.where(chosen[:, None], past, level), np.where(chosen[:, None, None], future, ahead)


def _observe(
    rng: np.random.Generator, level: Array, ahead: Array, base: Array
) -> tuple[Array, Array]:
    """Add bid-ask bounce, ticks and stale bars; bounce and ticks continue after the last bar."""
    batch = len(base)
    bounce = np.where(rng.random(batch) < 0.2, rng.uniform(0.0, 0.35, batch), 0.0) * base
    tick = np.where(rng.random(batch) < 0.15, rng.uniform(0.05, 0.8, batch), 0.0) * base
    stale = np.where(rng.random(batch) < 0.05, rng.uniform(0.05, 0.4, batch), 0.0)

    def observed(path: Array) -> Array:
        column = (slice(None),) + (None,) * (path.ndim - 1)
        noisy = path + rng.choice((-1.0, 1.0), path.shape) * bounce[column]
        width = np.where(tick > 0, tick, 1.0)[column]
        return np.where(tick[column] > 0, np.round(noisy / width) * width, noisy)

    past = observed(level)
    future = observed(ahead)
    held = rng.random(past.shape) < stale[:, None]
    held[:, 0] = False
    fresh = np.where(held, 0, np.arange(past.shape[1])[None, :])
    last_fresh = np.maximum.accumulate(fresh, axis=1)
    return np.take_along_axis(past, last_fresh, axis=1), future
