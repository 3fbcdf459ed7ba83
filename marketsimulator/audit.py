"""Questions a backtest has to answer before its figures mean anything, for any configuration.

    python -m marketsimulator.audit look_ahead …  does the future reach a decision?
    python -m marketsimulator.audit lag …        what is left where every forecast is a bar older?
    python -m marketsimulator.audit costs …      what is left at 0, 1, 2 and 4 times the costs?
    python -m marketsimulator.audit forecast …   what does a random walk, a shuffle, an oracle earn?

Settings are those of configs/backtest.yaml. `look_ahead` ends with exit code 1 where a decision
moved.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from execution.beliefs import Beliefs
from execution.decision import Choice, Decision
from execution.records import Run
from forecasting.baseline import Oracle, RandomWalk
from forecasting.forecast import Forecaster, Progress, silent
from foundation.command import ProgressBar, log_to_file, one_line
from foundation.compose import composed
from foundation.configuration import changed
from foundation.errors import InputError
from marketsimulator.results.variant_table import table_of
from marketsimulator.runs.simulate import run_decider
from marketsimulator.runs.variants import outcomes
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from trainingdata.sessions import started_at, utc_text

CUTS = 8  # instants at which the future is changed
BEFORE = np.timedelta64(20, "D")
AFTER = np.timedelta64(5, "D")  # of decisions compared, and of future that is changed
SCALES = (0.0, 1.0, 2.0, 4.0)
SHOWN = (
    "total_return",
    "annual_return",
    "volatility",
    "sharpe",
    "max_drawdown",
    "turnover",
    "costs",
    "trades",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at what a changed future does. moved: the first decision or fill that it
    changed, in words; empty if none.
    """

    cut: np.datetime64
    future: str
    compared: int
    moved: str


@dataclass(frozen=True, eq=False, slots=True)
class Setup:
    """A configuration with its panel: bars up to the end of the run, which begins at instant
    number `first`.
    """

    settings: BacktestSettings
    bars: Bars
    first: int

    @classmethod
    def of(cls, settings: BacktestSettings) -> Setup:
        """The panel the settings ask for.

        Raises
        ------
        InputError
            for settings or data that cannot be used.
        """
        bars, begin = settings.panel()
        if len(bars.times) - begin < 2:
            raise InputError(f"start, end: only one bar becomes known, at {utc_text(bars.now)}")
        return cls(settings, bars, begin)

    def beliefs(self, forecaster: Forecaster, progress: Progress = silent) -> Beliefs:
        """What a trader with this forecaster believes over the run."""
        trader = self.settings.trader(forecaster)
        return self.settings.beliefs(trader, self.bars, self.first, progress)

    def configured(self) -> Forecaster:
        """The forecaster of the settings."""
        return self.settings.forecaster.build(self.bars.symbols)


def look_ahead(setup: Setup, progress: Progress = silent) -> list[Probe]:
    """Decide up to several instants with the true future, with none and with a scrambled one, and
    compare.

    Each comparison starts an account some days before the instant. Whatever differs in a decision
    known by then, or in a fill before it, has read the future.
    """
    times = setup.bars.times
    rows = np.unique(np.linspace(setup.first, len(times) - 2, CUTS + 2).astype(int)[1:-1])
    probes: list[Probe] = []
    for k, row in enumerate(rows):
        cut = np.datetime64(times[row])
        edges = np.array([cut, cut], dtype="datetime64[ns]") + np.array([-BEFORE, AFTER])
        start, stop = (int(k) for k in np.searchsorted(times, edges, side="right"))
        start = max(setup.first, start)
        known = setup.bars.between(0, stop)
        changed_future = scrambled(known, cut, setup.settings.seed)
        futures = {"none": cut_off(changed_future, cut), "scrambled": changed_future}
        truth = _decided(setup, known, start)
        for name, bars in futures.items():
            probes.append(_compared(cut, name, truth, _decided(setup, bars, start)))
        progress("instants", k + 1, len(rows))
    return probes


def scrambled(bars: Bars, cut: np.datetime64, seed: int) -> Bars:
    """Bars that start at `cut` or later with their prices multiplied by a random walk.

    Of a bar that is under way at `cut`, the open has happened and stays, as does what may fill at
    it; the rest changes.
    """
    rng = np.random.default_rng(seed)
    values = bars.values.copy()
    for s, item in enumerate(bars.instruments):
        starts = started_at(item.kind, bars.times)
        later = starts >= cut
        running = (starts < cut) & (bars.times > cut)
        walk = np.exp(np.cumsum(rng.normal(0, 0.02, int(later.sum()))))
        values[s, later, :VOLUME] *= walk[:, None]
        close = values[s, running, CLOSE] * np.exp(rng.normal(0, 0.02, int(running.sum())))
        values[s, running, CLOSE] = close
        values[s, running, HIGH] = np.maximum(values[s, running, OPEN], close)
        values[s, running, LOW] = np.minimum(values[s, running, OPEN], close)
    return Bars(bars.instruments, bars.times, values, bars.mask, bars.source)


def cut_off(bars: Bars, cut: np.datetime64) -> Bars:
    """The panel without any bar that starts at `cut` or later."""
    mask = bars.mask.copy()
    for s, item in enumerate(bars.instruments):
        mask[s] &= ~(started_at(item.kind, bars.times) >= cut)
    values = np.where(mask[:, :, None], bars.values, np.nan)
    kept = int(np.flatnonzero(mask.any(axis=0))[-1]) + 1
    return Bars(bars.instruments, bars.times[:kept], values[:, :kept], mask[:, :kept], bars.source)


def lag(setup: Setup, progress: Progress = silent) -> list[dict[str, Any]]:
    """The run as it is, and with every forecast one of its symbol's decisions older."""
    believed = setup.beliefs(setup.configured(), progress)
    return _table(
        setup,
        [
            ("as it is", setup.settings, believed),
            ("one bar later", setup.settings, lagged(believed)),
        ],
    )


def lagged(believed: Beliefs) -> Beliefs:
    """mu and sigma of each symbol's decision before this one; NaN at its first, which then does
    not decide.
    """
    mu = believed.mu.copy()
    sigma = believed.sigma.copy()
    deciding = believed.deciding.copy()
    for s in range(mu.shape[2]):
        rows = np.flatnonzero(believed.deciding[:, s])
        mu[rows[1:], :, s] = believed.mu[rows[:-1], :, s]
        sigma[rows[1:], :, s] = believed.sigma[rows[:-1], :, s]
        deciding[rows[:1], s] = False
    return replace(believed, mu=mu, sigma=sigma, deciding=deciding)


def costs(setup: Setup, progress: Progress = silent) -> list[dict[str, Any]]:
    """The run at several multiples of every cost: spread, slippage, impact, fees, commissions,
    interest, borrow.
    """
    believed = setup.beliefs(setup.configured(), progress)
    return _table(setup, [(f"{k:g} x costs", scaled(setup.settings, k), believed) for k in SCALES])


def scaled(settings: BacktestSettings, k: float) -> BacktestSettings:
    """The settings with every cost k times what it is."""
    fees = settings.fees
    margin = settings.margin
    plain = {
        f"costs.{name}": k * getattr(settings.costs, name) for name in settings.costs.__slots__
    }
    base = changed(settings, plain)
    rates = {
        name: tuple(
            replace(r, rate=k * r.rate, cap=k * r.cap if k else r.cap) for r in getattr(fees, name)
        )
        for name in _DATED
    }
    tiers = tuple(
        replace(t, maker=min(k * t.maker, 0.99), taker=min(k * t.taker, 0.99))
        for t in fees.crypto_tiers
    )
    more: dict[str, Any] = {
        name: k * getattr(fees, name) for name in ("commission_bps", "commission_per_share")
    }
    lent: dict[str, Any] = {
        name: k * getattr(margin, name) for name in ("interest_rate", "borrow_rate")
    }
    lent |= {
        name: tuple(replace(r, rate=k * r.rate) for r in getattr(margin, name))
        for name in ("interest_rates", "borrow_rates")
    }
    dated: dict[str, Any] = dict(rates)
    return replace(
        base,
        fees=replace(fees, crypto_tiers=tiers, **dated, **more),
        margin=replace(margin, **lent),
    )


_DATED = ("sec_per_dollar", "taf_per_share", "cat_per_share")


def forecast(setup: Setup, progress: Progress = silent) -> list[dict[str, Any]]:
    """The run, the same on a random walk, with its own expected returns shuffled in time, and
    with an oracle's.
    """
    context = setup.settings.forecaster.context_length
    own = setup.configured()
    believed = setup.beliefs(own, progress)
    return _table(
        setup,
        [
            (own.name, setup.settings, believed),
            ("shuffled in time", setup.settings, shuffled(believed, setup.settings.seed)),
            ("random walk", setup.settings, setup.beliefs(RandomWalk(context_length=context))),
            (
                "oracle: reads the future, no result",
                setup.settings,
                setup.beliefs(Oracle(RandomWalk(context_length=context))),
            ),
        ],
    )


def shuffled(believed: Beliefs, seed: int) -> Beliefs:
    """Each symbol's expected returns over deviation, dealt anew among its own decisions."""
    rng = np.random.default_rng(seed)
    mu = believed.mu.copy()
    for s in range(mu.shape[2]):
        rows = np.flatnonzero(believed.deciding[:, s])
        ratio = believed.mu[rows, :, s] / believed.sigma[rows, :, s]
        mu[rows, :, s] = rng.permutation(ratio) * believed.sigma[rows, :, s]
    return replace(believed, mu=mu)


def _table(
    setup: Setup, cases: Sequence[tuple[str, BacktestSettings, Beliefs]]
) -> list[dict[str, Any]]:
    rows = []
    for name, settings, believed in cases:
        (found,) = outcomes([settings], setup.bars, believed, setup.first)
        frame = table_of([({"run": name}, settings)], [found], setup.bars, setup.first)
        rows.append({str(key): value for key, value in frame.to_dict("records")[0].items()})
    return rows


def _decided(setup: Setup, bars: Bars, start: int) -> Run:
    """The configured trader over a panel, with an account that begins at instant number `start`."""
    trader = setup.settings.trader(setup.settings.forecaster.build(bars.symbols))
    prepared = setup.settings.prepared(trader, bars, start)
    return run_decider(setup.settings, bars, start, "audit", prepared, level=logging.NOTSET)


def _compared(cut: np.datetime64, future: str, truth: Run, other: Run) -> Probe:
    """The first decision by the cut, or fill before it, that is not the same."""
    ours, theirs = ([d for d in run.decisions if d.at <= cut] for run in (truth, other))
    for a, b in zip(ours, theirs, strict=False):
        if a != b:
            return Probe(cut, future, len(ours), _difference(a, b))
    if len(ours) != len(theirs):
        return Probe(cut, future, len(ours), f"{len(ours)} decisions became {len(theirs)}")
    mine, yours = ([f for f in run.fills if f.at < cut] for run in (truth, other))
    moved = next((a for a, b in zip(mine, yours, strict=False) if a != b), None)
    if moved is not None or len(mine) != len(yours):
        return Probe(
            cut,
            future,
            len(ours),
            "a fill" if moved is None else f"the fill of {moved.client_order_id}",
        )
    return Probe(cut, future, len(ours), "")


def _difference(a: Decision, b: Decision) -> str:
    """Which choice moved first, and what about it."""
    for mine, yours in zip(a.choices, b.choices, strict=False):
        if mine != yours:
            names = [n for n in Choice._fields if getattr(mine, n) != getattr(yours, n)]
            return (
                f"{utc_text(a.at)} {mine.symbol}: {names[0]} {getattr(mine, names[0])} became"
                f" {getattr(yours, names[0])}"
            )
    return f"{utc_text(min(a.at, b.at))}: who decides, or the account"


def _show_probes(probes: Sequence[Probe], console: Console) -> bool:
    table = Table(
        "future changed after", "to", "decisions compared", "first that moved", title="look_ahead"
    )
    for probe in probes:
        table.add_row(utc_text(probe.cut), probe.future, str(probe.compared), probe.moved or "none")
    console.print(table)
    moved = any(probe.moved for probe in probes)
    console.print(
        "The future reaches decisions." if moved else "No decision and no fill moved.",
        highlight=False,
    )
    return moved


def _show_rows(name: str, rows: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table("run", *SHOWN, title=name)
    for row in rows:
        table.add_row(
            row["run"],
            *("n/a" if row[c] is None or row[c] != row[c] else f"{row[c]:,.4g}" for c in SHOWN),
        )
    console.print(table)


AUDITS: dict[str, Callable[[Setup, Progress], list[dict[str, Any]]]] = {
    "lag": lag,
    "costs": costs,
    "forecast": forecast,
}


def main() -> None:
    """Command line."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)  # noqa: T201
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    moved = False
    with one_line("the audit is not finished"):
        name = sys.argv[1] if len(sys.argv) > 1 else ""
        if name not in ("look_ahead", *AUDITS):
            raise InputError(
                f"audit: {name!r} is none; say look_ahead, {', '.join(AUDITS)}, then key=value"
                " settings"
            )
        setup = Setup.of(
            BacktestSettings.of(composed("backtest", ["output=none", "trials=null", *sys.argv[2:]]))
        )
        log_to_file("audit")
        with ProgressBar() as progress:
            found = (
                look_ahead(setup, progress)
                if name == "look_ahead"
                else AUDITS[name](setup, progress)
            )
        if name == "look_ahead":
            moved = _show_probes([probe for probe in found if isinstance(probe, Probe)], console)
        else:
            _show_rows(name, [row for row in found if isinstance(row, dict)], console)
    console.print(
        f"{setup.bars.source}; {', '.join(setup.bars.symbols)}", soft_wrap=True, highlight=False
    )
    sys.exit(1 if moved else 0)


if __name__ == "__main__":
    main()
