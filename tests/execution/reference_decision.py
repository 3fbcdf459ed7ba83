"""One decision reckoned plainly, from docs/MATH.md: NumPy and an interior-point solver alone.

Nothing of the product is imported: what it shares with it are the words and the numbers of a case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import piqp

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FAR = 100.0  # a change of weight beyond every plan
FULL = 1e-9  # of a ceiling


@dataclass(frozen=True)
class Believed:
    """What is believed of S symbols over K blocks at one instant.

    mu, sigma: [K, S], NaN without a forecast; premium_per_unit_sharpe: [S] a year, for a Sharpe
    ratio of one; signal_rms: [S]; class_trading_years: [K, 2] of stocks and coins;
    shared_news_fraction: [K];
    matrix: [S, S]; interest_night_count: [K]; earned: share of the forecast that counts, NaN for
    all of it.
    """

    is_adjustable: Mask
    is_overnight: bool
    can_trim_overnight: bool
    mu: Array
    sigma: Array
    premium_per_unit_sharpe: Array
    signal_rms: Array
    class_trading_years: Array
    shared_news_fraction: Array
    matrix: Array
    interest_night_count: Array
    earned: float

    @property
    def share(self) -> float:
        return 1.0 if np.isnan(self.earned) else self.earned


@dataclass(frozen=True)
class Held:
    """An account: USD, quantities [S] and prices [S]; unborrowed: USD that may buy coins.

    leverage: stock gross that the venue lends; shorting: whether it lends shares.
    """

    cash: float
    unborrowed: float
    quantity: Array
    price: Array
    leverage: float
    shorting: bool


@dataclass(frozen=True)
class Rules:
    """What a decision reckons with; pairs are of stocks and of coins, or by day and overnight.

    smallest: USD of a coin order that is sized at least, and of a position that is closed whole.
    """

    crypto: Mask
    long_only: Mask
    increment: Array
    fraction: float
    forecast: bool
    sharpe: tuple[float, float]
    cost: tuple[float, float]
    night_rate: float
    cap: float
    leverage: tuple[float, float]
    buffer: float
    crypto_leverage: float
    margin_equity: float
    order_price_buffer: float
    smallest: tuple[float, float]


@dataclass(frozen=True)
class Program:
    """maximise Σ mu'w - w'Cw / 2f - toll·borrowed - cost'|change|, the first block under limits."""

    mu: Array
    covariance: Array
    held: Array
    cost: Array
    financing: Array
    lower: Array
    upper: Array
    rows: Array
    rooms: Array
    fraction: float

    @property
    def fixed(self) -> Mask:
        """[S] what may not change."""
        return self.lower == self.upper


@dataclass(frozen=True)
class Decided:
    """Weights [S] and signed quantities [S] that are to be held; program: None without equity."""

    weight: Array
    quantity: Array
    program: Program | None
    plan: Array


def decided(believed: Believed, held: Held, rules: Rules) -> Decided:
    """What is to be held."""
    # One by one, as an account is added up: what it is worth may be a threshold to the last bit.
    equity = held.cash + sum((held.quantity * held.price).tolist())
    crypto = rules.crypto
    if not equity > 0:
        closed = believed.is_adjustable | (
            ~crypto if believed.can_trim_overnight else np.zeros(len(crypto), bool)
        )
        quantity = np.where(closed, 0.0, held.quantity)
        quantity = np.where(is_small(quantity, held, rules), held.quantity, quantity)
        return Decided(np.full(len(crypto), np.nan), quantity, None, np.empty((0, len(crypto))))
    weight = held.quantity * held.price / equity
    margined = equity >= rules.margin_equity
    ceiling = stock_ceiling(held.leverage, margined, believed.is_overnight, rules)
    unborrowed = held.unborrowed / equity / rules.order_price_buffer
    lower, upper = bounds(believed.is_adjustable, weight, margined, held.shorting, rules)
    program = program_of(believed, weight, ceiling, unborrowed, lower, upper, rules)
    plan = solved(program) if believed.is_adjustable.any() else weight[None]
    target = plan[0]
    if believed.is_adjustable.any():
        steps = rules.increment * held.price / equity
        target = paid(target, weight, unborrowed, steps, 0.01 / equity, rules)
    if believed.can_trim_overnight:
        target = cut(target, ~crypto & ~believed.is_adjustable, ceiling, crypto)
    quantity = quantities(target, weight, held, equity, rules)
    small = is_small(quantity, held, rules)
    return Decided(
        np.where(small, weight, target), np.where(small, held.quantity, quantity), program, plan
    )


def is_small(quantity: Array, held: Held, rules: Rules) -> Mask:
    """[S] which changes of coins are worth less than the venue takes."""
    sizes = (quantity - held.quantity).tolist()
    steps = [whole(size, step) for size, step in zip(sizes, rules.increment, strict=True)]
    change = np.abs(steps) * held.price
    order, close = rules.smallest
    closes = (quantity == 0) & (held.quantity != 0)
    small = np.where(closes, np.abs(held.quantity) * held.price < close, change < order)
    return np.asarray(small & rules.crypto & (quantity != held.quantity) & (change > 0))


def stock_ceiling(lent: float, margined: bool, overnight: bool, rules: Rules) -> float:
    """Stock gross in multiples of equity: what is allowed, within what orders reach."""
    by_day = min(rules.leverage[0], lent / rules.order_price_buffer)
    allowed = min(rules.leverage[1] * (1 - rules.buffer), by_day) if overnight else by_day
    return allowed if margined else min(allowed, 1.0)


def bounds(
    is_adjustable: Mask, weight: Array, margined: bool, shorting: bool, rules: Rules
) -> tuple[Array, Array]:
    """Lower and upper weight [S]: of what may not be sold short a short may stay, and shrink."""
    least = np.full(len(weight), -rules.cap if margined else 0.0)
    kept = np.maximum(least, np.minimum(weight, 0.0))
    lower = np.where(rules.long_only | (not shorting), kept, least)
    return np.where(is_adjustable, lower, weight), np.where(is_adjustable, rules.cap, weight)


def program_of(
    believed: Believed,
    weight: Array,
    ceiling: float,
    unborrowed: float,
    lower: Array,
    upper: Array,
    rules: Rules,
) -> Program:
    """The program of an instant."""
    crypto = rules.crypto
    periods, symbols = believed.mu.shape
    kind = crypto.astype(int)
    years = believed.class_trading_years[:, kind]
    sharpe = np.array(rules.sharpe)[kind]
    forecast = believed.mu * believed.share if rules.forecast else np.zeros(believed.mu.shape)
    mu = np.where(
        believed.is_adjustable, forecast + believed.premium_per_unit_sharpe * sharpe * years, 0.0
    )
    across = crypto[:, None] != crypto
    covariance = np.empty((periods, symbols, symbols))
    for k in range(periods):
        shared = np.where(across, believed.shared_news_fraction[k], 1.0)
        risk = believed.matrix * shared * np.outer(believed.sigma[k], believed.sigma[k])
        covariance[k] = np.nan_to_num(risk, nan=0.0)
    cost = np.repeat(np.array(rules.cost)[kind][None], periods, axis=0)
    if periods > 1 and rules.forecast:
        cost[-1] = [
            c * (math.erf(c / (worth * math.sqrt(2))) if worth > 0 else 1.0)
            for c, worth in zip(cost[-1], believed.signal_rms * believed.share, strict=True)
        ]
    rows = np.array([~crypto, crypto, crypto, np.where(crypto, 1.0, 1.0 / ceiling)], float)
    coins = float(np.abs(weight[crypto]).sum())
    spendable = max(unborrowed / (1.0 + cost[0].max()), 0.0)
    rooms = np.array([ceiling, rules.crypto_leverage, coins + spendable, 1.0])
    fixed = lower == upper
    rooms = np.maximum(rooms, rows @ np.where(fixed, np.abs(lower), 0.0))
    financing = rules.night_rate * believed.interest_night_count
    reach = [np.maximum(np.abs(lower), np.abs(upper)).sum()]
    reach += [room / row.min() for row, room in zip(rows, rooms, strict=True) if (row > 0).all()]
    if min(reach) <= 1 + FULL:  # an account without margin pays no interest
        financing = np.zeros(periods)
    return Program(
        mu, covariance, weight, cost, financing, lower, upper, rows, rooms, rules.fraction
    )


def worth(p: Program, plan: Array) -> float:
    """The objective of a plan [K, S]."""
    total = 0.0
    before = p.held
    for k, w in enumerate(plan):
        sizes = np.abs(w).sum() if k == 0 else w[~p.fixed].sum() + np.abs(w[p.fixed]).sum()
        total += p.mu[k] @ w - w @ p.covariance[k] @ w / (2 * p.fraction)
        total -= (
            p.financing[k] * max(sizes - 1.0, 0.0)
            + p.cost[k][~p.fixed] @ np.abs(w - before)[~p.fixed]
        )
        before = w
    return float(total)


def solved(p: Program) -> Array:
    """The best plan [K, S]: of weights, their sizes, changes, and what is borrowed."""
    periods = len(p.mu)
    free = np.flatnonzero(~p.fixed)
    n = len(free)
    fixed_size = float(np.abs(p.lower[p.fixed]).sum())
    # x = [w of each block, |w| of the first, |change| into each block, borrowed in each]
    weights = [slice(k * n, (k + 1) * n) for k in range(periods)]
    sizes = slice(periods * n, (periods + 1) * n)
    moved = [slice((periods + 1 + k) * n, (periods + 2 + k) * n) for k in range(periods)]
    borrowed = (2 * periods + 1) * n
    count = borrowed + periods
    hessian = np.zeros((count, count))
    slope = np.zeros(count)
    low, high = np.full(count, -np.inf), np.full(count, np.inf)
    lines: list[Array] = []
    most: list[float] = []

    def at_most(limit: float, **parts: tuple[slice | int, Array | float]) -> None:
        line = np.zeros(count)
        for where, values in parts.values():
            line[where] += values
        lines.append(line)
        most.append(limit)

    for k in range(periods):
        hessian[weights[k], weights[k]] = p.covariance[k][np.ix_(free, free)] / p.fraction
        pull = p.covariance[k][np.ix_(free, np.flatnonzero(p.fixed))] @ p.lower[p.fixed]
        slope[weights[k]] = -(p.mu[k][free] - pull / p.fraction)
        slope[moved[k]] = p.cost[k][free]
        slope[borrowed + k] = p.financing[k]
        low[borrowed + k] = 0.0
        counted = (sizes if k == 0 else weights[k], 1.0)
        at_most(1.0 - fixed_size, counted=counted, borrowed=(borrowed + k, -1.0))
        for a in range(n):
            for sign in (1.0, -1.0):
                now = (weights[k].start + a, sign)
                change = (moved[k].start + a, -1.0)
                if k == 0:
                    at_most(sign * p.held[free[a]], now=now, change=change)
                    at_most(0.0, now=now, size=(sizes.start + a, -1.0))
                else:
                    before = (weights[k - 1].start + a, -sign)
                    at_most(0.0, now=now, before=before, change=change)
                    low[change[0]], high[change[0]] = 0.0, FAR
    low[weights[0]], high[weights[0]] = p.lower[free], p.upper[free]
    taken = p.rows[:, p.fixed] @ np.abs(p.lower[p.fixed])
    for row, room, used in zip(p.rows, p.rooms, taken, strict=True):
        at_most(max(room - used, 0.0), sizes=(sizes, row[free]))
    scale = 1e4
    solver = piqp.DenseSolver()
    for name in ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel"):
        setattr(solver.settings, name, 1e-11)
    solver.settings.max_iter = 500
    solver.setup(
        np.asfortranarray(hessian * scale),
        slope * scale,
        None,
        None,
        np.asfortranarray(np.array(lines)),
        None,
        np.array(most),
        low,
        high,
    )
    assert solver.solve() == piqp.PIQP_SOLVED
    plan = np.repeat(p.lower[None], periods, axis=0)
    for k in range(periods):
        plan[k, free] = solver.result.x[weights[k]]
    return plan


def paid(
    target: Array, weight: Array, unborrowed: float, steps: Array, cent: float, rules: Rules
) -> Array:
    """Targets whose purchases of coins, cut alike, are paid with cash and with what coins bring."""
    cost = np.array(rules.cost)[rules.crypto.astype(int)]
    bought = rules.crypto & (target > weight)
    sold = rules.crypto & (target < weight)
    needed = float(((target - weight) * (1 + cost))[bought].sum())
    freed = 0.0
    for s in np.flatnonzero(sold):
        size = weight[s] - target[s]
        if target[s] != 0:
            size = whole(weight[s] - whole(target[s], steps[s]), steps[s])
        freed += max(size * (1 - cost[s]) - cent, 0.0)
    payable = max(unborrowed + freed / rules.order_price_buffer, 0.0)
    if needed <= payable + FULL:
        return target
    return np.where(bought, weight + payable / needed * (target - weight), target)


def cut(target: Array, trimmable: Mask, ceiling: float, crypto: Mask) -> Array:
    """Targets, of which what nothing has sized keeps the share that fits into the night."""
    load = np.where(crypto, 1.0, 1.0 / ceiling) * np.abs(target)
    if load.sum() <= 1 + FULL or not load[trimmable].sum() > 0:
        return target
    share = max(1.0 - (load.sum() - 1.0) / load[trimmable].sum(), 0.0)
    return np.where(trimmable, target * share, target)


def quantities(target: Array, weight: Array, held: Held, equity: float, rules: Rules) -> Array:
    """Signed quantities in whole increments; what is held where a weight stays."""
    wanted = [
        whole(w * equity / price, step)
        for w, price, step in zip(target, held.price, rules.increment, strict=True)
    ]
    return np.where(target == weight, held.quantity, wanted)


def whole(size: float, step: float) -> float:
    """The largest multiple of a step that is no further from zero, to a billionth of a step."""
    return math.copysign(math.floor(abs(size) / step + 1e-9) * step, size)


def beyond(p: Program, plan: Array, s: int, weight: float) -> tuple[float, float]:
    """What one more of a weight adds to the objective, away from zero and net of its cost.

    And the direction. plan [K, S]: the weights of every block; ceilings and borrowing are left out.
    """
    first = np.where(np.arange(len(p.held)) == s, weight, plan[0])
    slope = p.mu[0, s] - p.covariance[0, s] @ first / p.fraction
    for k in range(1, len(plan)):
        slope += p.mu[k, s] - p.covariance[k, s] @ plan[k] / p.fraction
    outward = -1.0 if weight < 0 or (weight == 0 and slope < 0) else 1.0
    back = (p.held[s] - weight) * outward > 0
    return float(outward * slope + (p.cost[0, s] if back else -p.cost[0, s])), outward
