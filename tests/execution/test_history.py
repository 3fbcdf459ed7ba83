"""What the live entry point says: of a history what is not there, of an hour that orders nothing a
line.
"""

from __future__ import annotations

import pytest

from execution.live.settings import LiveSettings
from foundation.compose import composed_config
from foundation.errors import InputError
from trainingdata.instruments import instrument


@pytest.mark.parametrize(("name", "symbols"), [("1d", "[AAPL,BTCUSD]"), ("1h", "[AAPL,BTCUSD]")])
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
