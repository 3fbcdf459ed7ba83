"""Benchmarks of this project and its peers in the same run: tables of docs/PERFORMANCE.md.

    python studies/peers.py [replay|strategy|length|solver|decision|sizing|plan|loading ...]

Each peer has its own virtual environment in the folder PEERS (default `.peers`). If it is absent,
this prints the command that makes it. `studies/peer_programs.py` runs there, alternately with our
code. A ratio is the median of the pairs' ratios, of processor time if the row says so. PEER_BENCH
is the folder of the scripts of `decision` and `sizing`. The peers of `sizing` solve the simplest
problem: no costs and no positions. pandas, the peer of `loading`, is installed with this project.
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
from decimal import Decimal
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from execution.orders.orders import Side
    from foundation.arrays import Array
    from sizing.inputs import SizingInputs
    from sizing.kelly import SizingProblem
    from trainingdata.bars import Bars
    from trainingdata.timeframe import TimeframeName

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("PEER_BENCH", ROOT.parent / "shared" / "bench"))
ENVIRONMENTS = Path(os.environ.get("PEERS", ROOT / ".peers"))
PACKAGES = {
    "vectorbt": "vectorbt vectorbt-rust",
    "backtesting": "backtesting",
    "nautilus": "nautilus_trader",
    "solvers": "daqp proxsuite piqp clarabel osqp scipy",
    "cvxportfolio": "cvxportfolio",
    "sizing": "cvxpy skfolio riskfolio-lib pyportfolioopt",
}
SIZES = (10, 20, 50, 200)  # symbols of a sizing problem
PROBLEMS = 200  # per size
PLANS = 60
SOLVERS = ("DAQP", "ProxQP", "PIQP", "Clarabel", "OSQP")
WIDE = 200  # symbols
BARS = (1, 2, 28 * 7 - 3)  # in each period of a plan


def interpreter(name: str) -> Path | None:
    """Return a peer's Python, or None after printing how to install the peer."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if python.exists():
        return python
    made = f"python3 -m venv {folder} && {folder}/bin/pip install {PACKAGES[name]}"
    print(f"{name} is not installed: its rows are omitted; install it by {made}", flush=True)
    return None


def peer(name: str, script: str | Path, *words: str | Path) -> list[dict[str, Any]]:
    """Run a peer's script and return the JSON objects it prints; none if not installed."""
    python = interpreter(name)
    if python is None:
        return []
    command = [python, script, *words]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Program:
    """A running peer program, which waits for the next request on its standard input."""

    def __init__(self, python: Path, name: str, given: dict[str, Any]) -> None:
        """Start a program of PROGRAMS in `studies/peer_programs.py`; given: its input arrays."""
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, "given.npz")
        np.savez(path, **given)
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("peer_programs.py"), name, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @cached_property
    def versions(self) -> str:
        """Return the peer's packages with their versions."""
        return ", ".join(f"{name} {version}" for name, version in self._answer().items())

    def run(self, *words: str, times: int = 1) -> dict[str, Any]:
        """Run a request repeatedly; return mean processor and wall seconds, and the last result."""
        assert self.versions
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join((str(times), *words)) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(
            f"the peer program exited with code {self._process.wait()}: run it alone"
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()


class Paired(NamedTuple):
    """Medians over alternating runs: processor seconds of both sides, and their ratio.

    spread: quartiles of the ratios.
    theirs: result of the peer's last run.
    """

    ours: float
    peer: float
    ratio: float
    spread: tuple[float, float]
    theirs: dict[str, Any]


def paired(
    work: Callable[[], object], theirs: Callable[..., dict[str, Any]], runs: int, times: int = 1
) -> Paired:
    """Run both sides in turn after a warm-up; times: calls a turn, so that caches are warm."""
    work()
    answer = theirs()
    own, other = [], []
    for _ in range(runs):
        began = time.process_time()
        for _ in range(times):
            work()
        own.append((time.process_time() - began) / times)
        answer = theirs(times=times)
        other.append(answer["cpu"])
    ratios = np.array(other) / np.array(own)
    low, middle, high = np.percentile(ratios, (25, 50, 75)).tolist()
    return Paired(statistics.median(own), statistics.median(other), middle, (low, high), answer)


def ratio_text(found: Paired) -> str:
    """Format a ratio with its quartiles."""
    low, high = found.spread
    return f"{found.ratio:.2f} × ({low:.2f} to {high:.2f})"


def seconds(
    work: Callable[[], object], runs: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median seconds of `runs` calls after one warm-up."""
    work()
    taken = []
    for _ in range(runs):
        began = clock()
        work()
        taken.append(clock() - began)
    return statistics.median(taken)


def row(*cells: str) -> None:
    """Print a row of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def head(*cells: str) -> None:
    """Print the first two lines of a table."""
    print()
    row(*cells)
    row(*["---"] * len(cells))


def followed(symbols: int, count: int, first: str = "2024-01-02") -> dict[str, Any]:
    """Return prices and long target weights [T, S] of synthetic stocks; gross at most 0.95."""
    bars = synthetic(symbols, count, first)
    rng = np.random.default_rng(7)
    raw = np.clip(rng.normal(0, 0.15, (count, symbols)), 0, 0.6)
    weights = raw * np.minimum(1, 0.95 / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
    prices = {
        name: np.ascontiguousarray(bars.values[:, :, k].T)
        for k, name in enumerate(("open", "high", "low", "close"))
    }
    return {"at": bars.times, **prices, "weights": weights}


class Replayed:
    """Our `replay` of target weights at every bar in one account."""

    def __init__(self, given: dict[str, Any]) -> None:
        index = pd.DatetimeIndex(given["at"], tz="UTC")
        names = [f"S{k:03d}" for k in range(given["close"].shape[1])]
        frame = {k: pd.DataFrame(v, index, names) for k, v in given.items() if k != "at"}
        self.weights = frame["weights"]
        self.bars = {name: frame[name] for name in ("open", "high", "low", "close")}
        self._arguments: tuple[Any, ...] = ()

    def run(self, **words: Any) -> Any:
        """Call `replay` without reading fills or equity."""
        from marketsimulator import replay

        return replay(self.weights, self.bars, capital=1e6, fee_bps=1.0, slippage_bps=1.0, **words)

    def read(self) -> tuple[float, int]:
        """Call `replay`; return its last equity and its number of fills."""
        done = self.run()
        return float(done.equity.iloc[-1]), len(done.fills)

    def kernel(self) -> object:
        """Call only the compiled loop, with the arguments that `replay` passes."""
        from marketsimulator import weight_replay

        def fresh(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            book = arguments[0]  # each run changes the book
            return (book._make([each.copy() for each in book]), *arguments[1:])

        loop = weight_replay._follow_weights
        if not self._arguments:

            def noted(*arguments: Any) -> Any:
                self._arguments = fresh(arguments)
                return loop(*arguments)

            with patch.object(weight_replay, "_follow_weights", noted):
                self.run()
        return loop(*fresh(self._arguments))


def replay_rows() -> None:
    """Print times of `replay` of weights at every bar and vectorbt's `from_orders`, cash shared."""
    python = interpreter("vectorbt")
    head("replay", "read on both", "ours, M symbol-bars/s", "engine", "vectorbt", "ratio", "error")
    for symbols, count in ((10, 1764), (100, 1764)):
        given = followed(symbols, count)
        ours = Replayed(given)
        works: tuple[tuple[str, str, Callable[[], object]], ...] = (
            ("fills, last equity", "read", ours.read),
            ("fills, equity curve", "curve", ours.read),
            ("nothing", "unread", ours.run),
            ("the kernel alone", "kernel", ours.kernel),
        )
        size = f"{symbols} × {count:,}"
        if python is None:
            for label, _, work in works:
                rate = symbols * count / seconds(work, 31, time.process_time) / 1e6
                row(size, label, f"{rate:.1f}", "", "", "", "")
            continue
        with Program(python, "vectorbt", given) as program:
            exact = ours.run(increments=1e-9, interest_rate=0.0, symbol_cap=1.0)
            same = program.run("rust", "next")
            apart = abs(float(exact.equity.iloc[-1]) / same["final"] - 1)
            error = f"{len(exact.fills):,} and {same['fills']:,} fills, equity {apart:.1e} apart"
            for engine, (label, what, work) in product(("rust", "numba"), works):
                found = paired(work, partial(program.run, engine, what), 15, 100 // symbols)
                mine, theirs = (f"{symbols * count / each / 1e6:.2f}" for each in found[:2])
                named = f"{engine}, {program.versions}"
                row(size, label, mine, named, theirs, ratio_text(found), error)


def follow(inputs: SizingInputs) -> Array:
    """Return weights of 100 times the forecast, as a strategy in Python."""
    return 100.0 * inputs.mu


def strategy_rows() -> None:
    """Print times of a strategy in Python on one symbol, here and in backtesting.py."""
    from execution.orders.orders import Order
    from forecasting.baseline import RandomWalk
    from foundation.compose import compose_config
    from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
    from marketsimulator.settings import BacktestSettings
    from trainingdata.market import Market

    given = followed(1, 1764)
    words = ["capital=100000", "trials=null", "sizing.band=0"]
    words.append("sizing._target_=studies.peers.follow")
    settings = BacktestSettings.from_config(compose_config("backtest", words))
    market = Market(synthetic(1, 1764))
    trader = settings.build_trader(RandomWalk())
    table = trader.build_beliefs(market)
    wanted = given["weights"][np.searchsorted(given["at"], table.instants)]
    mu = np.where(table.is_adjustable[:, None], wanted[:, None] / 100, table.mu)
    trader = replace(trader, belief_table=table._replace(mu=mu))

    symbol = market.bars.symbols[0]
    weights = given["weights"][:, 0].tolist()

    def by_hand() -> tuple[list[Any], list[Any]]:
        broker = settings.build_broker(market)
        rows = []
        for t, weight in enumerate(weights):
            broker.advance(t)
            account = broker.account()
            held = int(account.positions.get(symbol, 0))
            change = int(account.equity * weight / account.prices[symbol]) - held
            if change:
                side: Side = "buy" if change > 0 else "sell"
                order = Order(f"follow-{t}", symbol, side, Decimal(abs(change)), reason="")
                broker.submit((order,))
            broker.open_bars()
            rows.append(broker.equity_row())
        return rows, broker.fills

    def walked() -> tuple[pd.DataFrame, pd.DataFrame]:
        run = simulate_trading(settings, market, "follow", trader)
        return run.equity(), run.fill_frame()

    def stepped() -> tuple[pd.DataFrame, pd.DataFrame]:
        run = simulate_stepwise(settings, market, "follow", trader, settings.build_broker(market))
        return run.equity(), run.fill_frame()

    python = interpreter("backtesting")
    head("one symbol, 1,764 bars", "k symbol-bars/s", "backtesting.py", "ratio", "error")
    equity, fills = walked()
    again, others = stepped()
    same = equity.equals(again) and fills.equals(others)
    error = f"{len(fills)} fills, walked and stepped {'the same bytes' if same else 'DIFFER'}"
    labels: tuple[tuple[str, Callable[[], object], str], ...] = (
        ("a simulated broker stepped by hand", by_hand, f"{len(by_hand()[1])} fills"),
        ("a rule of weights, walked, as in a backtest", walked, error),
        ("a rule of weights, stepped, as live", stepped, error),
    )
    if python is None:
        for what, work, error in labels:
            row(what, f"{1.764 / seconds(work, 5, time.process_time):.1f}", "", "", error)
        return
    with Program(python, "backtesting", given) as program:
        for what, work, error in labels:
            found = paired(work, program.run, 9)
            trades = found.theirs["fills"]
            beside = f"{1.764 / found.peer:.1f} ({program.versions}, {trades} trades)"
            row(what, f"{1.764 / found.ours:.1f}", beside, ratio_text(found), error)


def length_rows() -> None:
    """Print NautilusTrader's rate by run length, with target weights at every bar."""
    python = interpreter("nautilus")
    if python is None:
        return
    head("NautilusTrader, 10 symbols", "bars of each", "k symbol-bars/s, processor", "orders")
    with Program(python, "nautilus", followed(10, 7056, "2020-01-02")) as program:
        program.run("220")
        for count, runs in ((441, 3), (1764, 3), (7056, 1)):
            found = [program.run(str(count)) for _ in range(runs)]
            rate = 10 * count / statistics.median([each["cpu"] for each in found]) / 1e3
            row(program.versions, f"{count:,}", f"{rate:.2f}", f"{found[-1]['fills']:,}")


def solver_rows() -> None:
    """Print a sizing problem with costs and positions, solved here and by general QP solvers."""
    from sizing.kelly import kelly_weights

    python = interpreter("solvers")
    titles = [f"{name}, ms; ratio; return below ours" for name in SOLVERS]
    head("n", "ours, ms (5 to 95 %)", *titles)
    for n, count, times in ((10, 20, 20), (50, 10, 5), (200, 4, 1), (500, 4, 1)):
        given = problems(n, count)
        work = [partial(kelly_weights, **each) for each in given for _ in range(5)]
        mine = [1e3 * seconds(each, 1, time.process_time) for each in work]
        low, middle, high = np.percentile(mine, (5, 50, 95))
        cells = [f"{middle:.3f} ({low:.3f} to {high:.3f})"]
        if python is not None:
            names = ("mu", "covariance", "held", "cost")
            arrays = {name: np.array([each[name] for each in given]) for name in names}
            parts, ceilings = zip(*given[0]["groups"], strict=True)
            arrays |= {"groups": np.array(parts), "ceilings": np.array(ceilings)}
            with Program(python, "solvers", arrays) as program:
                cells += [solver_cell(program, name, given, times) for name in SOLVERS]
                versions = program.versions
        row(str(n), *cells)
    if python is not None:
        print(versions)


def solver_cell(program: Program, name: str, given: list[dict[str, Any]], times: int) -> str:
    """Format a solver's milliseconds, its ratio to ours and its largest shortfall of return."""
    from sizing.kelly import kelly_weights

    taken, ratios, below, passed = [], [], [], []
    # Dense solvers take half a minute for a program of 500 symbols.
    wide = len(given[0]["mu"]) >= WIDE and name in ("DAQP", "ProxQP")
    for k, p in enumerate(given[:1] if wide else given):
        turn = partial(kelly_weights, **p), partial(program.run, name, str(k))
        found = paired(*turn, runs=1 if wide else 3, times=1 if wide else times)
        w = kelly_weights(**p)
        worth = p["mu"] @ w - w @ p["covariance"] @ w - p["cost"] @ np.abs(w - p["held"])
        taken.append(1e3 * found.peer)
        ratios.append(found.ratio)
        below.append(worth - found.theirs["worth"])
        passed.append(found.theirs["passed"])
    text = f"{statistics.median(taken):.2f}; {statistics.median(ratios):.1f} ×; {max(below):.1e}"
    return text + (f", limits exceeded by {max(passed):.0e}" if max(passed) > 1e-6 else "")


def synthetic(
    symbols: int, count: int, first: str = "2024-01-02", name: TimeframeName = "1h"
) -> Bars:
    """Return bars of synthetic stocks on New York's regular grid."""
    from trainingdata.bars import build_panel
    from trainingdata.instruments import instrument
    from trainingdata.timeframe import Timeframe

    timeframe = Timeframe(name)
    ends = timeframe.stock_clock.ends
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
    return build_panel(tables, "synthetic bars", timeframe)


def decision_rows() -> None:
    """Print complete decisions per second, one at every bar, on random forecasts."""
    from forecasting.baseline import RandomWalk
    from foundation.compose import compose_config
    from foundation.settings import with_changes
    from marketsimulator.runs.outcome import simulate_variants
    from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
    from marketsimulator.settings import BacktestSettings
    from trainingdata.market import Market

    words = ["capital=1000000", "trials=null", "sizing.holding=next"]  # the peers' horizon
    settings = BacktestSettings.from_config(compose_config("backtest", words))

    def believed(market: Market, settings: BacktestSettings) -> Any:
        trader = settings.build_trader(RandomWalk())
        table = trader.build_beliefs(market)
        spread = np.where(table.sigma > 0, table.sigma, 0.0)
        noise = np.random.default_rng(1).normal(0, 0.5, table.mu.shape) * spread
        mu = np.where(table.is_adjustable[:, None], noise, table.mu)
        return replace(trader, belief_table=table._replace(mu=mu))

    narrow = Market(synthetic(10, 1764))
    trader = believed(narrow, settings)
    broker = settings.build_broker(narrow)
    run = simulate_stepwise(settings, narrow, "noise", trader, broker)
    (found,) = simulate_variants([settings], narrow, trader.table)
    apart = np.abs(found.equity - [each.equity for each in run.equity_rows]).max()
    plan = with_changes(settings, {"sizing.holding": "plan"})
    planner = believed(narrow, plan)
    works: dict[str, Callable[[], object]] = {
        f"a backtest, every decision kept, {len(run.fills):,} fills": lambda: simulate_trading(
            settings, narrow, "noise", trader
        ),
        "the same, and every decision read": lambda: simulate_trading(
            settings, narrow, "noise", trader
        ).decision_frame(),
        "asked at every instant, as live": lambda: simulate_stepwise(
            settings, narrow, "noise", trader, settings.build_broker(narrow)
        ),
        f"compiled, as in a sweep; accounts {apart:.4f} USD apart": lambda: simulate_variants(
            [settings], narrow, trader.table, workers=1
        ),
        "a backtest, a plan of three blocks": lambda: simulate_trading(
            plan, narrow, "noise", planner
        ),
    }
    theirs = {
        "NautilusTrader": peer("nautilus", "b_nautilus.py", "trade"),
        "cvxportfolio": peer("cvxportfolio", "b_cvx.py"),
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
    taken = seconds(lambda: simulate_variants(variants, wide, table), 1)
    rate_text = f"{20 * 1764 / taken:,.0f} ({taken:.0f} s)"
    row("1,000 variants of 20 × 1,764, all cores", rate_text, "", "")


def problems(n: int, count: int = PROBLEMS) -> list[dict[str, Any]]:
    """Return random problems: factor covariances, returns near costs, positions within limits."""
    made = []
    for seed in range(count):
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
    """Return median and largest milliseconds over the problems, each timed after a warm-up."""
    taken = [1e3 * seconds(partial(work, p), 1) for p in given]
    return statistics.median(taken), max(taken)


def sizing_rows() -> None:
    """Print a sizing problem, solved here and by the established portfolio optimisers."""
    from sizing.kelly import kelly_weights

    theirs: dict[int, dict[str, float]] = {}
    for found in peer("sizing", "b_sizing.py"):
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
        ours = [f"{middle:.3f} ({worst:.2f})" for middle, worst in (costly, plain)]
        row(str(n), *ours, *beside)


def plans(n: int) -> list[SizingProblem]:
    """Return `problems` over three periods: a three-bar signal, a premium of 6 % a year."""
    from sizing.kelly import SizingProblem

    made = []
    for p in problems(n)[:PLANS]:
        groups, ceiling = (np.array([each]) for each in p["groups"][0])
        mu = np.array([p["mu"], p["mu"], np.zeros(n)]) + 0.06 / 1764 * np.array(BARS)[:, None]
        risks = p["covariance"] / 7 * np.array(BARS)[:, None, None]
        book = p["held"], p["lower"], p["upper"], groups, ceiling
        cost = np.tile(p["cost"], (3, 1))
        made.append(SizingProblem(mu, risks, cost, np.zeros(3), *book, kelly_fraction=0.5))
    return made


def plan_rows() -> None:
    """Print a plan of three periods, solved here and by cvxportfolio's multi-period policy."""
    head("n", "plan, ms (worst)", "cvxportfolio", "largest difference of first weights")
    for n in SIZES[:3]:
        given = plans(n)
        median, worst = milliseconds(lambda p: p.solve(), given)
        beside = apart = ""
        if interpreter("cvxportfolio"):
            mu = np.array([p.mu for p in given])
            risks = np.array([p.covariance for p in given])
            held = np.array([p.held_weight for p in given])
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "problems.npz")
                np.savez(path, mu=mu, covariance=risks, held=held, cost=given[0].cost[0, 0])
                peer("cvxportfolio", Path(__file__).resolve(), path)
                with np.load(path, allow_pickle=False) as found:
                    taken, weights = found["seconds"], found["weights"]
            ms = 1e3 * float(np.median(taken[1:]))
            ours = np.array([p.solve()[1] for p in given])
            beside = f"{ms:.1f} ms, {ms / median:.0f} ×"
            apart = f"{np.abs(ours - weights).max():.1e}"
        row(str(n), f"{median:.3f} ({worst:.2f})", beside, apart)


def answer_plans(path: Path) -> None:
    """Solve a file's problems in cvxportfolio's interpreter; write first weights and seconds."""
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
            "compute_current_weights": pd.Series([*p["held"][k], 1 - p["held"][k].sum()], universe),
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
    """Write one file per symbol: daily bars by date, other bars by their start."""
    from trainingdata.bars import OHLCV_FIELDS
    from trainingdata.instruments import AssetClass

    paths = []
    for s, symbol in enumerate(bars.symbols):
        times, values = bars.bars_of_symbol(s)
        frame = pd.DataFrame(values, columns=list(OHLCV_FIELDS))
        starts = pd.DatetimeIndex(bars.clock(AssetClass.STOCK).starts_by_end(times), tz="UTC")
        if bars.timeframe.is_daily:
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
    """Print the time to read, check and align files of synthetic stocks, here and in pandas."""
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
    "strategy": strategy_rows,
    "length": length_rows,
    "solver": solver_rows,
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
        sys.exit(f"unknown table {unknown[0]}: choose from {', '.join(TABLES)}")
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()
