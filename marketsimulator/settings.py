"""Every setting of a backtest, checked: names are the keys of `configs/backtest.yaml`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from execution.fees import FeeSchedule, TradingCosts
from execution.trader import SizingSettings, Trader
from forecasting.baseline import Oracle, RandomWalk
from forecasting.chronos2 import SHIPPED, Chronos2Forecaster, Compile, Device
from forecasting.forecast import Forecaster
from marketsimulator.broker import MarginTerms
from sizing.limits import Limits
from trainingdata.bars import Bars, panel, read_bars
from trainingdata.correlation import CorrelationEstimator
from trainingdata.errors import InputError
from trainingdata.instruments import instrument
from trainingdata.sessions import DAY, instant, new_york_date
from trainingdata.synthetic import SyntheticMarket

Span = tuple[np.datetime64, np.datetime64]


@dataclass(frozen=True, slots=True)
class DataSettings:
    """dir: folders of bar files; none means the synthetic market, which seed, edge, start and end describe."""

    dir: tuple[str, ...] = ()
    seed: int = 0
    edge: float = 0.08
    start: str = "2023-09-01"
    end: str = "2024-06-28"


@dataclass(frozen=True, slots=True)
class ForecasterSettings:
    """kind: which forecaster; the rest are its arguments, where it has them."""

    kind: Literal["chronos2", "ewma", "oracle"] = "chronos2"
    model: str | None = None
    context_length: int = 100
    batch_size: int = 64
    device: Device = "auto"
    compile: Compile = "auto"
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.calibrated:
            raise InputError("forecaster.calibrated: there is no calibration yet; leave it false")

    def build(self) -> Forecaster:
        """The forecaster itself; loads the checkpoint."""
        walk = RandomWalk(context_length=self.context_length)
        if self.kind == "ewma":
            return walk
        if self.kind == "oracle":
            return Oracle(walk)
        return Chronos2Forecaster(
            model=self.model or SHIPPED,
            context_length=self.context_length,
            batch_size=self.batch_size,
            device=self.device,
            compile=self.compile,
        )


@dataclass(frozen=True, slots=True)
class BacktestSettings:
    """A backtest from top to bottom.

    symbols: none means every symbol the data holds. start, end: New York dates, both inclusive, or instants with a zone;
    or days: calendar days up to the last bar all symbols share. capital: USD. seed: of whatever is drawn at random.
    """

    symbols: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    days: int | None = None
    capital: float = 100_000.0
    seed: int = 0
    strategy: str = "kelly_50"
    output: str = "outputs/backtest"
    data: DataSettings = field(default_factory=DataSettings)
    forecaster: ForecasterSettings = field(default_factory=ForecasterSettings)
    sizing: SizingSettings = field(default_factory=SizingSettings)
    limits: Limits = field(default_factory=Limits)
    correlation: CorrelationEstimator = field(default_factory=CorrelationEstimator)
    costs: TradingCosts = field(default_factory=TradingCosts)
    fees: FeeSchedule = field(default_factory=FeeSchedule)
    margin: MarginTerms = field(default_factory=MarginTerms)

    def __post_init__(self) -> None:
        if not 0 < self.capital < 1e12:
            raise InputError(f"capital: {self.capital} is outside 0 … 1e12 USD")
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.strategy):
            raise InputError(f"strategy: {self.strategy!r} is not 1 to 64 letters, digits, '.', '_' or '-'")
        if self.days is not None and (self.start or self.end):
            raise InputError("days: give either start and end, or days")
        if self.days is not None and self.days < 1:
            raise InputError(f"days: {self.days} is below 1")

    @classmethod
    def of(cls, config: DictConfig) -> BacktestSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        try:
            plain: Any = OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise InputError(str(error).splitlines()[0]) from error
        _refuse_unknown(plain, asdict(cls()), "")
        _listed(plain, "symbols")
        _listed(plain.get("data"), "dir")
        try:
            return TypeAdapter(cls).validate_python(plain)
        except ValidationError as error:
            raise InputError(_first(error)) from error

    def bars(self) -> Bars:
        """The panel: files up to `end` with all history before `start`, or the synthetic market."""
        names = list(dict.fromkeys(instrument(s).symbol for s in self.symbols)) or None
        start = instant(self.start, name="start") if self.start else None
        end = instant(self.end, name="end", end_of_day=True) if self.end else None
        if start is not None and end is not None and start >= end:
            raise InputError(f"start: {self.start} is not before end {self.end}")
        if self.data.dir:
            return read_bars([Path(d).expanduser() for d in self.data.dir], names, start=start, end=end)
        return self._synthetic(names, start, end)

    def span(self, bars: Bars) -> Span:
        """First and last instant of the run."""
        first = instant(self.start, name="start") if self.start else bars.times[0]
        last = instant(self.end, name="end", end_of_day=True) if self.end else bars.now
        if self.days is not None:
            last = min(bars.own(s)[0][-1] for s in range(len(bars.symbols)))
            day = new_york_date(np.array([last]))[0] - (self.days - 1) * DAY
            first = instant(day, name="days")
        return np.datetime64(first), np.datetime64(last)

    def trader(self, forecaster: Forecaster) -> Trader:
        """The trader these settings describe, with this forecaster."""
        return Trader(self.strategy, forecaster, self.correlation, self.sizing, self.limits, self.costs, self.fees)

    def _synthetic(self, names: list[str] | None, start: np.datetime64 | None, end: np.datetime64 | None) -> Bars:
        d = self.data
        market = SyntheticMarket(seed=d.seed, edge=d.edge, start=d.start, end=d.end)
        unknown = [s for s in names or () if s not in market.symbols]
        if unknown:
            raise InputError(
                f"symbols: the synthetic market has no {unknown[0]}, it has {', '.join(market.symbols)};"
                " for real bars name their folder (--data-dir or data.dir)"
            )
        bars = market.bars()
        known = bars if end is None else bars.until(end)
        if not len(known.times) or (start is not None and start > known.now):
            raise InputError(f"start, end: the synthetic market runs from {d.start} to {d.end} (data.start, data.end)")
        kept = [s for s, symbol in enumerate(bars.symbols) if names is None or symbol in names]
        return panel([(bars.instruments[s], *known.own(s)) for s in kept], bars.source)


def _listed(settings: Any, key: str) -> None:
    """One word stands for a list of one."""
    if isinstance(settings, dict) and isinstance(settings.get(key), str):
        settings[key] = [settings[key]]


def _refuse_unknown(given: Any, known: Any, place: str) -> None:
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                raise InputError(f"{place}{key}: there is no such setting; here are {', '.join(known)}")
            _refuse_unknown(value, known[key], f"{place}{key}.")


def _first(error: ValidationError) -> str:
    """One line for the first thing that is wrong."""
    problem = error.errors()[0]
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return str(reason)
    place = ".".join(str(part) for part in problem["loc"])
    value: Any = problem.get("input")
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {value!r}"
