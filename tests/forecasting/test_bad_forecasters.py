"""What is wrong with a forecaster of one's own is one line: symbol, instant, or file and line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from forecasting.conformance import check_forecaster
from forecasting.forecast import Forecaster
from forecasting.settings import ForecasterSettings
from foundation.errors import InputError
from tests.own_module import own_module
from trainingdata.bars import Bars

CODE = """
import numpy as np
from dataclasses import replace
from forecasting import ForecastTable, RandomWalk
from forecasting.windows import Windows
class Walk:
    name = "walk"
    def forecast(self, bars, since, progress=None):
        self.table = RandomWalk().forecast(bars, since)
        return replace(self.table, answer=self.answer)
    def answer(self, rows): return self.values(self.table.answer(rows), self.table.price[rows])
    def values(self, v, price): return v
    def around(self, v, price, factor):
        closes = price[:, None, None].astype(np.float32)
        return (closes * np.exp(np.log(v / closes) * factor)).astype(np.float32)
class Nan(Walk):
    def values(self, v, price): return np.where(np.arange(len(v))[:, None, None] == 1, np.nan, v)
class Holes(Walk):
    def values(self, v, price): return np.where(np.arange(21) == 7, np.nan, v).astype(np.float32)
class Infinite(Walk):
    def values(self, v, price): return np.where(np.arange(21) == 20, np.inf, v).astype(np.float32)
class Falling(Walk):
    def values(self, v, price): return v[..., ::-1]
class Double(Walk):
    def values(self, v, price): return v.astype(float)
class Complex(Walk):
    def values(self, v, price): return v + 0j
class Whole(Walk):
    def values(self, v, price): return v.astype(int)
class Words(Walk):
    def values(self, v, price): return "up"
class Ragged(Walk):
    def values(self, v, price): return [[1.0], [1.0, 2.0]]
class Nothing(Walk):
    def values(self, v, price): pass
class Short(Walk):
    def values(self, v, price): return v[:, :1]
class Returns(Walk):
    def values(self, v, price): return v / price[:, None, None].astype(np.float32) - 1
class Ratios(Walk):
    def values(self, v, price): return v / price[:, None, None].astype(np.float32)
class Percent(Walk):
    def values(self, v, price): return self.around(v, price, 100.0)
class Dollars(Walk):
    def values(self, v, price): return np.exp(np.log(v / price[:, None, None]) * 40.0).astype(
        np.float32) * price[:, None, None].astype(np.float32)
class Thousandth(Walk):
    def values(self, v, price): return self.around(v, price, 0.001)
class Point(Walk):
    def values(self, v, price): return np.repeat(v[..., 10:11], 21, axis=2)
class Persistent(Walk):
    def forecast(self, bars, since, progress=None):
        table = super().forecast(bars, since)
        return replace(table, persistence=np.ones(len(table.windows)))
class Unskilled(Walk):
    def forecast(self, bars, since, progress=None):
        table = super().forecast(bars, since)
        return replace(table, skill=np.full(len(table.windows), np.nan))
class Writes(Walk):
    def forecast(self, bars, since, progress=None):
        bars.values[:, :, 3] = 1.0
        return super().forecast(bars, since)
class Late(Walk):
    calls = 0
    def answer(self, rows):
        self.calls += 1
        if self.calls > 3:
            raise KeyError("ACME")
        return super().answer(rows)
class Leaves(Walk):
    def forecast(self, bars, since, progress=None): raise SystemExit(0)
class Raised(Walk):
    factor = 1.5
    def values(self, v, price): return v * np.float32(self.factor)
class Tenth(Raised):
    factor = 1.1
class Jump(Walk):
    def answer(self, rows):
        windows = self.table.windows
        often = windows.issued_at[rows] == np.unique(windows.issued_at[rows])[0]
        return super().answer(rows) * np.where(often, 1.5, 1.0)[:, None, None].astype(np.float32)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of forecasters, in the working folder."""
    return own_module(CODE, tmp_path, monkeypatch)


def built(own: str, name: str) -> Forecaster:
    return ForecasterSettings(kind=f"{own}:{name}", calibrated=False).build(())


PLACE = r"for SY[A-Z]+ at \d{4}-\d\d-\d\dT\d\d:\d\dZ"
BAD = [
    ("Nan", r"a forecast must have its first step: NaN " + PLACE + ", step 1$"),
    ("Holes", r"a step must have all of its quantiles or none: NaN " + PLACE + ", step 1$"),
    ("Infinite", r"a quantile is infinite: infinity " + PLACE + ", step 1$"),
    ("Falling", r"must not fall along the levels: [\d.]+ … [\d.]+ … [\d.]+ " + PLACE),
    ("Double", r"quantiles must be float32, they are float64$"),
    ("Complex", r"quantiles must be float32, they are complex64$"),
    ("Whole", r"quantiles must be float32, they are int64$"),
    ("Words", r"quantiles must have shape \[n, H, Q\] = \(\d+, 24, 21\), they have \(\)$"),
    ("Ragged", r":Ragged fails in checked\.py line \d+: ValueError: setting an array"),
    ("Nothing", r"quantiles must have shape .* they have \(\)$"),
    ("Short", r"quantiles must have shape .* they have \(\d+, 1, 21\)$"),
    ("Returns", r"quantiles are prices in USD: some are not above zero: -[\d.e-]+ … "),
    ("Ratios", r"quantiles are closes in USD: the first step's median is 1 " + PLACE + ", whose"),
    ("Persistent", r"persistence is 1 " + PLACE + ", not from 0 to below 1$"),
    ("Unskilled", r"skill is nan " + PLACE + ", not a number$"),
    ("Writes", r"OWN\.py line 61: ValueError: .*; what own code is given stays as it is"),
    ("Late", r"OWN\.py line 68: KeyError: 'ACME'$"),
    ("Leaves", r"OWN\.py line 71: SystemExit: 0$"),
]


def asked_four_times(forecaster: Forecaster, market: Bars) -> None:
    table = forecaster.forecast(market, market.times[-30])
    for _ in range(4):
        table.answer(np.arange(8))


@pytest.mark.parametrize(("name", "line"), BAD)
def test_a_bad_forecaster_is_one_line_in_a_run(
    own: str, name: str, line: str, market: Bars
) -> None:
    with pytest.raises(InputError) as caught:
        asked_four_times(built(own, name), market)
    said = str(caught.value)
    assert said.startswith(f"forecaster.kind: {own}:{name}")
    assert re.search(line.replace("OWN", own), said), said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("Percent", r"[\d.e+]+"),
        ("Dollars", r"[2-9]\d"),
        ("Thousandth", r"0\.00\d+"),
        ("Point", "0"),
    ],
)
def test_widths_of_another_scale_are_refused_with_what_the_bars_did(
    own: str, name: str, times: str, market: Bars
) -> None:
    table = built(own, name).forecast(market, market.times[-300])
    line = (
        rf"a forecast of one bar deviates by .* of the price \(SYA at .*\), {times} times what its"
    )
    with pytest.raises(InputError, match=line):
        table.answer(np.arange(40))
    # A live decision has few forecasts, and no odd hour ends it.
    table.answer(np.arange(5))


def test_medians_that_no_bar_could_reach_are_refused_with_how_far_they_lie(
    own: str, market: Bars
) -> None:
    table = built(own, "Raised").forecast(market, market.times[-300])
    line = (
        rf"^forecaster\.kind: {own}:Raised: the first step's median lies 0\.5 of the price from"
        r" the last close \(SY\w+ at .*Z\), [1-9]\d times the deviation of its last 100 bars"
        r" \(0\.\d+\), and as far at most instants: quantiles are closes in USD$"
    )
    with pytest.raises(InputError, match=line):
        table.answer(np.arange(100))
    # A live decision has forecasts of one instant, however many symbols there are.
    at = table.windows.issued_at
    table.answer(np.resize(np.flatnonzero(at == at[-1]), 60))


def test_medians_that_no_bar_has_reached_are_a_warning_and_said_once(
    own: str, market: Bars, caplog: pytest.LogCaptureFixture
) -> None:
    table = built(own, "Tenth").forecast(market, market.times[-300])
    for _ in range(3):
        table.answer(np.arange(100))
    (line,) = caplog.messages
    assert re.fullmatch(
        rf"forecaster\.kind: {own}:Tenth: the first step's median lies 0\.1 of the price from the"
        r" last close \(.*\), 1\d times the deviation of its last 100 bars \(0\.\d+\), and as far"
        " at most instants: no bar has moved so",
        line,
    ), line


def test_a_jump_of_one_instant_is_neither_refused_nor_warned_of_however_many_symbols_it_moves(
    own: str, market: Bars, caplog: pytest.LogCaptureFixture
) -> None:
    table = built(own, "Jump").forecast(market, market.times[-300])
    at = table.windows.issued_at
    jumped = np.resize(np.flatnonzero(at == at.min()), 60)
    table.answer(np.append(jumped, np.flatnonzero(at > at.min())[:20]))
    table.answer(np.arange(len(table.windows)))
    assert not caplog.messages


@pytest.mark.parametrize(
    "name", [*dict(BAD), "Percent", "Dollars", "Thousandth", "Point", "Raised"]
)
def test_the_check_finds_it_too(own: str, name: str, market: Bars) -> None:
    try:
        faults = check_forecaster(built(own, name), market)
    except InputError as error:
        faults = (str(error),)
    assert faults
    assert all("\n" not in fault for fault in faults)


def test_a_forecaster_that_is_given_to_the_check_itself_fails_in_one_line_too(market: Bars) -> None:
    class Broken:
        name = "broken"

        def forecast(self, bars: Bars, since: np.datetime64, progress: object = None) -> object:
            return bars.nothing  # type: ignore[attr-defined]

    with pytest.raises(
        InputError, match=r"Broken fails in test_bad_forecasters\.py line \d+: Attr"
    ):
        check_forecaster(Broken(), market)  # type: ignore[arg-type]


def test_a_class_or_an_argument_that_is_not_there_is_known_before_a_bar_is_read(own: str) -> None:
    for kind, arguments, line in (
        (f"{own}:Absent", {}, "has no 'Absent'"),
        ("gone:Walk", {}, "there is no module 'gone'"),
        (f"{own}:CODE_OF", {}, "has no 'CODE_OF'"),
        (f"{own}:np", {}, "is no class or function, but module"),
        (f"{own}:Short", {"windw": 3}, r"Short\(windw=3\) fails: TypeError"),
    ):
        with pytest.raises(InputError, match=line):
            ForecasterSettings(kind=kind, arguments=arguments).check()
    ForecasterSettings(kind=f"{own}:Walk").check()


def test_a_refusal_within_own_code_names_the_class_and_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, market: Bars
) -> None:
    code = (
        "from forecasting import RandomWalk\n"
        "class Drift:\n    name = 'drift'\n"
        "    def __init__(self, window): self.window = window\n"
        "    def forecast(self, bars, since, progress=None):\n"
        "        return RandomWalk(self.window).forecast(bars, since)\n"
    )
    kind = f"{own_module(code, tmp_path, monkeypatch)}:Drift"
    drift = ForecasterSettings(kind=kind, arguments={"window": -1}, calibrated=False).build(())
    said = rf"^forecaster.kind: {kind}\(window=-1\) fails in \w+.py line 6: .*-1 is below 3"
    with pytest.raises(InputError, match=said):
        drift.forecast(market, market.times[0])
