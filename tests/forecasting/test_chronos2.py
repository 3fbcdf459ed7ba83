from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from forecasting.chronos2 import engine as engines
from forecasting.chronos2.augmentation import AUGMENTATIONS
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile, SymbolSettings
from forecasting.forecast import HORIZON, LEVELS
from foundation.errors import InputError
from tests.support.latest import latest
from tests.support.library_pipeline import load_library_pipeline
from tests.support.messages import refused
from tools.synthetic_prior import sample_ohlc, sample_paths
from tools.train_checkpoint import draw_batch, pinball, small_model, train
from trainingdata.bars import OHLCV_FIELDS, Bars


@pytest.fixture(scope="module")
def shipped() -> Chronos2Forecaster:
    return Chronos2Forecaster()


def test_batched_forecasts_match_the_chronos_library_pipeline(market: Bars) -> None:
    """`test_network` compares other weights."""
    table = Chronos2Forecaster(batch_size=32).forecast(market, market.times[-60])
    contexts = table.windows.contexts(np.arange(len(table.windows)))
    inputs = [torch.tensor(each, dtype=torch.float32) for each in contexts]
    quantiles, _ = load_library_pipeline().predict_quantiles(
        inputs, prediction_length=HORIZON, quantile_levels=list(LEVELS)
    )
    expected = np.sort(np.stack([each[0].numpy() for each in quantiles]), axis=-1)
    difference = np.abs(table.all_quantiles - expected).max(axis=(1, 2)) / contexts.std(axis=1)
    assert difference.max() < 1e-4


def test_windows_of_all_symbols_share_full_batches(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is never called per symbol or per bar."""
    shapes: list[tuple[int, ...]] = []
    real = engines.load_engine

    def counting(*arguments: Any) -> engines.Engine:
        inner = real(*arguments)

        def counted(context: torch.Tensor, **options: Any) -> torch.Tensor:
            shapes.append(tuple(context.shape))
            return inner.network(context, **options)

        return engines.Engine(counted, inner.device, inner.batch_size, inner.weights_digest)

    monkeypatch.setattr(engines, "load_engine", counting)
    table = Chronos2Forecaster(batch_size=64).forecast(market, market.times[-100])
    assert shapes == [(64, 100)] * -(-len(table.windows) // 64)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_median_of_augmented_forecast_stays_near_the_price(augmentation: Any, market: Bars) -> None:
    table = Chronos2Forecaster(InferenceProfile(augmentation=augmentation)).forecast(
        market, market.times[-40]
    )
    assert (np.abs(table.all_quantiles[:, 0, LEVELS.index(0.5)] / table.price - 1) < 0.05).all()


def test_symbol_settings_apply_only_to_that_symbol(market: Bars) -> None:
    own = {"SYB": SymbolSettings(context_length=64, augmentation="log")}
    mixed = Chronos2Forecaster(symbol_settings=own).forecast(market, market.times[-50])
    plain = Chronos2Forecaster().forecast(market, market.times[-50])
    alone = Chronos2Forecaster(InferenceProfile(context_length=64, augmentation="log")).forecast(
        market, market.times[-50]
    )
    for s, symbol in enumerate(market.symbols):
        expected = latest(alone if symbol == "SYB" else plain, market.last_instant).values[s]
        np.testing.assert_allclose(
            latest(mixed, market.last_instant).values[s], expected, rtol=2e-7
        )


def ohlc(market: Bars, symbol: str) -> pd.DataFrame:
    return pd.DataFrame(
        market.bars_of_symbol(market.symbols.index(symbol))[1], columns=list(OHLCV_FIELDS)
    )


def test_predict_ohlc_quantiles_are_monotone_and_ohlc_consistent(
    shipped: Chronos2Forecaster, market: Bars
) -> None:
    forecast = shipped.predict_ohlc(
        ohlc(market, "SYXUSD"), "SYXUSD", prediction_length=7, context_length=100
    )
    for q in (0.01, 0.1, 0.37, 0.5, 0.99):
        rows = forecast.quantile(q)
        assert list(rows.columns) == ["open", "high", "low", "close"]
        assert list(rows.index) == [1, 2, 3, 4, 5, 6, 7]
        assert (rows["low"] <= rows[["open", "close"]].min(axis=1)).all()
        assert (rows["high"] >= rows[["open", "close"]].max(axis=1)).all()
    assert (forecast.quantile(0.9) >= forecast.quantile(0.1)).all().all()
    between = forecast.quantile(0.625)
    np.testing.assert_allclose(
        between, (forecast.quantile(0.6) + forecast.quantile(0.65)) / 2, rtol=1e-6
    )


def test_predict_ohlc_returns_unadjusted_model_output_on_request(
    shipped: Chronos2Forecaster, market: Bars
) -> None:
    frame = ohlc(market, "SYXUSD")
    ours, own = (
        shipped.predict_ohlc(frame, "SYXUSD", 24, 100, coherent=coherent).quantiles
        for coherent in (True, False)
    )
    np.testing.assert_array_equal(ours[:, [0, 3]], own[:, [0, 3]])
    np.testing.assert_array_equal(ours[:, 1], own.max(axis=1))
    np.testing.assert_array_equal(ours[:, 2], own.min(axis=1))
    assert not np.array_equal(ours, own)


def test_first_forecast_step_is_independent_of_horizon(
    shipped: Chronos2Forecaster, market: Bars
) -> None:
    frame = ohlc(market, "SYA")
    one, many = (shipped.predict_ohlc(frame, "SYA", n, 64).quantile(0.5).iloc[0] for n in (1, 24))
    assert one.equals(many)


def test_predict_ohlc_refuses_invalid_input_naming_the_field(
    shipped: Chronos2Forecaster, market: Bars
) -> None:
    frame = ohlc(market, "SYA").tail(110).reset_index(drop=True)
    wrong = frame.copy()
    wrong.loc[12, ["open", "high", "low", "close"]] = 9.0, 8.0, 7.0, 8.0
    missing = frame.copy()
    missing.loc[12, "close"] = np.nan
    for given, arguments, facts in (
        (frame, {"prediction_length": 25}, ("prediction_length", "25")),
        (frame, {"prediction_length": 2.5}, ("prediction_length", "2.5")),
        (frame, {"context_length": 2}, ("context_length", "2")),
        (frame.drop(columns="low"), {}, ("context_df", "SYA", "'low'")),
        (frame.head(20), {}, ("context_df", "SYA", "20", "100")),
        (wrong, {}, ("context_df", "SYA", "row 3", "open 9", "high 8")),
        (missing, {}, ("context_df", "SYA", "price")),
    ):
        with refused(InputError, *facts):
            shipped.predict_ohlc(given, "SYA", **arguments)  # type: ignore[arg-type]
    shipped.predict_ohlc(wrong, "SYA", context_length=97)


@pytest.mark.parametrize("place", ["index", "column", "text"])
def test_predict_ohlc_refuses_rows_in_descending_time_order(
    shipped: Chronos2Forecaster, market: Bars, place: str
) -> None:
    frame = ohlc(market, "SYA").tail(100).reset_index(drop=True)
    stamps = pd.date_range("2024-03-01", periods=100, freq="h")
    if place == "index":
        frame.index = stamps
    else:
        frame["Timestamp"] = stamps if place == "column" else stamps.astype(str)
    shipped.predict_ohlc(frame, "SYA")
    with refused(InputError, "context_df", "SYA"):
        shipped.predict_ohlc(frame[::-1], "SYA")


def test_predict_ohlc_accepts_the_repeated_daylight_saving_hour(
    shipped: Chronos2Forecaster, market: Bars
) -> None:
    frame = ohlc(market, "SYA").tail(100)
    stamps = pd.date_range("2024-11-03", periods=100, freq="5min", tz="America/New_York")
    shipped.predict_ohlc(frame.set_index(stamps.tz_localize(None)), "SYA")
    shipped.predict_ohlc(frame.set_index(stamps), "SYA")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"model": "/nowhere/at/all"}, ()),
        ({"dtype": "fp8"}, ("dtype", "'fp8'", "fp32", "tf32", "bf16")),
        ({"device": "cuda"}, ()),
        ({"device": "cuda:-1"}, ("'cuda:-1'",)),
        ({"device": "cpu", "dtype": "tf32"}, ("dtype", "tf32", "CUDA")),
        ({"device": "cpu", "dtype": "bf16"}, ("dtype", "bf16", "CUDA")),
        ({"context_length": 4000}, ()),
        ({"batch_size": 0}, ("batch_size",)),
    ],
)
def test_invalid_forecaster_setting_is_named_in_the_error(
    arguments: dict[str, Any], facts: tuple[str, ...]
) -> None:
    if arguments.get("device", "").startswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with refused(InputError, *facts, varies=r"\(.*\)"):
        Chronos2Forecaster(batch_size=0) if "batch_size" in arguments else Chronos2Forecaster(
            InferenceProfile(**arguments)
        )


def test_invalid_checkpoint_is_named_and_pickles_are_refused(tmp_path: Path, market: Bars) -> None:
    """Weights come from safetensors or not at all."""
    with refused(InputError, "Chronos-2", varies="Error while .*"):
        Chronos2Forecaster(InferenceProfile(model=str(tmp_path)))
    (tmp_path / "config.json").write_text((BUNDLED_CHECKPOINT / "config.json").read_text())
    torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with refused(InputError, "Chronos-2", varies="Error while .*"):
        Chronos2Forecaster(InferenceProfile(model=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with refused(InputError, "Chronos-2", varies="Error while .*"):
        Chronos2Forecaster(InferenceProfile(model=str(tmp_path))).forecast(market, market.times[-1])


def test_checkpoint_with_too_short_output_horizon_is_refused(tmp_path: Path) -> None:
    model = small_model()
    model.config.chronos_config["max_output_patches"] = 2
    model.save_pretrained(tmp_path)
    with refused(InputError, "forecaster.model", "24"):
        Chronos2Forecaster(InferenceProfile(model=str(tmp_path)))


@pytest.mark.slow
def test_compiled_network_matches_the_eager_network(
    shipped: Chronos2Forecaster, market: Bars
) -> None:
    since = market.times[-100]
    compiled = Chronos2Forecaster(InferenceProfile(compile=True)).forecast(market, since)
    eager = shipped.forecast(market, since)
    spread = eager.all_quantiles[..., -1] - eager.all_quantiles[..., 0]
    assert (np.abs(compiled.all_quantiles - eager.all_quantiles).max(axis=-1) / spread).max() < 1e-3


def test_bundled_checkpoint_documents_its_training_data_and_seed() -> None:
    card = json.loads((BUNDLED_CHECKPOINT / "training.json").read_text())
    assert "synthetic" in card["data"]
    assert card["seed"] == 0
    losses = [loss for _, loss in card["loss"]]
    assert losses[-1] < 0.65 * losses[0]
    assert not list(BUNDLED_CHECKPOINT.glob("*.bin"))


def test_synthetic_training_paths_are_reproducible_and_finite() -> None:
    a, b = (sample_paths(np.random.default_rng(4), 32, 100, 24, 4) for _ in range(2))
    np.testing.assert_array_equal(a.futures, b.futures)
    assert np.isfinite(a.context).all()
    assert np.isfinite(a.futures).all()
    assert (a.context[:, -1] == 0).all()
    bars = sample_ohlc(np.random.default_rng(4), 8, 64, 24, 4)
    open_, high, low, close = bars.futures.reshape(8, 4, 4, 24).transpose(1, 0, 2, 3)
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()


def test_pinball_loss_matches_hand_calculation() -> None:
    """One future a unit above every quantile: the loss at each level is that level, 0.5 on
    average.
    """
    quantiles = torch.zeros(1, len(LEVELS), 1)
    futures = torch.ones(1, 1, 1)
    assert float(pinball(quantiles, futures, torch.ones(1))) == pytest.approx(0.5)


@pytest.mark.slow
def test_training_writes_a_checkpoint_that_loads(tmp_path: Path, market: Bars) -> None:
    train(tmp_path, steps=2, seed=1, batch=16)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 2
    table = Chronos2Forecaster(InferenceProfile(model=str(tmp_path))).forecast(
        market, market.times[-2]
    )
    assert np.isfinite(table.all_quantiles).all()
    context, futures, unit, groups = draw_batch(np.random.default_rng(0), 16)
    assert context.shape[0] == futures.shape[0] == unit.shape[0] == groups.shape[0]
