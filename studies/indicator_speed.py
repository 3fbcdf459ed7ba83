"""Time an indicator strategy on ten symbols, and one on one symbol in backtesting.py.

python -m studies.indicator_speed

Ours is a backtest of `examples/moving_average.py` on 10 symbols x 1,764 synthetic bars with the
beliefs built before, theirs the cross of the same averages on the first of them. Both read fills
and equity. The peer's environment is that of `studies/peers.py`.
"""

from __future__ import annotations

import pandas as pd

from forecasting.baseline import RandomWalk
from foundation.compose import compose_config
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from studies.peers import Program, followed, head, interpreter, paired, row, synthetic
from trainingdata.market import Market

SYMBOLS, BARS, PAIRS = 10, 1764, 31
WORDS = (
    *("capital=100000", "trials=null", "sizing.lookback=50"),
    "sizing._target_=examples.moving_average.moving_average",
)


def main() -> None:
    """Print both times and their ratio, the median of alternating pairs, with its quartiles."""
    python = interpreter("backtesting")
    if python is None:
        return
    settings = BacktestSettings.from_config(compose_config("backtest", WORDS))
    market = Market(synthetic(SYMBOLS, BARS))
    trader = settings.build_trader(RandomWalk()).with_beliefs(market)

    def work() -> tuple[pd.DataFrame, pd.DataFrame]:
        run = simulate_trading(settings, market, "averages", trader)
        return run.equity(), run.fill_frame()

    with Program(python, "crossing", followed(1, BARS)) as program:
        found = paired(work, program.run, PAIRS)
        versions = program.versions
    low, high = (1.0 / each for each in reversed(found.spread))
    head("ours, ms", "fills", f"{versions}, one symbol, ms", "trades", "ratio of times")
    row(
        f"{1e3 * found.ours:.0f}",
        str(len(work()[1])),
        f"{1e3 * found.peer:.1f}",
        str(found.theirs["fills"]),
        f"{1.0 / found.ratio:.1f} x ({low:.1f} to {high:.1f})",
    )


if __name__ == "__main__":
    main()
