"""Chronos-2 through `chronos-forecasting`, batched over all symbols and all bars of a history.

The library's own `Chronos2Model` is called on whole batches of windows: every series its own group, so a forecast does
not depend on its batch-mates, always 24 steps, always the same batch shape. Only this file and `train.py` import the library.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, Windows, silent
from trainingdata.bars import Bars
from trainingdata.errors import InputError

if TYPE_CHECKING:
    import torch
    from chronos import Chronos2Pipeline

Array = npt.NDArray[np.float64]
Array32 = npt.NDArray[np.float32]
Compile = Literal["auto"] | bool
Device = Literal["auto", "cpu", "cuda"]

SHIPPED = Path(__file__).parent / "checkpoints" / "small"
OHLC = ("open", "high", "low", "close")


@dataclass(frozen=True, eq=False, slots=True)
class OhlcForecast:
    """Joint quantiles of open, high, low and close, [H, 4, Q] USD, by step of the symbol's own bars.

    Coherent at every level: low is the smallest and high the largest of the four.
    """

    symbol: str
    values: Array32

    def quantile(self, q: float) -> pd.DataFrame:
        """A row per step (1 …) with columns open, high, low, close at level `q`, linear between the model's levels.

        Raises
        ------
        InputError
            for a level outside 0.01 … 0.99.
        """
        if not LEVELS[0] <= q <= LEVELS[-1]:
            raise InputError(f"q: {q} is outside the model's levels {LEVELS[0]} … {LEVELS[-1]}")
        upper = int(np.searchsorted(LEVELS, q))
        lower = max(upper - 1, 0) if LEVELS[upper] != q else upper
        share = 0.0 if upper == lower else (q - LEVELS[lower]) / (LEVELS[upper] - LEVELS[lower])
        at_level = self.values[..., lower] * (1 - share) + self.values[..., upper] * share
        return pd.DataFrame(at_level, columns=list(OHLC), index=pd.RangeIndex(1, len(at_level) + 1, name="step"))


@dataclass(frozen=True, eq=False, slots=True)
class Chronos2Forecaster:
    """Forecasts with a Chronos-2 checkpoint.

    model: a folder (`config.json` and `model.safetensors`) or a hub id such as `amazon/chronos-2`; the shipped small
    checkpoint by default. context_length: own bars a window holds. batch_size: windows a forward pass takes.
    device: `auto` is CUDA where there is one. compile: `torch.compile`; `auto` is on for CUDA and off on CPU, `true`
    fails when the machine cannot.
    """

    model: str | Path = SHIPPED
    context_length: int = 100
    batch_size: int = 64
    device: Device = "auto"
    compile: Compile = "auto"
    pipeline: Chronos2Pipeline = field(init=False, repr=False)
    network: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.context_length < 3:
            raise InputError(f"forecaster.context_length: {self.context_length} is below 3")
        if self.batch_size < 1:
            raise InputError(f"forecaster.batch_size: {self.batch_size} is below 1")
        pipeline = _load(str(Path(self.model).expanduser()), _device(self.device))
        limit = pipeline.model_context_length
        if self.context_length > limit:
            raise InputError(f"forecaster.context_length: {self.context_length} exceeds the model's {limit}")
        object.__setattr__(self, "pipeline", pipeline)
        object.__setattr__(self, "network", self._compiled() if self._compiles else pipeline.model)

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"chronos2 ({Path(self.model).name if Path(self.model).exists() else self.model})"

    @property
    def _compiles(self) -> bool:
        return self.pipeline.model.device.type == "cuda" if self.compile == "auto" else self.compile

    def forecast(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on, one batch after another."""
        import torch

        def answer(first: int, closes: Array) -> Array32:
            context = np.repeat(closes[-1:], self.batch_size, axis=0).astype(np.float32)
            context[: len(closes)] = closes
            return self._quantiles(context)[: len(closes)]

        windows = Windows.of(bars, since, self.context_length)
        with torch.inference_mode():
            return ForecastTable.of(self.name, bars, windows, answer, batch=self.batch_size, progress=progress)

    def predict_ohlc(
        self, context_df: pd.DataFrame, symbol: str, prediction_length: int = 1, context_length: int | None = None
    ) -> OhlcForecast:
        """Forecast open, high, low and close jointly (one attention group) for 1 … 24 steps.

        The last `context_length` rows of `context_df` are the context; the rows are one symbol's bars in time order with
        columns open, high, low, close. All 24 steps are computed, because what is asked for changes what step 1
        answers. Incoherent quantiles are mended by taking low and high over all four series at each level.
        """
        import torch

        if not 1 <= prediction_length <= HORIZON:
            raise InputError(f"prediction_length: {prediction_length} is outside 1 … {HORIZON}")
        frame = context_df.rename(columns=lambda c: str(c).lower())
        missing = [c for c in OHLC if c not in frame.columns]
        if missing:
            raise InputError(f"context_df of {symbol}: column {missing[0]!r} is missing")
        length = self.context_length if context_length is None else context_length
        if not 3 <= length <= self.pipeline.model_context_length:
            raise InputError(f"context_length: {length} is outside 3 … {self.pipeline.model_context_length}")
        if len(frame) < length:
            raise InputError(f"context_df of {symbol}: {len(frame)} bars, {length} are needed")
        context = frame[list(OHLC)].to_numpy(dtype=np.float32)[-length:].T
        if not np.isfinite(context).all():
            raise InputError(f"context_df of {symbol}: a price is not a number")
        with torch.inference_mode():
            joint = self._quantiles(np.ascontiguousarray(context), grouped=True)  # [4, H, Q]
        low, high = joint.min(axis=0), joint.max(axis=0)
        joint[OHLC.index("low")], joint[OHLC.index("high")] = low, high
        return OhlcForecast(symbol, joint.transpose(1, 0, 2)[:prediction_length])

    def _quantiles(self, context: Array32, *, grouped: bool = False) -> Array32:
        """Sorted quantiles [B, H, Q] of contexts [B, L]; one group for all rows, or each its own."""
        import torch

        model = self.pipeline.model
        rows = torch.from_numpy(context).to(model.device)
        groups = torch.zeros(len(context), dtype=torch.long) if grouped else torch.arange(len(context))
        network = model if grouped else self.network
        answer: torch.Tensor = network(
            context=rows, group_ids=groups.to(model.device), num_output_patches=self._patches
        ).quantile_preds
        chosen = answer[:, self._level_rows, :HORIZON].float().sort(dim=1).values
        return np.asarray(chosen.transpose(1, 2).cpu().numpy())

    @property
    def _patches(self) -> int:
        return math.ceil(HORIZON / int(self.pipeline.model_output_patch_size))

    @property
    def _level_rows(self) -> list[int]:
        levels = [round(float(q), 4) for q in self.pipeline.quantiles]
        missing = [q for q in LEVELS if q not in levels]
        if missing:
            raise InputError(f"forecaster.model: {self.model} does not forecast level {missing[0]}")
        return [levels.index(q) for q in LEVELS]

    def _compiled(self) -> Callable[..., Any]:
        """The compiled network, after one batch has gone through it."""
        import torch

        model = self.pipeline.model
        probe = torch.linspace(1, 2, self.context_length, device=model.device).repeat(self.batch_size, 1)
        groups = torch.arange(self.batch_size, device=model.device)
        try:
            network: Callable[..., Any] = torch.compile(model, dynamic=False)
            with torch.inference_mode():
                network(context=probe, group_ids=groups, num_output_patches=self._patches)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"forecaster.compile={str(self.compile).lower()}: torch.compile failed: {reason}; set it to false"
            ) from error
        return network


def _device(wanted: Device) -> str:
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("forecaster.device: cuda was asked for and this machine has none; use cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def _load(model: str, device: str) -> Chronos2Pipeline:
    """The checkpoint, from safetensors only."""
    from chronos import Chronos2Pipeline
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("chronos").setLevel(logging.WARNING)
    if (model.startswith((".", "/", "~")) or model.count("/") != 1) and not Path(model).is_dir():
        raise InputError(f"forecaster.model: {model} is no folder and no hub id")
    try:
        return Chronos2Pipeline.from_pretrained(model, device_map=device, use_safetensors=True)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"forecaster.model: {model} cannot be loaded as Chronos-2: {reason}") from error
