"""The fast path's arithmetic against the library's own model, series by series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from forecasting.chronos2 import network as networks
from forecasting.chronos2.augmentation import AUGMENTATIONS, apply_augmentation, undo_augmentation
from forecasting.chronos2.network import Network
from forecasting.forecast import HORIZON, LEVELS
from tests.support.library_pipeline import load_library_pipeline
from tools.train_checkpoint import initialise, small_model

CPU = torch.device("cpu")


def library_model(name: str) -> Any:
    if name == "shipped":
        return load_library_pipeline().model
    model = small_model()
    initialise(model, torch.Generator().manual_seed(11))
    return model.eval()


@pytest.fixture(scope="module", params=["shipped", "random"])
def both(request: pytest.FixtureRequest) -> tuple[Any, Network]:
    model = library_model(request.param)
    return model, Network(model, HORIZON, range(len(LEVELS)), "fp32", CPU, packed=True).eval()


def expected(model: Any, context: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    answer = model(
        context=context, group_ids=groups, num_output_patches=HORIZON // 8
    ).quantile_preds
    return answer.mT.sort(dim=-1).values


def contexts(seed: int, rows: int, length: int) -> torch.Tensor:
    """Random walks, every kind of trouble among them: constant, huge, tiny."""
    generator = torch.Generator().manual_seed(seed)
    x = 100 * torch.exp(0.01 * torch.cumsum(torch.randn(rows, length, generator=generator), dim=1))
    x[3] = 7.25
    x[4] *= 1e9
    x[5] *= 1e-9
    return x


def largest(ours: torch.Tensor, theirs: torch.Tensor, context: torch.Tensor) -> float:
    """Largest difference in units of each series' standard deviation."""
    deviation = np.nanstd(context.numpy().astype(np.float64), axis=1)
    unit = np.where(deviation > 0, deviation, 1e-5 + np.nanmax(np.abs(context.numpy()), axis=1))
    return float((np.abs((ours - theirs).numpy()).max(axis=(1, 2)) / unit).max())


@pytest.mark.parametrize("length", [3, 57, 100, 104, 300])
def test_network_matches_the_library_for_every_series_kind(
    both: tuple[Any, Network], length: int
) -> None:
    model, network = both
    context = contexts(length, 32, max(length, 32))[:, -length:]
    with torch.inference_mode():
        difference = largest(
            network(context), expected(model, context, torch.arange(len(context))), context
        )
    assert difference < 1e-4


@pytest.mark.parametrize("group", [2, 4, 8])
def test_group_attention_matches_the_library(both: tuple[Any, Network], group: int) -> None:
    model, network = both
    context = contexts(group, 32, 100)
    with torch.inference_mode():
        theirs = expected(model, context, torch.arange(32) // group)
        difference = largest(network(context, group=group), theirs, context)
        alone = largest(network(context), theirs, context)
    assert difference < 1e-4
    assert alone > 1e-3


def test_attention_beyond_the_grid_limit_is_split(
    both: tuple[Any, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, network = both
    context = contexts(7, 16, 100)
    with torch.inference_mode():
        whole = [network(context, group=group) for group in (1, 4)]
        real = functional.scaled_dot_product_attention
        sizes = []

        def noted(q: torch.Tensor, *rest: Any, **how: Any) -> torch.Tensor:
            sizes.append(len(q) * q.shape[1])
            return real(q, *rest, **how)

        monkeypatch.setattr(functional, "scaled_dot_product_attention", noted)
        monkeypatch.setattr(networks, "MAX_GRID_BLOCKS", 23)
        for group, expected_answer in zip((1, 4), whole, strict=True):
            torch.testing.assert_close(
                network(context, group=group), expected_answer, rtol=2e-6, atol=0
            )
    assert 4 < max(sizes) <= 23


def test_packed_and_unpacked_weights_give_equal_forecasts() -> None:
    """Packed weights are used under `torch.compile` and on CUDA."""
    model = library_model("shipped")
    packed, plain = (
        Network(model, HORIZON, range(len(LEVELS)), "fp32", CPU, packed=p) for p in (True, False)
    )
    context = contexts(3, 32, 100)[8:]
    with torch.inference_mode():
        assert largest(packed(context), plain(context), context) < 1e-4


def test_network_returns_requested_quantile_levels_in_order() -> None:
    model = library_model("shipped")
    whole = Network(model, HORIZON, range(len(LEVELS)), "fp32", CPU, packed=True)
    part = Network(model, HORIZON, [2, 10, 18], "fp32", CPU, packed=True)
    context = contexts(5, 16, 100)[8:]
    with torch.inference_mode():
        torch.testing.assert_close(
            part(context), whole(context)[..., [2, 10, 18]], rtol=1e-6, atol=0
        )


@given(
    seed=st.integers(0, 2**16),
    length=st.integers(3, 120),
    scale=st.floats(-12, 12),
    noise=st.floats(1e-4, 0.2),
    kind=st.sampled_from(AUGMENTATIONS),
)
def test_every_augmentation_is_undone_exactly(
    seed: int, length: int, scale: float, noise: float, kind: Any
) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(3, length, generator=generator, dtype=torch.float64)
    closes = 10.0**scale * torch.exp(noise * torch.cumsum(steps, dim=1).clamp(-20, 20))
    values, trend = apply_augmentation(closes, kind)
    back = undo_augmentation(values[..., None], kind, trend, 0)[..., 0]
    torch.testing.assert_close(back, closes, rtol=1e-9, atol=1e-12 * float(closes.max()))


@given(seed=st.integers(0, 2**16), kind=st.sampled_from(AUGMENTATIONS))
def test_undoing_augmentation_preserves_quantile_order(seed: int, kind: Any) -> None:
    generator = torch.Generator().manual_seed(seed)
    closes = 100 * torch.exp(
        0.02 * torch.cumsum(torch.randn(2, 50, generator=generator, dtype=torch.float64), dim=1)
    )
    _, trend = apply_augmentation(closes, kind)
    values = torch.randn(2, 24, 21, generator=generator, dtype=torch.float64).sort(dim=-1).values
    assert (undo_augmentation(values, kind, trend, 50).diff(dim=-1) >= 0).all()


def test_detrended_forecast_continues_the_trend() -> None:
    closes = (50 + 0.5 * torch.arange(40, dtype=torch.float64)).repeat(2, 1)
    values, trend = apply_augmentation(closes, "detrend")
    assert values.abs().max() < 1e-9
    ahead = undo_augmentation(torch.zeros(2, 24, 1, dtype=torch.float64), "detrend", trend, 40)[
        ..., 0
    ]
    torch.testing.assert_close(ahead[0], 50 + 0.5 * torch.arange(40, 64, dtype=torch.float64))
