"""Our speeds beside those of the peers, in the same run: tables of docs/PERFORMANCE.md.

    python studies/peers.py [replay] [decision] [sizing] [plan] [loading]

A peer runs where its interpreter is named: VECTORBT_PYTHON, NAUTILUS_PYTHON, CVXPORTFOLIO_PYTHON,
and SIZING_PYTHON for cvxpy, skfolio, Riskfolio-Lib and PyPortfolioOpt. PEER_BENCH is the folder of
their scripts and of the common input. Ours are medians after a warm-up. The peers of `sizing` solve
its plainest form: no costs, nothing held. pandas, the peer of `loading`, is installed beside us.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from sizing.kelly import SizingProblem
    from trainingdata.bars import Bars
    from trainingdata.timeframe import TimeframeName

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("PEER_BENCH", ROOT.parent / "shared" / "bench"))
SIZES = (10, 20, 50, 200)  # symbols of a sizing problem
PROBLEMS = 200  # a size
PLANS = 60
BARS = (1, 2, 28 * 7 - 3)  # of a plan's periods


def peer(name: str, script: str | Path, *words: str | Path) -> list[dict[str, Any]]:
    """What a peer's script prints; nothing where its interpreter is not named."""
    python = os.environ.get(f"{name}_PYTHON")
    if python is None:
        return []
    command = [python, script, *words]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def seconds(
    work: Callable[[], object], runs: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median seconds of some calls after one more."""
    work()
    taken = []
    for _ in range(runs):
        began = clock()
        work()
        taken.append(clock() - began)
    return statistics.median(taken)


def row(*cells: str) -> None:
    """A row of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def head(*cells: str) -> None:
    """A table's first two lines."""
    print()
    row(*cells)
    row(*["---"] * len(cells))


def replay_rows() -> None:
    """Weights at every bar, beside vectorbt's `from_orders`."""
    sys.path.insert(0, str(FOLDER))
    from common import make  # type: ignore[import-not-found]

    from marketsimulator import replay

    head("replay", "M symbol-bars/s", "vectorbt", "last equity")
    theirs = peer("VECTORBT", "b_vectorbt.py") or [{}, {}]
    for found, (symbols, count) in zip(theirs, ((10, 1764), (100, 1764)), strict=False):
        *prices, weights = make(symbols, count)
        bars = dict(zip(("open", "high", "low", "close", "volume"), prices, strict=True))
        for what, times in (("the weights", 1), ("three times the weights, on margin", 3)):

            def run(w: pd.DataFrame = times * weights, b: dict[str, Any] = bars) -> Any:
                return replay(w, b, capital=1e6, fee_bps=1.0, slippage_bps=1.0)

            taken = seconds(run, 31)
            beside = f"{found['median_s'] / taken:.1f} ×" if found else ""
            ends = f"{run().equity.iloc[-1]:,.0f}"
            if found and times == 1:
                ends += f"; {found['final']:,.0f}, filled at the close"
            row(
                f"{symbols} × {count:,}, {what}",
                f"{symbols * count / taken / 1e6:.1f}",
                beside,
                ends,
            )


def synthetic(
    symbols: int, count: int, first: str = "2024-01-02", name: TimeframeName = "1h"
) -> Bars:
    """Synthetic stocks on the regular New York grid."""
    from trainingdata.bars import panel
    from trainingdata.instruments import instrument
    from trainingdata.timeframe import Timeframe

    timeframe = Timeframe(name)
    ends = timeframe.stocks.ends
    begin = int(np.searchsorted(ends, np.datetime64(first, "ns")))
    rng = np.random.default_rng(7)
    common = rng.normal(0, 0.004, count)[:, None] * rng.uniform(0.5, 1.5, symbols)
    move = common + rng.normal(0, 0.006, (count, symbols))
    close = 100 * np.exp(np.cumsum(move, axis=0))
    gap = np.exp(rng.normal(0, 0.0005, (count, symbols)))
    start = np.vstack([np.full(symbols, 100.0), close[:-1]]) * gap
    high, low = np.maximum(start, close) * 1.002, np.minimum(start, close) * 0.998
    values = np.stack([start, high, low, close, np.full(close.shape, 3e6)], axis=2)
    letters = "ABCDEFGHIJ"
    names = [f"S{a}{b}{c}" for a in letters for b in letters for c in letters][:symbols]
    times = ends[begin : begin + count]
    tables = [(instrument(name), times, values[:, s]) for s, name in enumerate(names)]
    return panel(tables, "synthetic bars", timeframe)


def decision_rows() -> None:
    """The whole decision at every bar, on forecasts of noise."""
    from forecasting.baseline import RandomWalk
    from foundation.compose import composed_config
    from foundation.settings import with_changes
    from marketsimulator.runs.outcome import outcomes
    from marketsimulator.runs.simulate import simulate_trading, step_trading
    from marketsimulator.settings import BacktestSettings
    from trainingdata.market import Market

    words = ["capital=1000000", "trials=null", "sizing.holding=next"]  # as far as the peers look
    settings = BacktestSettings.of(composed_config("backtest", words))

    def believed(market: Market, settings: BacktestSettings) -> Any:
        trader = settings.trader(RandomWalk())
        table = trader.belief_table(market)
        spread = np.where(table.sigma > 0, table.sigma, 0.0)
        noise = np.random.default_rng(1).normal(0, 0.5, table.mu.shape) * spread
        mu = np.where(table.deciding[:, None], noise, table.mu)
        return replace(trader, table=table._replace(mu=mu))

    narrow = Market(synthetic(10, 1764))
    trader = believed(narrow, settings)
    broker = settings.broker(narrow)
    run = step_trading(settings, narrow, "noise", trader, broker)
    (found,) = outcomes([settings], narrow, trader.table)
    apart = np.abs(found.equity - [each.equity for each in run.rows]).max()
    plan = with_changes(settings, {"sizing.holding": "plan"})
    planner = believed(narrow, plan)
    works: dict[str, Callable[[], object]] = {
        f"a backtest, every decision kept, {len(run.fills):,} fills": lambda: simulate_trading(
            settings, narrow, "noise", trader
        ),
        "the same, and every decision read": lambda: simulate_trading(
            settings, narrow, "noise", trader
        ).decision_frame(),
        "asked at every instant, as live": lambda: step_trading(
            settings, narrow, "noise", trader, settings.broker(narrow)
        ),
        f"compiled, as in a sweep; accounts {apart:.4f} USD apart": lambda: outcomes(
            [settings], narrow, trader.table, workers=1
        ),
        "a backtest, a plan of three blocks": lambda: simulate_trading(
            plan, narrow, "noise", planner
        ),
    }
    theirs = {
        "NautilusTrader": peer("NAUTILUS", "b_nautilus.py", "trade"),
        "cvxportfolio": peer("CVXPORTFOLIO", "b_cvx.py"),
    }
    head("10 × 1,764, the whole decision a bar", "k symbol-bars/s", *theirs)
    for what, work in works.items():
        rate = 10 * 1764 / seconds(work)
        ratios = (
            f"{rate / rows[-1]['bars_per_s_med']:.1f} ×" if rows else "" for rows in theirs.values()
        )
        row(what, f"{rate / 1e3:.1f}", *ratios)
    wide = Market(synthetic(20, 1764))
    table = believed(wide, settings).table
    variants = [with_changes(settings, {"sizing.fraction": 0.001 * k}) for k in range(1, 1001)]
    taken = seconds(lambda: outcomes(variants, wide, table), 1)
    row(
        "1,000 variants of 20 × 1,764, all cores",
        f"{20 * 1764 / taken:,.0f} ({taken:.0f} s)",
        "",
        "",
    )


def problems(n: int) -> list[dict[str, Any]]:
    """Factor covariances, edges of the size of costs for every symbol, a book within its limits."""
    made = []
    for seed in range(PROBLEMS):
        rng = np.random.default_rng([n, seed])
        factors = rng.normal(0, 0.01, (1000, 3)) @ rng.normal(0, 0.5, (3, n))
        returns = factors + rng.normal(0, 0.01, (1000, n))
        held = np.clip(rng.normal(0, 0.3, n) * (rng.random(n) < 0.7), -0.6, 0.6)
        made.append(
            {
                "mu": rng.normal(0, 5e-4, n),
                "covariance": np.cov(returns, rowvar=False),
                "lower": np.full(n, -0.6),
                "upper": np.full(n, 0.6),
                "groups": [(np.ones(n), 4.0), (np.full(n, 0.25), 1.0)],
                "held": held * min(1.0, 3.9 / max(np.abs(held).sum(), 1e-9)),
                "cost": np.full(n, 2e-4),
            }
        )
    return made


def milliseconds(work: Callable[[Any], object], given: list[Any]) -> tuple[float, float]:
    """Median and largest over the problems, each solved twice, the second time counted."""
    taken = [1e3 * seconds(partial(work, p), 1) for p in given]
    return statistics.median(taken), max(taken)


def sizing_rows() -> None:
    """One sizing problem, beside the solvers that portfolios are known for."""
    from sizing.kelly import kelly_weights

    theirs: dict[int, dict[str, float]] = {}
    for found in peer("SIZING", "b_sizing.py"):
        theirs.setdefault(found["n"], {})[found["name"]] = found["median_ms"]
    names = ("cvxpy DPP OSQP", "skfolio MeanRisk", "Riskfolio-Lib kelly=approx", "PyPortfolioOpt")
    head("n", "with costs, ms (worst)", "without", *names)
    for n in SIZES:
        given = problems(n)
        free = [{k: v for k, v in p.items() if k not in ("held", "cost")} for p in given]
        costly, plain = (milliseconds(lambda p: kelly_weights(**p), some) for some in (given, free))
        beside = []
        for name in names:
            ms = [ms for each, ms in theirs.get(n, {}).items() if each.startswith(name)]
            beside.append(f"{ms[0]:.2f} ms, {ms[0] / costly[0]:.0f} ×" if ms else "")
        row(
            str(n),
            f"{costly[0]:.3f} ({costly[1]:.2f})",
            f"{plain[0]:.3f} ({plain[1]:.2f})",
            *beside,
        )


def plans(n: int) -> list[SizingProblem]:
    """The same over three periods: a signal that lasts three bars, a premium of 6 % a year."""
    from sizing.kelly import SizingProblem

    made = []
    for p in problems(n)[:PLANS]:
        groups, room = (np.array([each]) for each in p["groups"][0])
        mu = np.array([p["mu"], p["mu"], np.zeros(n)]) + 0.06 / 1764 * np.array(BARS)[:, None]
        risks = p["covariance"] / 7 * np.array(BARS)[:, None, None]
        book = p["held"], p["lower"], p["upper"], groups, room
        cost = np.tile(p["cost"], (3, 1))
        made.append(SizingProblem(mu, risks, cost, np.zeros(3), *book, fraction=0.5))
    return made


def plan_rows() -> None:
    """A plan of three periods, beside cvxportfolio's multi-period policy."""
    head("n", "plan, ms (worst)", "cvxportfolio", "largest difference of first weights")
    for n in SIZES[:3]:
        given = plans(n)
        median, worst = milliseconds(lambda p: p.solve(), given)
        beside = apart = ""
        if "CVXPORTFOLIO_PYTHON" in os.environ:
            mu = np.array([p.mu for p in given])
            risks = np.array([p.covariance for p in given])
            held = np.array([p.held for p in given])
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "problems.npz")
                np.savez(path, mu=mu, covariance=risks, held=held, cost=given[0].cost[0, 0])
                peer("CVXPORTFOLIO", Path(__file__).resolve(), path)
                with np.load(path, allow_pickle=False) as found:
                    taken, weights = found["seconds"], found["weights"]
            ms = 1e3 * float(np.median(taken[1:]))
            ours = np.array([p.solve()[1] for p in given])
            beside = f"{ms:.1f} ms, {ms / median:.0f} ×"
            apart = f"{np.abs(ours - weights).max():.1e}"
        row(str(n), f"{median:.3f} ({worst:.2f})", beside, apart)


def answer_plans(path: Path) -> None:
    """In cvxportfolio's interpreter: its first weights [P, S] of a file's problems, and seconds."""
    import cvxportfolio as cvx  # type: ignore[import-not-found]

    with np.load(path, allow_pickle=False) as given:
        p = dict(given)
    count, periods, n = p["mu"].shape
    names = [f"S{k}" for k in range(n)]
    times = pd.date_range("2024-01-01", periods=count, freq="h")
    rows = pd.MultiIndex.from_product([times, names])
    objective = [
        cvx.ReturnsForecast(r_hat=pd.DataFrame(p["mu"][:, k], times, names))
        - cvx.FullCovariance(Sigma=pd.DataFrame(p["covariance"][:, k].reshape(-1, n), rows, names))
        - cvx.TransactionCost(a=float(p["cost"]), b=None)
        for k in range(periods)
    ]
    first = [cvx.MaxWeights(0.6), cvx.MinWeights(-0.6), cvx.LeverageLimit(4.0)]
    policy = cvx.MultiPeriodOptimization(
        objective, [first, *[[]] * (periods - 1)], include_cash_return=False, solver="CLARABEL"
    )
    universe = pd.Index([*names, "cash"])
    policy.initialize_estimator_recursive(universe=universe, trading_calendar=times)
    weights, taken = np.empty((count, n)), np.empty(count)
    for k, t in enumerate(times):
        state = {
            "t": t,
            "current_weights": pd.Series([*p["held"][k], 1 - p["held"][k].sum()], universe),
            "current_portfolio_value": 1e6,
            "past_returns": None,
            "past_volumes": None,
            "current_prices": pd.Series(100.0, universe[:-1]),
        }
        began = time.perf_counter()
        policy.values_in_time_recursive(**state)
        taken[k] = time.perf_counter() - began
        weights[k] = policy._w_plus_at_lags[0].value[:-1]
    np.savez(path, weights=weights, seconds=taken)


def write_files(bars: Bars, folder: Path, ending: str) -> list[Path]:
    """Write a file a symbol: days by their date, other bars by their start."""
    from trainingdata.bars import FIELDS
    from trainingdata.instruments import Kind

    paths = []
    for s, symbol in enumerate(bars.symbols):
        times, values = bars.real_bars(s)
        frame = pd.DataFrame(values, columns=list(FIELDS))
        starts = pd.DatetimeIndex(bars.clock(Kind.STOCK).started_at(times), tz="UTC")
        if bars.timeframe.daily:
            frame.insert(0, "date", starts.strftime("%Y-%m-%d"))
        else:
            frame.insert(0, "timestamp", starts)
        path = folder / f"{symbol}.{ending}"
        if ending == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
        paths.append(path)
    return paths


def read_frames(paths: list[Path]) -> pd.DataFrame:
    """Read and align files as a pandas user does, without checks."""
    frames = {}
    for path in paths:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        stamps = pd.to_datetime(frame.pop(frame.columns[0]), utc=True)
        frames[path.stem] = frame.set_axis(pd.DatetimeIndex(stamps), axis=0)
    return pd.concat(frames, axis=1)


def loading_rows() -> None:
    """Files of synthetic stocks read, checked and put on one clock, beside pandas."""
    from trainingdata import load_bars

    head("loading, processor seconds", "ours", "pandas, without checks", "pandas over ours")
    sizes: tuple[tuple[TimeframeName, int, int], ...] = (("1d", 50, 2_520), ("1h", 20, 8_820))
    for name, symbols, count in sizes:
        bars = synthetic(symbols, count, "2015-01-02", name)
        for ending in ("csv", "parquet"):
            with tempfile.TemporaryDirectory() as folder:
                paths = write_files(bars, Path(folder), ending)
                ours = seconds(partial(load_bars, folder), 7, time.process_time)
                theirs = seconds(partial(read_frames, paths), 7, time.process_time)
            what = f"{symbols} × {count:,}, {name}, {ending}"
            row(what, f"{ours:.3f}", f"{theirs:.3f}", f"{theirs / ours:.2f} ×")


TABLES = {
    "replay": replay_rows,
    "decision": decision_rows,
    "sizing": sizing_rows,
    "plan": plan_rows,
    "loading": loading_rows,
}

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].endswith(".npz"):
        answer_plans(Path(sys.argv[1]))
        sys.exit()
    if unknown := [word for word in sys.argv[1:] if word not in TABLES]:
        sys.exit(f"{unknown[0]} is none of {', '.join(TABLES)}")
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()
