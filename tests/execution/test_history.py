"""What the live entry point says: of a history what is not there, of an hour that orders nothing a
line.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from execution.decision import Choice, Decision
from execution.live.cycle import Cycle
from execution.live.settings import LiveSettings
from execution.orders import Account
from foundation.compose import composed_config
from foundation.errors import InputError
from trade_stock_e2e import history_lines, show, show_briefly
from trainingdata.bars import Bars, closes_of
from trainingdata.instruments import instrument
from trainingdata.synthetic import SyntheticMarket

ASKED = np.datetime64("2024-01-01T00:00", "ns")


def bars(start: str) -> Bars:
    symbols = ("SYA", "SYB", "SYXUSD")
    return SyntheticMarket(start=start, end="2024-01-31", symbols=symbols).bars()


def test_what_of_a_history_is_not_there_is_said() -> None:
    panel = bars("2024-01-02")
    count = len(panel.real_bars(0)[0])
    assert history_lines(panel, ASKED, count) == []
    late = history_lines(bars("2024-01-10"), ASKED, 50)
    assert [line.split(", later than")[0] for line in late] == [
        "The bars of SYXUSD begin at 2024-01-10T05:00Z",
        "The bars of SYA, SYB begin at 2024-01-10T14:30Z",
    ]
    assert all("history_days asks for (2024-01-01T00:00Z)." in line for line in late)
    few = f"has {count} bars, fewer than the {count + 1} that a forecast sees"
    short = history_lines(panel, ASKED, count + 1)
    assert [line.split(" (")[0] for line in short] == [
        f"{symbol} {few}" for symbol in ("SYA", "SYB")
    ]
    mask = panel.mask.copy()
    mask[1] = False
    without = Bars(panel.instruments, panel.times, panel.values, mask, panel.source)
    assert history_lines(without, ASKED, 10) == ["SYB has no bars: nothing is forecast of it."]


@pytest.mark.parametrize(
    ("name", "symbols"),
    [("1d", "[AAPL,BTCUSD]"), ("1h", "[AAPL]"), ("1h", "[BTCUSD]"), ("5m", "[AAPL,BTCUSD]")],
)
def test_a_live_history_holds_every_bar_that_calibration_learns_from(
    name: str, symbols: str
) -> None:
    """Otherwise a live decision is another than that of a backtest over files that reach back."""
    words = [f"timeframe={name}", f"symbols={symbols}"]
    settings = LiveSettings.of(composed_config("live", words))
    forecaster = settings.forecaster
    own = forecaster.context_length + forecaster.calibration.window
    kinds = {instrument(symbol).kind for symbol in settings.symbols}
    years = settings.days_of_history / 366
    assert all(settings.named_timeframe.clock(kind).bars_a_year * years >= own for kind in kinds)
    assert name == "1d" or settings.days_of_history == 730
    stated = LiveSettings.of(composed_config("live", [*words, "history_days=90"]))
    assert stated.days_of_history == 90


def test_a_guard_that_would_cut_a_plan_of_all_symbols_is_refused_before_anything_is_sent() -> None:
    names = f"symbols=[{','.join('AB' + first + last for first in 'CDE' for last in 'FGH')}]"
    few = [names, "guards.max_orders_per_hour=8"]
    with pytest.raises(InputError, match="8 orders are fewer than the 9 symbols"):
        LiveSettings.of(composed_config("live", few))
    LiveSettings.of(composed_config("live", [names, "guards.max_orders_per_hour=9"]))


def test_an_idle_hour_is_one_line_and_a_preview_of_it_is_the_table(
    market: Bars, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(1000.0, {}, closes_of(market), market.now)
    choice = Choice(
        *("SYXUSD", 0.0, 0.01, 0.0, 0.0, 0.0, Decimal(0), 1.0), binding={"cost": 0.0}, cost=0.003
    )
    until = market.now + np.timedelta64(1, "h")
    decision = Decision(market.now, until, 1000.0, 4.0, (choice,), ())
    cycle = Cycle(account, market, decision, ())
    show_briefly(cycle)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("Z: equity $1,000.00, no order of SYXUSD (cost).")
    show(cycle)
    assert len(capsys.readouterr().out.splitlines()) > 5
