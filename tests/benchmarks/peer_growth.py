"""Riskfolio-Lib's exact Kelly on our scenarios: `python peer_growth.py PROBLEMS.npz ANSWERS.npz`,
where it is installed.

PROBLEMS holds returns [P, N, S] and cap; ANSWERS gets weights [P, S] and seconds [P, 2], of the
wall and of the processor. Weights are long, `cap` at most, and 1 together. The estimate of moments
is not counted.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import pandas as pd
import riskfolio

warnings.filterwarnings("ignore")


def answers(p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Weights and seconds."""
    weights = []
    seconds = []
    for returns in p["returns"]:
        names = [f"S{k}" for k in range(returns.shape[1])]
        days = pd.bdate_range("2020-01-01", periods=len(returns))
        portfolio = riskfolio.Portfolio(returns=pd.DataFrame(returns, days, names))
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        portfolio.upperlng = float(p["cap"])
        began = time.perf_counter(), time.process_time()
        found = portfolio.optimization(model="Classic", rm="MV", obj="MaxRet", kelly="exact")
        seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        weights.append(found["weights"].to_numpy())
    return np.array(weights), np.array(seconds)


if __name__ == "__main__":
    with np.load(sys.argv[1], allow_pickle=False) as given:
        found_weights, found_seconds = answers(dict(given))
    np.savez(sys.argv[2], weights=found_weights, seconds=found_seconds)
