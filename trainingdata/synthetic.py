"""A seeded synthetic market: the default without data files, and the basis of the tests.

Returns are correlated and heavy-tailed, with volatility clustering. Stocks have a U-shaped intraday
volatility, overnight gaps and quiet weekends; crypto trades around the clock. The predictability is
known: the expected return of a bar, after its open, is `information_coefficient` standard
deviations times the symbol's own standardised momentum. So that parameter is the information
coefficient of the true conditional mean, one bar ahead. At 0 the same shocks give the same market
without predictability.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from foundation.arrays import Array, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars, build_panel
from trainingdata.instants import HOUR, new_york_date, parse_instant
from trainingdata.instruments import AssetClass, Instrument, instrument
from trainingdata.sessions import exchange_calendar, is_in_session, sessions_between
from trainingdata.timeframe import HOURLY, Clock, Timeframe

SYNTHETIC_SYMBOLS = ("SYA", "SYB", "SYC", "SYD", "SYE", "SYXUSD", "SYYUSD", "SYZUSD")
HALF_HOUR = np.timedelta64(30, "m")
MOMENTUM_PERSISTENCE = 0.6  # share of the last bar's momentum that a bar keeps
# Loading of a symbol on the factor of its class; its square is the correlation within the class.
CLASS_FACTOR_LOADINGS = {AssetClass.STOCK: 0.65, AssetClass.CRYPTO: 0.75}
WORLD_FACTOR_LOADING = 0.6  # loading of a class factor on the factor all classes share


@dataclass(frozen=True, slots=True)
class SyntheticMarket:
    """Parameters of the synthetic market.

    seed: seed of all random draws, at least 0.
    information_coefficient: information coefficient of a perfect forecast one bar ahead, 0 … 0.5.
    start: New York date of the first bars; half a year of history before a backtest suffices for
        correlations and forecast contexts.
    end: New York date of the last bars, inclusive.
    symbols: stocks and crypto pairs of the market.
    timeframe: timeframe of the bars.
    """

    seed: int = 0
    information_coefficient: float = 0.15
    start: str = "2023-01-02"
    end: str = "2024-06-28"
    symbols: tuple[str, ...] = SYNTHETIC_SYMBOLS
    timeframe: Timeframe = HOURLY

    def __post_init__(self) -> None:
        if not 0 <= self.information_coefficient <= 0.5:
            raise InputError(
                f"data.information_coefficient: {self.information_coefficient} is outside the range"
                " 0 … 0.5"
            )
        if self.seed < 0:
            raise InputError(f"data.seed: {self.seed} is below 0")

    def generate_bars(self) -> Bars:
        """Generate the bars of every symbol; the same seed gives the same bars.

        Raises InputError if no session lies between `start` and `end`.
        """
        first = parse_instant(self.start, name="data.start")
        last = parse_instant(self.end, name="data.end", end_of_day=True)
        if not len(sessions_between(*new_york_date(np.array([first, last])))):
            raise InputError(
                f"data.start, data.end: no trading session between {self.start} and {self.end};"
                " choose a longer range"
            )
        slot = min(HALF_HOUR, self.timeframe.length)
        slots = np.arange(first.astype("datetime64[h]"), last, slot).astype("datetime64[ns]")
        items = [instrument(symbol) for symbol in self.symbols]
        shocks = _generate_shocks(np.random.default_rng(self.seed), items, len(slots), slot)
        tables = []
        for k, item in enumerate(items):
            rng = np.random.default_rng((self.seed, k))
            spans = _bar_times(self.timeframe.clock(item.kind), slots)
            tables.append(
                _symbol_bars(rng, item, slots, *spans, shocks[k], self.information_coefficient)
            )
        source = f"synthetic market (seed {self.seed}, edge {self.information_coefficient:g})"
        return build_panel(tables, source, self.timeframe)


def _generate_shocks(
    rng: np.random.Generator, items: list[Instrument], slots: int, slot: np.timedelta64
) -> Array:
    """Return random returns of N time slots [S, N], in units of a symbol's baseline deviation.

    The returns have common factors, heavy tails and volatility clustering.

    slots: number of slots, N.
    slot: length of a slot.
    """
    world = rng.normal(size=slots)
    classes = {}
    for kind in AssetClass:
        classes[kind] = WORLD_FACTOR_LOADING * world + np.sqrt(
            1 - WORLD_FACTOR_LOADING**2
        ) * rng.normal(size=slots)
    # A normal over the root of a chi-square is a t; one draw for all makes extremes come together.
    common_tail = np.sqrt(4.0 / rng.chisquare(6.0, size=slots))
    market_volatility = _volatility_clusters(rng, slots, 120.0 * HOUR / slot, width=0.35)
    rows = []
    for item in items:
        loading = CLASS_FACTOR_LOADINGS[item.kind]
        specific = np.sqrt(1 - loading**2) * rng.normal(size=slots)
        specific = specific * np.sqrt(4.0 / rng.chisquare(6.0, size=slots))
        common = loading * classes[item.kind] * common_tail
        volatility = _volatility_clusters(rng, slots, 30.0 * HOUR / slot, width=0.3)
        rows.append((common + specific) * market_volatility * volatility)
    return np.stack(rows)


def _volatility_clusters(
    rng: np.random.Generator, slots: int, memory: float, *, width: float
) -> Array:
    """Return a random factor on the deviation of each time slot, [N], with mean square one.

    The factor's logarithm is an autoregressive process.

    slots: number of slots, N.
    memory: decay time of the process, in slots.
    width: standard deviation of the logarithm.
    """
    keep = np.exp(-1.0 / memory)
    noise = rng.normal(size=slots) * np.sqrt(1 - keep**2)
    noise[0] = rng.normal()
    return np.asarray(np.exp(width * _autoregressive_sums(noise, keep) - width**2))


def _autoregressive_sums(shocks: Array, keep: float) -> Array:
    """Return the AR(1) sums [T] of shocks: each step keeps the share `keep` of the previous sum."""
    return np.array(list(accumulate(shocks.tolist(), lambda before, shock: shock + keep * before)))


def _symbol_bars(
    rng: np.random.Generator,
    item: Instrument,
    slots: Instants,
    starts: Instants,
    ends: Instants,
    shocks: Array,
    edge: float,
) -> tuple[Instrument, Instants, Array]:
    """Return one symbol's bars: instrument, known-at instants [N] and values [N, 5].

    slots: start of each time slot.
    starts, ends: [N] start and end of each bar.
    shocks: random return of each slot, in units of the baseline deviation.
    edge: information coefficient one bar ahead.
    """
    stock = item.kind is AssetClass.STOCK
    slot = slots[1] - slots[0]
    # Deviation of a slot in the session; for crypto of any slot.
    deviation = (0.0030 if stock else 0.0036) * rng.uniform(0.7, 1.5) * np.sqrt(slot / HALF_HOUR)
    steps = shocks * deviation * (_intraday_deviations(slots) if stock else 1.0)
    # The latent log price at each slot's start, and after the last.
    path = np.concatenate([[0.0], np.cumsum(steps)])

    def path_at(times: Instants) -> Array:
        return np.asarray(path[((times - slots[0]) // slot).astype(int)])

    # The drift lies after a bar's open, where an order that fills at the open earns it.
    gap = path_at(starts) - np.concatenate([[path_at(starts)[0]], path_at(ends)[:-1]])
    inside = path_at(ends) - path_at(starts)
    bar_deviation = deviation * np.sqrt((ends - starts) / slot)
    drift = edge * bar_deviation * _momentum_before_bars((gap + inside) / bar_deviation, edge)
    close = np.cumsum(gap + inside + drift)
    open_ = close - inside - drift
    middle = open_ + path_at(np.minimum(starts + slot, ends)) - path_at(starts)
    reach = np.abs(rng.normal(0, 0.35, (2, len(starts)))) * bar_deviation
    high = np.max([open_, middle, close], axis=0) + reach[0]
    low = np.min([open_, middle, close], axis=0) - reach[1]
    cheapest, dearest = (40, 400) if stock else (2, 40_000)
    start_price = np.exp(rng.uniform(np.log(cheapest), np.log(dearest)))
    # Stocks trade in cents; a coin's tick leaves six figures of its first price.
    decimals = 2 if stock else 5 - int(np.floor(np.log10(start_price)))
    prices = np.stack([open_, high, low, close], axis=1)
    prices = np.maximum(np.round(start_price * np.exp(prices), decimals), 10.0**-decimals)
    volume = np.round(np.exp(rng.normal(13 if stock else 8, 0.5, len(starts))))
    return item, ends, np.concatenate([prices, volume[:, None]], axis=1)


def _momentum_before_bars(standardised: Array, edge: float) -> Array:
    """Return the momentum [N] known before each bar, with variance one.

    The returns themselves contain edge · momentum, so the filter's pole is MOMENTUM_PERSISTENCE +
    share · edge.

    standardised: [N] return of each bar without its drift, divided by its deviation.
    edge: information coefficient one bar ahead.
    """
    share = np.sqrt(1 - MOMENTUM_PERSISTENCE**2)
    unit = standardised / max(float(standardised.std()), 1e-12)
    state = _autoregressive_sums(share * unit, MOMENTUM_PERSISTENCE + share * edge)
    return np.concatenate([[0.0], state[:-1]])


def _bar_times(clock: Clock, slots: Instants) -> tuple[Instants, Instants]:
    """Return start times [N] and end times [N] of the bars that end within the slots."""
    ends = clock.ends_by_start(slots)
    rows = ends <= slots[-1]
    return slots[rows], ends[rows]


def _intraday_deviations(slots: Instants) -> Array:
    """Return a stock's deviation in each time slot, relative to the middle of a session, [N].

    The deviation is U-shaped during a session, and small at night and on weekends.
    """
    days = exchange_calendar()
    k = np.maximum(np.searchsorted(days.opens, slots, side="right") - 1, 0)
    place = np.clip((slots - days.opens[k]) / (days.closes[k] - days.opens[k]), 0, 1)
    weekday = (slots.astype("datetime64[D]").astype(int) + 3) % 7 < 5  # 1970-01-01 was a Thursday
    quiet = np.where(weekday, 0.45, 0.08)
    return np.where(is_in_session(slots), 0.8 + 0.8 * (2 * place - 1) ** 2, quiet)
