"""Programs of the peers, each run in its own interpreter: one request per line of standard input.

    .peers/vectorbt/bin/python studies/peer_programs.py vectorbt INPUT.npz

`studies/peers.py` starts it and reads its answers, one JSON object per line: first the versions,
then the times of each request. Both sides read the same arrays, and their runs alternate.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

CLOCKS = ("cpu", "wall")
Arrays = dict[str, Any]
Answer = dict[str, float | int | str]
Program = Callable[[Arrays], Callable[..., Answer]]


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return the result of a call, and its processor and wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    return done, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def frames(given: Arrays) -> dict[str, Any]:
    """Return the arrays [T, S] as data frames indexed by UTC instants."""
    import pandas as pd

    index = pd.DatetimeIndex(given["at"], tz="UTC")
    names = [f"S{k:03d}" for k in range(given["close"].shape[1])]
    wanted = [name for name in given if name != "at"]
    return {name: pd.DataFrame(given[name], index=index, columns=names) for name in wanted}


def vectorbt(given: Arrays) -> Callable[..., Answer]:
    """Prepare `Portfolio.from_orders`: target weights, shared cash, sales first, fills at close.

    A request names the engine (numba or rust) and the work. `read` reads fills and last equity,
    `curve` fills and all equity, `unread` nothing. `kernel` times the simulation within the call.
    `next` is `read` with fills at the next open from targets of this close, as in our `replay`.
    """
    import vectorbt as vbt
    import vectorbt_rust.portfolio as rust
    from vectorbt.portfolio import nb

    frame = frames(given)
    inside = {"cpu": 0.0, "wall": 0.0}

    def watched(simulate: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arrays: Any, **words: Any) -> Any:
            done, taken = timed(lambda: simulate(*arrays, **words))
            inside.update(taken)
            return done

        return run

    rust.simulate_from_orders_rs = watched(rust.simulate_from_orders_rs)
    nb.simulate_from_orders_nb = watched(nb.simulate_from_orders_nb)

    def run(engine: str, what: str) -> Answer:
        close, weights = frame["close"], frame["weights"]
        prices = {}
        if what == "next":
            weights = weights.shift(1)
            prices = {"price": frame["open"], "val_price": close.shift(1)}

        def call() -> tuple[float, int]:
            made = vbt.Portfolio.from_orders(
                close,
                size=weights,
                size_type="targetpercent",
                group_by=True,
                cash_sharing=True,
                call_seq="auto",
                fees=1e-4,
                slippage=1e-4,
                init_cash=1e6,
                freq="1h",
                engine=engine,
                **prices,
            )
            if what in ("unread", "kernel"):
                return float("nan"), 0
            last = made.value().iloc[-1] if what == "curve" else made.final_value()
            return float(last), len(made.orders.records)

        (final, fills), taken = timed(call)
        return {**(inside if what == "kernel" else taken), "final": final, "fills": fills}

    return run


def backtesting(given: Arrays) -> Callable[..., Answer]:
    """Prepare a `Strategy` that trades to a target weight at every bar; reads fills and equity."""
    import backtesting
    import pandas as pd

    backtesting.backtesting._tqdm = lambda each, **_: each  # no progress bar
    warnings.filterwarnings("ignore")
    names = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "weights": "W"}
    index = pd.DatetimeIndex(given["at"])
    frame = pd.DataFrame({to: given[name][:, 0] for name, to in names.items()}, index)

    class Follow(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None:
            pass

        def next(self) -> None:
            wanted = int(self.equity * self.data.W[-1] / self.data.Close[-1])
            change = wanted - self.position.size
            if change > 0:
                self.buy(size=change)
            elif change < 0:
                self.sell(size=-change)

    def run() -> Answer:
        test = backtesting.Backtest(
            frame, Follow, cash=1e5, commission=1e-4, exclusive_orders=False, finalize_trades=True
        )
        stats, taken = timed(test.run)
        return {**taken, "final": float(stats["Equity Final [$]"]), "fills": len(stats["_trades"])}

    return run


def crossing(given: Arrays) -> Callable[..., Answer]:
    """Prepare a `Strategy` of one symbol on the bars' moving averages; reads fills and equity."""
    import backtesting
    import pandas as pd
    from backtesting.lib import crossover

    backtesting.backtesting._tqdm = lambda each, **_: each  # no progress bar
    warnings.filterwarnings("ignore")
    names = ("open", "high", "low", "close")
    columns = {name.title(): given[name][:, 0] for name in names}
    frame = pd.DataFrame(columns, pd.DatetimeIndex(given["at"]))

    def average(closes: Any, bars: int) -> Any:
        return pd.Series(closes).rolling(bars).mean()

    class Crossing(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None:
            self.fast = self.I(average, self.data.Close, 20)
            self.slow = self.I(average, self.data.Close, 50)

        def next(self) -> None:
            if crossover(self.fast, self.slow):
                self.buy()
            elif crossover(self.slow, self.fast):
                self.position.close()

    def run() -> Answer:
        test = backtesting.Backtest(
            frame, Crossing, cash=1e5, commission=1e-4, finalize_trades=True
        )
        stats, taken = timed(test.run)
        return {**taken, "final": float(stats["Equity Final [$]"]), "fills": len(stats["_trades"])}

    return run


def nautilus(given: Arrays) -> Callable[..., Answer]:
    """Prepare `BacktestEngine.run`: one market order a bar for each symbol whose target changes.

    The time excludes making the engine and its bars. A request states the bars per symbol.
    """
    import pandas as pd
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig, RiskEngineConfig
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.data import BarType
    from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
    from nautilus_trader.model.identifiers import Venue
    from nautilus_trader.model.objects import Money, Quantity
    from nautilus_trader.persistence.wranglers import BarDataWrangler
    from nautilus_trader.test_kit.providers import TestInstrumentProvider
    from nautilus_trader.trading.strategy import Strategy

    frame = frames(given)
    prices = {name: frame[name].round(2) for name in ("open", "high", "low", "close")}
    weights = given["weights"]
    venue = Venue("SIM")

    class Follow(Strategy):  # type: ignore[misc]
        def __init__(self, instruments: list[Any]) -> None:
            super().__init__()
            self.instruments = instruments
            self.closes: dict[Any, float] = {}
            self.held = dict.fromkeys([each.id for each in instruments], 0)
            self.row = self.sent = self.seen = 0

        def on_start(self) -> None:
            for each in self.instruments:
                self.subscribe_bars(BarType.from_str(f"{each.id}-1-HOUR-LAST-EXTERNAL"))

        def on_bar(self, bar: Any) -> None:
            self.closes[bar.bar_type.instrument_id] = float(bar.close)
            self.seen += 1
            if self.seen % len(self.instruments):
                return
            for weight, each in zip(weights[self.row], self.instruments, strict=True):
                wanted = int(1e6 * weight / self.closes[each.id])
                change = wanted - self.held[each.id]
                if change:
                    side = OrderSide.BUY if change > 0 else OrderSide.SELL
                    size = Quantity.from_int(abs(change))
                    self.submit_order(self.order_factory.market(each.id, side, size))
                    self.held[each.id] = wanted
                    self.sent += 1
            self.row += 1

    def run(bars: str) -> Answer:
        engine = BacktestEngine(
            BacktestEngineConfig(
                logging=LoggingConfig(bypass_logging=True),
                risk_engine=RiskEngineConfig(bypass=True),
            )
        )
        engine.add_venue(
            venue=venue,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=USD,
            starting_balances=[Money(1_000_000, USD)],
            bar_execution=True,
        )
        instruments, data = [], []
        for name in frame["close"].columns:
            each = TestInstrumentProvider.equity(symbol=name, venue="SIM")
            engine.add_instrument(each)
            instruments.append(each)
            columns = pd.DataFrame({part: prices[part][name] for part in prices})
            columns["high"], columns["low"] = columns.max(axis=1), columns.min(axis=1)
            columns["volume"] = 3e6
            kind = BarType.from_str(f"{each.id}-1-HOUR-LAST-EXTERNAL")
            data += BarDataWrangler(kind, each).process(columns.iloc[: int(bars)])
        engine.add_data(data)
        strategy = Follow(instruments)
        engine.add_strategy(strategy)
        _, taken = timed(engine.run)
        engine.dispose()
        return {**taken, "fills": strategy.sent}

    return run


def solvers(given: Arrays) -> Callable[..., Answer]:
    """Prepare QP solvers of sizing problems; each is called as in its documentation.

    The time includes setup and solution, but not making the matrices. A request names the solver
    and the problem's number. ProxQP's objective is in basis points; with slopes of 1e-4 it reports
    infeasibility. The program, with w = held + b − s, |w| ≤ t and the groups' ceilings, is
    min ½w'(Σ/f)w − mu'w + c'(b + s).
    """
    import clarabel
    import daqp
    import osqp
    import piqp
    import scipy.sparse as sp
    from proxsuite import proxqp

    n = given["mu"].shape[1]
    unit, none = sp.eye(n, format="csc"), sp.csc_matrix((n, n))
    moves = sp.hstack([unit, -unit, unit, none], format="csc")
    sizes = [sp.hstack([unit, none, none, -unit]), sp.hstack([-unit, none, none, -unit])]
    sums = [sp.hstack([sp.csc_matrix((1, 3 * n)), sp.csc_matrix(c[None])]) for c in given["groups"]]
    under = sp.vstack([*sizes, *sums], format="csc")
    ceilings = np.concatenate([np.zeros(2 * n), given["ceilings"]])
    low = np.concatenate([np.full(n, -0.6), np.zeros(3 * n)])
    high = np.concatenate([np.full(n, 0.6), np.full(3 * n, 1e3)])
    whole = sp.eye(4 * n, format="csc")
    Parts = tuple[Any, Any, Any]
    Solve = Callable[[], Any]

    def by_daqp(p: Parts) -> Solve:
        rows = np.ascontiguousarray(np.vstack([moves.toarray(), under.toarray()]))
        upper = np.concatenate([high, p[2], ceilings])
        lower = np.concatenate([low, p[2], np.full(len(ceilings), -np.inf)])
        sense = np.zeros(len(upper), dtype=np.int32)
        sense[4 * n : 5 * n] = 5  # equalities
        dense = np.ascontiguousarray(p[0].toarray())
        return lambda: daqp.solve(dense, p[1], rows, upper, lower, sense.copy())[0]

    def by_proxqp(p: Parts) -> Solve:
        parts = 1e4 * p[0].toarray(), 1e4 * p[1], moves.toarray(), p[2], under.toarray()

        def solve() -> Any:
            program = proxqp.dense.QP(4 * n, n, len(ceilings), True)
            program.settings.eps_abs = 1e-9
            program.init(*parts, np.full(len(ceilings), -1e20), ceilings, low, high)
            program.solve()
            return program.results.x

        return solve

    def by_piqp(p: Parts) -> Solve:
        def solve() -> Any:
            program = piqp.SparseSolver()
            program.settings.eps_abs = 1e-9
            program.setup(p[0], p[1], moves, p[2], under, None, ceilings, low, high)
            program.solve()
            return program.result.x

        return solve

    def by_clarabel(p: Parts) -> Solve:
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        rows = sp.vstack([moves, under, whole, -whole], format="csc")
        most = np.concatenate([p[2], ceilings, high, -low])
        cones = [clarabel.ZeroConeT(n), clarabel.NonnegativeConeT(len(most) - n)]
        given = sp.triu(p[0], format="csc"), p[1], rows, most, cones, settings
        return lambda: clarabel.DefaultSolver(*given).solve().x

    def by_osqp(p: Parts) -> Solve:
        rows = sp.vstack([moves, under, whole], format="csc")
        least = np.concatenate([p[2], np.full(len(ceilings), -np.inf), low])
        most = np.concatenate([p[2], ceilings, high])
        accuracy = {"eps_abs": 1e-6, "eps_rel": 1e-6, "max_iter": 20_000}
        given = sp.triu(p[0], format="csc"), p[1], rows, least, most

        def solve() -> Any:
            program = osqp.OSQP()
            program.setup(*given, verbose=False, **accuracy)
            return program.solve().x

        return solve

    known = {
        "DAQP": by_daqp,
        "ProxQP": by_proxqp,
        "PIQP": by_piqp,
        "Clarabel": by_clarabel,
        "OSQP": by_osqp,
    }

    def run(solver: str, number: str) -> Answer:
        k = int(number)
        mu, risk, held, cost = (given[name][k] for name in ("mu", "covariance", "held", "cost"))
        matrix = sp.block_diag([sp.csc_matrix(risk / 0.5), none, none, none], format="csc")
        slope = np.concatenate([-mu, cost, cost, np.zeros(n)])
        found, taken = timed(known[solver]((matrix, slope, held)))
        w = np.asarray(found)[:n]
        worth = mu @ w - w @ risk @ w - cost @ np.abs(w - held)
        passed = max((given["groups"] @ np.abs(w) - given["ceilings"]).max(), np.abs(w).max() - 0.6)
        return {**taken, "worth": float(worth), "passed": float(passed)}

    return run


PROGRAMS: dict[str, tuple[tuple[str, ...], Program]] = {
    "vectorbt": (("vectorbt", "vectorbt-rust"), vectorbt),
    "backtesting": (("backtesting",), backtesting),
    "crossing": (("backtesting",), crossing),
    "nautilus": (("nautilus_trader",), nautilus),
    "solvers": (("daqp", "proxsuite", "piqp", "clarabel", "osqp"), solvers),
}


def answers(name: str, path: str) -> Iterator[Answer]:
    """Yield the versions, then for each request the last result with the mean times of its runs."""
    packages, program = PROGRAMS[name]
    with np.load(path, allow_pickle=False) as file:
        run = program(dict(file))
    yield {each: version(each) for each in packages}
    for line in sys.stdin:
        times, *words = line.split()
        done = [run(*words) for _ in range(int(times))]
        yield done[-1] | {key: float(np.mean([each[key] for each in done])) for key in CLOCKS}


if __name__ == "__main__":
    for answer in answers(*sys.argv[1:]):
        print(json.dumps(answer), flush=True)
