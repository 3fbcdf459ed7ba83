"""What names a forecast is computed from what made it, also while somebody writes over the
weights.
"""

# Private access: networks are cached per process, and this test counts evictions.
from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from forecasting.chronos2 import checkpoint as checkpoints
from forecasting.chronos2 import engine as engines
from forecasting.chronos2.cached_forecaster import CachedForecaster
from forecasting.chronos2.checkpoint import (
    BUNDLED_CHECKPOINT,
    WEIGHTS_FILE,
    Checkpoint,
    CheckpointContents,
    find_checkpoint,
)
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Dtype, InferenceProfile
from tools.train_checkpoint import initialise, small_model
from trainingdata.bars import Bars


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """Random weights of the shipped shape, by seed."""
    made: dict[int, bytes] = {}

    def weights(seed: int) -> bytes:
        if seed not in made:
            model = small_model()
            initialise(model, torch.Generator().manual_seed(seed))
            folder = tmp_path_factory.mktemp("other")
            model.save_pretrained(folder)
            made[seed] = (folder / WEIGHTS_FILE).read_bytes()
        return made[seed]

    return weights


def checkpoint_of(place: Path, weights: bytes) -> Path:
    place.mkdir()
    shutil.copy(BUNDLED_CHECKPOINT / "config.json", place)
    (place / WEIGHTS_FILE).write_bytes(weights)
    return place


@pytest.fixture
def folder(tmp_path: Path, others: Callable[[int], bytes]) -> Path:
    """A checkpoint that may be written over."""
    return checkpoint_of(tmp_path / "model", others(1))


@pytest.fixture(scope="module")
def truth(
    tmp_path_factory: pytest.TempPathFactory, others: Callable[[int], bytes], market: Bars
) -> dict[int, np.ndarray]:
    """What weights answer that nobody writes over, by seed."""
    place = tmp_path_factory.mktemp("truth")
    return {
        seed: answers(checkpoint_of(place / str(seed), others(seed)), market) for seed in (1, 2)
    }


def write_over(path: Path, content: bytes) -> None:
    """The same file, not another of the same name; its times as they were, as `cp --preserve`
    leaves them.
    """
    before = path.stat()
    with path.open("r+b") as stream:
        stream.write(content)
        stream.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def answers(folder: Path, market: Bars, batch_size: int | None = None) -> np.ndarray:
    return (
        Chronos2Forecaster(InferenceProfile(model=str(folder), device="cpu"), batch_size)
        .forecast(market, market.times[-20])
        .all_quantiles
    )


def test_least_recently_used_networks_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MAX_CACHED_NETWORKS", 2)
    monkeypatch.setattr(engines, "_cached_networks", OrderedDict())

    def network(dtype: Dtype, packed: bool) -> engines.LoadedNetwork:
        return engines.load_network(
            find_checkpoint(str(BUNDLED_CHECKPOINT)), torch.device("cpu"), dtype, packed=packed
        )

    first = network("fp32", packed=True)
    second = network("fp32", packed=False)
    assert network("fp32", packed=True) is first
    network("bf16", packed=False)
    assert network("fp32", packed=True) is first
    assert network("fp32", packed=False) is not second


def test_overwritten_weights_never_serve_old_forecasts(
    folder: Path,
    tmp_path: Path,
    market: Bars,
    others: Callable[[int], bytes],
    truth: dict[int, np.ndarray],
) -> None:
    cached = CachedForecaster(
        Chronos2Forecaster(InferenceProfile(model=str(folder), device="cpu")), tmp_path / "cache"
    )
    for seed in (1, 2, 1):
        write_over(folder / WEIGHTS_FILE, others(seed))
        kept = cached.forecast(market, market.times[-20]).all_quantiles
        np.testing.assert_allclose(kept, truth[seed], rtol=2e-7)
        again = CachedForecaster(
            Chronos2Forecaster(InferenceProfile(model=str(folder), device="cpu")),
            tmp_path / "cache",
        )
        np.testing.assert_array_equal(again.forecast(market, market.times[-20]).all_quantiles, kept)
    assert np.abs(truth[1] / truth[2] - 1).max() > 1e-3


def test_weights_digest_is_computed_from_the_loaded_bytes(
    folder: Path,
    market: Bars,
    others: Callable[[int], bytes],
    truth: dict[int, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is overwritten between the lookup and the load, and again after the load."""
    digests = {}
    for seed in (2, 3):  # the third file was never loaded
        write_over(folder / WEIGHTS_FILE, others(seed))
        digests[seed] = find_checkpoint(str(folder)).digest
    real = Checkpoint.read_contents

    def contents(self: Checkpoint) -> CheckpointContents:
        write_over(folder / WEIGHTS_FILE, others(2))
        read = real(self)
        write_over(folder / WEIGHTS_FILE, bytes(len(others(1))))
        return read

    monkeypatch.setattr(Checkpoint, "read_contents", contents)
    profile = InferenceProfile(model=str(folder), device="cpu")
    forecaster = Chronos2Forecaster(profile, 48)
    engine = forecaster.load_engine(profile)
    assert engine.weights_digest == digests[2]
    windows = forecaster.build_windows(market, market.times[-20])
    rows = np.arange(len(windows))
    values = forecaster.predict(windows, rows, profile, engine=engine)
    np.testing.assert_allclose(values, truth[2], rtol=2e-7)
    assert forecaster.build_specification(profile, engine)["weights"] == digests[2]


def test_overwritten_model_configuration_is_reread(folder: Path) -> None:
    before = find_checkpoint(str(folder))
    text = (folder / "config.json").read_text()
    write_over(
        folder / "config.json",
        text.replace('"context_length": 512', '"context_length": 256').encode(),
    )
    assert (before.max_context, find_checkpoint(str(folder)).max_context) == (512, 256)
    assert find_checkpoint(str(folder)).digest != find_checkpoint(str(BUNDLED_CHECKPOINT)).digest


def test_weights_digest_is_cached_until_the_file_changes(
    folder: Path, others: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_checkpoint(str(folder)).digest
    write_over(folder / WEIGHTS_FILE, others(2))
    second = find_checkpoint(str(folder)).digest
    assert first != second
    assert find_checkpoint(str(folder)).read_contents().digest == second
    hashed: list[int] = []
    real = checkpoints.files_digest
    monkeypatch.setattr(checkpoints, "files_digest", lambda f: hashed.append(len(f)) or real(f))
    monkeypatch.setattr(checkpoints, "CHANGE_TIME_RESOLUTION_SECONDS", -60.0)
    assert [find_checkpoint(str(folder)).digest for _ in range(3)] == [second] * 3
    assert hashed == [2]
    # A file just written may be written again within one tick.
    monkeypatch.setattr(checkpoints, "CHANGE_TIME_RESOLUTION_SECONDS", 60.0)
    assert [find_checkpoint(str(folder)).digest for _ in range(2)] == [second] * 2
    assert hashed == [2, 2, 2]
