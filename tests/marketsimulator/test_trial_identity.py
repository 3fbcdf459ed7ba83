"""One variant, one digest: however it is written, wherever it is computed, whoever runs it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marketsimulator.results.trial_identity import config_hash, data_hash, variant_settings
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import settings_of
from trainingdata.bars import Bars, build_panel
from trainingdata.market import Market

RULE = """
def half(situation):
    return situation.held * 0 + 0.5


def third(situation):
    return situation.held * 0 + 0.3
"""
FORECASTER = """
class Drift:
    name = "drift"

    def forecast(self, request):
        raise NotImplementedError
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("own_here", "own_there"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(RULE + FORECASTER)
    (tmp_path / "f.csv").write_text("one")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(market: Bars, *words: str) -> str:
    settings = settings_of(*words)
    return config_hash(variant_settings(settings, market))


SAME: list[tuple[list[str], list[str]]] = [
    (["sizing.strategy=kelly_50"], ["sizing.fraction=0.5"]),
    (["sizing.strategy=kelly_50"], ["sizing.strategy=Kelly_50pct"]),
    (["sizing.strategy=kelly_30"], ["sizing.strategy=kelly_10", "sizing.fraction=0.3"]),
    (["sizing.strategy=legacy"], ["sizing.enhanced=false"]),
    (["sizing._target_=own_here.half"], ["sizing._target_=own_there.half"]),
    (["forecaster._target_=own_here.Drift"], ["forecaster._target_=own_there.Drift"]),
    ([], ["order_tag=mine"]),
    ([], ["seed=7"]),
    ([], ["capital=100000.0"]),
    ([], ["forecaster.cache=null"]),
    ([], ["forecaster.batch_size=8"]),
    ([], ["forecaster.device=cpu", "forecaster.compile=false"]),
    ([], ["data.dir=[here]"]),
    (["data.dir=[here]"], ["data.dir=[there]", "data.feed=sip", "data.seed=3"]),
    ([], ["output=elsewhere", "start=2024-02-01", "trials=null"]),
    ([], ["timeframe=1h"]),
    (["symbols=[SYA,SYB]"], ["symbols=[SYB,SYA]"]),
]
OTHER: list[tuple[list[str], list[str]]] = [
    ([], ["sizing.fraction=0.4"]),
    ([], ["sizing.strategy=premium_50"]),
    ([], ["sizing.strategy=kelly_50_x4"]),
    ([], ["sizing.fallback=legacy"]),
    (["sizing.strategy=vol_target"], ["sizing.strategy=risk_parity"]),
    (
        ["sizing.strategy=vol_target"],
        ["sizing.strategy=vol_target", "sizing.target_volatility=0.3"],
    ),
    (["sizing._target_=own_here.half"], ["sizing._target_=own_here.third"]),
    ([], ["limits.symbol_cap=0.5"]),
    ([], ["forecaster=ewma"]),
    ([], ["forecaster.context_length=50"]),
    ([], ["forecaster.dtype=bf16"]),
    ([], ["forecaster.calibrated=false"]),
    ([], ["data.adjustment=raw"]),
    ([], ["costs.stock_slippage_bps=2"]),
]


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [*((*each, True) for each in SAME), *((*each, False) for each in OTHER)],
)
def test_only_relevant_settings_change_the_trial_identity(
    market: Bars, folder: Path, one: list[str], other: list[str], same: bool
) -> None:
    assert (of(market, *one) == of(market, *other)) is same


def test_changed_input_file_or_plugin_makes_new_trial(market: Bars, folder: Path) -> None:
    runs: tuple[list[str], ...] = (
        ["forecaster._target_=own_here.Drift"],
        ["sizing._target_=own_here.half"],
        ["forecaster=file", "forecaster.path=f.csv"],
        ["data.actions=f.csv"],
        [],
    )
    before = [of(market, *words) for words in runs]
    (folder / "f.csv").write_text("two")
    (folder / "own_here.py").write_text(RULE + FORECASTER + "# other code\n")
    after = [of(market, *words) for words in runs]
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same == [False, False, False, False, True]


def test_python_and_command_settings_give_the_same_trial(market: Bars) -> None:
    composed = settings_of()
    made = replace(BacktestSettings(capital=100_000), fees=composed.fees)
    hashes = {config_hash(variant_settings(each, market)) for each in (composed, made)}
    assert len(hashes) == 1


def test_data_hash_ignores_the_order_of_symbols(market: Bars) -> None:
    numbers = range(len(market.symbols))
    turned = build_panel(
        [(market.instruments[s], *market.bars_of_symbol(s)) for s in reversed(numbers)],
        market.source,
    )
    settings = BacktestSettings()
    assert data_hash(Market(turned)) == data_hash(Market(market)) != data_hash(Market(market, 1))
    assert variant_settings(settings, turned) == variant_settings(settings, market)
    values = market.values.copy()
    values[-1, -1, 3] += 0.01
    other = Bars(market.instruments, market.times, values, market.mask, market.source)
    assert data_hash(Market(other)) != data_hash(Market(market))
    assert np.array_equal(market.times, turned.times)
