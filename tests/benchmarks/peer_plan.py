"""cvxportfolio's multi-period policy on our problems: `python peer_plan.py PROBLEMS.npz
ANSWERS.npz`, where it is installed.

PROBLEMS holds mu [P, K, S], covariance [P, K, S, S], held [P, S], cost, cap, ceiling and fraction;
ANSWERS gets weights [P, K, S] and seconds [P]. The policy is compiled once, before the first
problem; bounds and ceiling hold for its first step.
"""

from __future__ import annotations

import sys
import time
import warnings

import cvxportfolio as cvx
import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")


def answers(p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Weights and seconds."""
    count, blocks, n = p["mu"].shape
    names = [f"S{k}" for k in range(n)]
    times = pd.date_range("2024-01-01", periods=count, freq="h")
    risk_aversion = 1 / (2 * float(p["fraction"]))
    cost = float(p["cost"])
    rows = pd.MultiIndex.from_product([times, names])
    objective = [
        cvx.ReturnsForecast(r_hat=pd.DataFrame(p["mu"][:, k], times, names))
        - risk_aversion
        * cvx.FullCovariance(Sigma=pd.DataFrame(p["covariance"][:, k].reshape(-1, n), rows, names))
        - cvx.TransactionCost(a=cost, b=None)
        for k in range(blocks)
    ]
    cap = float(p["cap"])
    first = [cvx.MaxWeights(cap), cvx.MinWeights(-cap), cvx.LeverageLimit(float(p["ceiling"]))]
    policy = cvx.MultiPeriodOptimization(
        objective, [first, *[[]] * (blocks - 1)], include_cash_return=False, solver="CLARABEL"
    )
    universe = pd.Index([*names, "cash"])
    policy.initialize_estimator_recursive(universe=universe, trading_calendar=times)
    weights = np.empty((count, blocks, n))
    seconds = np.empty(count)
    for k, t in enumerate(times):
        held = pd.Series([*p["held"][k], 1 - p["held"][k].sum()], universe)
        prices = pd.Series(100.0, universe[:-1])
        began = time.perf_counter()
        policy.values_in_time_recursive(
            t=t,
            current_weights=held,
            current_portfolio_value=1e6,
            past_returns=None,
            past_volumes=None,
            current_prices=prices,
        )
        seconds[k] = time.perf_counter() - began
        weights[k] = [block.value[:-1] for block in policy._w_plus_at_lags]
    return weights, seconds


if __name__ == "__main__":
    with np.load(sys.argv[1], allow_pickle=False) as held:
        weights, seconds = answers(dict(held))
    np.savez(sys.argv[2], weights=weights, seconds=seconds)
