from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from foundation.compose import compose_config
from marketsimulator.backtest import run_backtest
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.accountant import Records, audit


@pytest.mark.parametrize(
    "words",
    [
        ("symbols=[NVDA,AAPL,BTCUSD]", "forecaster=ewma"),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ("symbols=[NVDA,META,ETHUSD]", "forecaster=oracle", "margin.borrow_rate=0.05"),
                ("symbols=[BTCUSD,SOLUSD]", "prior.crypto_sharpe=2", "capital=30000000"),
                (
                    *("symbols=[NVDA,AAPL,BTCUSD]", "forecaster=oracle", "capital=300000"),
                    *("limits.overnight_leverage=4", "costs.stock_impact=0.7"),
                    *("fills.volume_share=0.0001", "fills.remainder=carry"),
                ),
            )
        ),
    ],
    ids=["mixed", "short", "coins", "called"],
)
def test_backtest_on_real_bars_passes_ledger_audit(
    words: tuple[str, ...], real_data: list[Path]
) -> None:
    where = f"data.dir=[{','.join(map(str, real_data))}]", "forecaster.calibrated=false"
    span = "start=2024-05-20", "end=2024-06-28"
    settings = BacktestSettings.from_config(compose_config("backtest", [*where, *span, *words]))
    results = run_backtest(settings)
    assert len(results.main_run.fills) > 10
    records = Records.of(asdict(settings), results.market.bars, results.main_run)
    assert str(audit(records)) == "0 differences"
