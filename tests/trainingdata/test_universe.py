"""Who may be held when: by what was known at the last renewal, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.compose import compose_config
from foundation.errors import DataError, InputError
from marketsimulator.settings import BacktestSettings
from tests.support.messages import refused
from tests.support.own_module import own_module
from trainingdata.bars import CLOSE, VOLUME, Bars
from trainingdata.instants import new_york_date, new_york_midnight
from trainingdata.instruments import AssetClass, Instrument
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import DAILY, HOURLY, Timeframe
from trainingdata.universe import (
    EXCLUSION_RULES,
    ExclusionRuleCodes,
    Universe,
    UniverseSettings,
    exclude_all_but_best,
    read_memberships,
)

EVERY: dict[str, Any] = {
    "top": 3,
    "keep": 2,
    "rank": "momentum",
    "min_price": 6.0,
    "min_bars": 20,
    "max_volatility": 0.8,
    "window": "30d",
}
SESSIONS = set(exchange_calendar().dates)
RENEWED = st.sampled_from(["daily", "weekly", "monthly"])


def drawn(seed: int, timeframe: Timeframe = DAILY, months: int = 5) -> Bars:
    """Six stocks and two coins with gaps, whose sizes, prices and volatilities change order."""
    rng = np.random.default_rng(seed)
    stocks = [Instrument(f"S{k}", AssetClass.STOCK, Decimal(1)) for k in range(6)]
    coins = [Instrument(f"C{k}USD", AssetClass.CRYPTO, Decimal("0.001")) for k in range(2)]
    items = (*coins, *stocks)
    since, until = np.datetime64("2023-01-01"), np.datetime64("2023-01-01") + 30 * months
    stock = timeframe.stock_clock.ends
    coin = np.arange(since, until, timeframe.length).astype("datetime64[ns]")
    stock = stock[(stock > since) & (stock < until)].astype("datetime64[ns]")
    times = np.union1d(stock, coin)
    walk = rng.normal(0, 0.02 if timeframe.is_daily else 0.006, (8, len(times)))
    walk *= rng.uniform(0.3, 2.0, (8, 1))
    close = rng.uniform(5, 15, (8, 1)) * np.exp(np.cumsum(walk, axis=1))
    volume = rng.lognormal(6, 0.7, (8, len(times)))
    values = np.stack([close, close, close, close, volume], axis=2)
    own = np.array([[item.kind is AssetClass.STOCK] for item in items])
    mask = np.where(own, np.isin(times, stock), np.isin(times, coin))
    mask &= rng.random(mask.shape) < 0.95
    mask[-1, : len(times) // 2] = False
    values[~mask] = np.nan
    return Bars(items, times, values, mask, "drawn", timeframe)


def rule_of(**values: Any) -> Universe:
    return UniverseSettings(**values).build_universe()


def by_hand(bars: Bars, now: np.datetime64, u: UniverseSettings) -> list[str]:
    """What leaves each symbol out, from the definitions, one symbol after the other."""
    day = new_york_date(np.array([now]))[0].astype("datetime64[D]")
    if u.rebalance == "weekly":
        day = max(d for d in day - np.arange(7) if d.astype(object).weekday() == 0)
    if u.rebalance == "monthly":
        day = day.astype("datetime64[M]").astype("datetime64[D]")
    said, sizes, gains = [], [], []
    days = [day - k for k in range(u.window_days, 0, -1)]
    sessions = {d for d in days if d in SESSIONS}
    for s, item in enumerate(bars.instruments):
        known = bars.mask[s] & (bars.times <= new_york_midnight(np.array([day]))[0])
        dates = new_york_date(bars.times[known] - 1).astype("datetime64[D]")
        close, volume = bars.values[s, known][:, [CLOSE, VOLUME]].T
        stock = item.kind is AssetClass.STOCK
        own_days = [d for d in days if not stock or d in sessions]
        size = np.median([(close * volume)[dates == d].sum() for d in own_days])
        closes = {d: close[dates == d][-1] for d in np.unique(dates)}
        before = [d for d in closes if d < days[0]]
        line = [closes[d] for d in [*before[-1:], *(d for d in days if d in closes)]]
        moves = np.diff(np.log(line))
        year = 252 if stock else 365.25
        risk = np.sqrt((moves**2).mean() * year) if len(moves) > 1 else np.nan
        gains.append(close[-1] / closes[before[-1]] - 1 if before else -np.inf)
        sizes.append(size)
        if known.sum() < u.min_bars:
            said.append("min_bars")
        elif not close[-1] >= u.min_price:
            said.append("min_price")
        else:
            said.append("" if risk <= (u.max_volatility or np.inf) else "max_volatility")
    for name, score, most in (("top", sizes, u.top), ("keep", gains, u.keep)):
        left = [s for s in range(len(said)) if not said[s]]
        ranked = sorted((s for s in left if score[s] > -np.inf), key=lambda s: -score[s])
        if name == "top":
            ranked = [s for s in ranked if score[s] > 0]
        for s in set(left) - set(ranked[:most]):
            said[s] = name
    return said


@pytest.mark.first_example
@pytest.mark.parametrize("timeframe", [DAILY, HOURLY], ids=lambda each: each.name)
@pytest.mark.parametrize("renewed", ["daily", "weekly", "monthly"])
def test_universe_membership_matches_hand_calculation(timeframe: Timeframe, renewed: Any) -> None:
    bars = drawn(3, timeframe)
    universe = rule_of(**EVERY, rebalance=renewed)
    at = bars.times[bars.times > bars.times[0] + np.timedelta64(45, "D")]
    found = universe.exclusion_rule_codes(bars, at)
    seen = {EXCLUSION_RULES[k] for k in np.unique(found)}
    assert seen >= {"", "min_bars", "min_price", "max_volatility", "top", "keep"}
    for t in range(0, len(at), len(at) // 12):
        assert [EXCLUSION_RULES[k] for k in found[t]] == by_hand(bars, at[t], universe.settings)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), RENEWED, st.floats(0.3, 0.95), st.booleans())
def test_universe_membership_depends_only_on_past_window(
    seed: int, renewed: Any, share: float, hourly: bool
) -> None:
    """The panel may end there, continue with other prices, or lack symbols. A single instant, as in
    live trading, has the membership of the whole history.
    """
    bars = drawn(seed % 7, HOURLY if hourly else DAILY, months=4)
    universe = rule_of(**{**EVERY, "min_bars": 5}, rebalance=renewed)
    cut = int(share * len(bars.times))
    whole = universe.exclusion_rule_codes(bars, bars.times)[:cut]
    short = bars.slice_rows(0, cut)
    np.testing.assert_array_equal(universe.exclusion_rule_codes(short, short.times), whole)
    rng = np.random.default_rng(seed)
    values, mask = bars.values.copy(), bars.mask.copy()
    values[:, cut:] *= rng.lognormal(0, 3, values[:, cut:].shape)
    mask[:, cut:] &= rng.random(mask[:, cut:].shape) < 0.5
    garbage = replace(bars, values=values, mask=mask)
    np.testing.assert_array_equal(universe.exclusion_rule_codes(garbage, bars.times)[:cut], whole)
    begin = np.searchsorted(bars.times, short.last_instant - np.timedelta64(31 + 31 + 8, "D"))
    part = bars.slice_rows(int(begin), cut)
    np.testing.assert_array_equal(
        universe.exclusion_rule_codes(part, part.times[-1:])[0], whole[-1]
    )


def test_default_universe_holds_every_symbol_and_classes_filter() -> None:
    bars = drawn(0)
    found = Universe().exclusion_rule_codes(bars.slice_rows(0, 1), bars.times)
    assert found.shape == (len(bars.times), 8)
    assert not found.any()
    found = rule_of(classes="crypto").exclusion_rule_codes(bars, bars.times)
    assert (found == [0, 0, 1, 1, 1, 1, 1, 1]).all()


def members_file(folder: Path, *rows: str) -> str:
    path = folder / "members.csv"
    path.write_text("\n".join(["symbol,from,to", *rows, ""]))
    return str(path)


def test_member_list_applies_from_each_date(tmp_path: Path) -> None:
    """The other universe rules are renewed on that date too: no member waits for the first of a
    month.
    """
    rows = ("S0,2023-01-10,2023-02-15", "S0,2023-03-07,", "S1,2023-01-10,", "C0USD,2022-01-01,")
    file = members_file(tmp_path, *rows, "GONE,2023-04-18,")
    bars = drawn(1)
    universe = rule_of(members=file, top=3, window="20d")
    inside = universe.exclusion_rule_codes(bars, bars.times) == 0
    dates = new_york_date(bars.times).astype("datetime64[D]")
    first = bars.symbols.index("S0")
    was = (dates >= np.datetime64("2023-01-10")) & (dates < np.datetime64("2023-02-15"))
    was |= dates >= np.datetime64("2023-03-07")
    assert not inside[~was, first].any()
    others = [s for s in range(8) if bars.symbols[s] not in ("S0", "S1", "C0USD")]
    assert not inside[:, others].any()
    changes = np.unique(dates[1:][(inside[1:] != inside[:-1]).any(axis=1)]).astype(str).tolist()
    assert {"2023-02-15", "2023-03-07"} <= set(changes)
    assert set(changes) <= {"2023-02-15", "2023-03-07", "2023-04-18"} | {
        f"2023-{month:02d}-01" for month in range(1, 7)
    }


@given(st.integers(0, 99), st.integers(1, 6))
def test_universe_keeps_the_symbols_with_highest_scores(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    rule: ExclusionRuleCodes = np.where(rng.random((9, 8)) < 0.3, 2, 0).astype(np.int8)
    score = rng.integers(0, 5, (9, 8)).astype(float)
    score[rng.random((9, 8)) < 0.2] = np.nan
    before = rule.copy()
    exclude_all_but_best(rule, score, most, 7)
    assert (rule[before != 0] == before[before != 0]).all()
    for old, new, points in zip(before, rule, score, strict=True):
        ranked = (old == 0) & np.isfinite(points)
        kept = new == 0
        assert kept.sum() == min(most, ranked.sum())
        if kept.any():
            assert not (points[ranked & ~kept] > points[kept].min()).any()


OWN = """
import numpy as np

def cheap(bars):
    assert not bars.values.flags.writeable
    enough = bars.mask.sum(axis=1) > 5
    return np.where(enough, -bars.last_closes(), np.nan)

def short(bars):
    return [1.0]

def wrong(bars):
    return 1 / 0

class Kind:
    pass
"""


def test_custom_ranking_function_sees_only_known_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = own_module(OWN, tmp_path, monkeypatch)
    bars = drawn(2)
    found = rule_of(rank=f"{name}.cheap", keep=2).exclusion_rule_codes(bars, bars.times)
    assert ((found == 0).sum(axis=1)[len(found) // 2 :] == 2).all()
    assert set(np.unique(found)) == {0, EXCLUSION_RULES.index("keep")}
    for what in ("short", "wrong", "none"):
        with refused(InputError, "universe._target_", f"{name}.{what}"):
            rule_of(rank=f"{name}.{what}", keep=2).exclusion_rule_codes(bars, bars.times)
    with refused(InputError, f"{name}.Kind"):
        rule_of(rank=f"{name}.Kind", keep=2)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["window=60bars"], ("universe.window", "'60bars'")),
        (["window=1001d"], ("universe.window", "'1001d'")),
        (["classes=[stock,stock]"], ("universe.classes",)),
        (["rank=momentum"], ("universe.keep",)),
        (["keep=3"], ("universe.rank",)),
        (["rank=luck", "keep=3"], ("universe.rank", "'luck'")),
        (["rank=not.named", "keep=3"], ("universe._target_", "not.named")),
        (["top=5", "keep=6", "rank=growth"], ("universe.keep", "6", "universe.top=5")),
        (["members=/nowhere.csv"], ("universe.members", "/nowhere.csv")),
    ],
)
def test_invalid_universe_setting_gives_one_line_error(
    words: list[str], facts: tuple[str, ...]
) -> None:
    named = [f"universe.{word}" for word in words]
    with refused(InputError, *facts) as caught:
        BacktestSettings.from_config(compose_config("backtest", named)).load_bars()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ()),
        ("symbol,since\nA,2023-01-01\n", ("'from'",)),
        ("symbol,from,to\n", ()),
        ("symbol,from,to\na b,2023-01-01,\n", ("row 1", "'a b'")),
        ("symbol,from,to\nA,2023-01-01,\nB,01/02/2023,\n", ("row 2", "'01/02/2023'")),
        ("symbol,from,to\nA,,2023-01-01\n", ("row 1",)),
        ("symbol,from,to\nA,2023-02-01,2023-02-01\n", ("row 1", "2023-02-01")),
        (
            "symbol,from,to\nB,2023-02-01,2023-05-01\nA,2020-01-01,\nB,2023-01-01,2023-02-02\n",
            ("rows 1 and 3", "2023-02-01"),
        ),
    ],
)
def test_invalid_member_list_gives_one_line_error(
    text: str, facts: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "members.csv"
    path.write_text(text)
    with refused(DataError, path, *facts) as caught:
        read_memberships(path)
    assert "\n" not in str(caught.value)


def test_member_list_without_the_runs_symbols_is_refused(tmp_path: Path) -> None:
    bars = drawn(0)
    universe = rule_of(members=members_file(tmp_path, "NVDA,2020-01-01,"))
    with refused(DataError, "universe.members", "8"):
        universe.exclusion_rule_codes(bars, bars.times)


def test_window_without_unit_error_suggests_a_unit() -> None:
    with refused(InputError, "'60'", "60d"):
        UniverseSettings(window="60")
