"""Settings of Chronos-2 forecasts, and per-symbol overrides in JSON files, validated by a schema.

The files are `configs/preaugstrategies/chronos2/hourly/{symbol}.json` by default; a symbol without
a file has the configured settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forecasting.chronos2.augmentation import Augmentation
from foundation.errors import DataError, InputError, invalid_choice_error, unknown_key_error
from foundation.settings import setting, settings_class, settings_error

Device = str  # `auto`, `cpu`, `cuda` or `cuda:N`: see `DEVICE_PATTERN`
Dtype = Literal["fp32", "tf32", "bf16"]
CompileMode = Literal["auto"] | bool

# Number of windows from which a compilation pays off; the first one on a machine takes five
# seconds. In fp32 on an H200 it pays off within 0.8 million windows for the checkpoint of 120 M
# parameters (26,400 against 22,700 windows a second), and within 13 million for the shipped
# checkpoint, which is fast without it.
MIN_WINDOWS_TO_COMPILE = 1_000_000
DEVICE_PATTERN = r"^(auto|cpu|cuda(:(0|[1-9][0-9]?))?)$"


@settings_class("forecaster")
class InferenceProfile:
    """Settings on which a forecast depends, besides the bars.

    A model is a folder (`config.json` and safetensors) or a hub id such as `amazon/chronos-2`;
    `@REVISION` pins the hub's version. For compilation, `auto` compiles on CUDA and falls back to
    the uncompiled network if that fails, and `true` makes a failure an error.
    """

    model: str | None = setting(
        None, "checkpoint of Chronos-2, a folder or hub id; null: the included one"
    )
    context_length: int = setting(100, "number of a symbol's past bars in a forecast", ge=3)
    augmentation: Augmentation = setting(
        "none", "transformation of the context before the model reads it"
    )
    device: Device = setting(
        "auto", "auto (CUDA if available), cpu, cuda, or cuda:N for one of several GPUs"
    )
    dtype: Dtype = setting(
        "fp32",
        "precision of matrix products: fp32; only on CUDA: tf32 (10 of 23 mantissa bits) and bf16 "
        "(7 bits)",
    )
    compile: CompileMode = setting(
        "auto",
        "use torch.compile; auto: on CUDA, from 1,000,000 windows on, with tf32 and bf16 always, "
        "and continue without it if it fails; true: fail instead",
    )

    def __post_init__(self) -> None:
        # Only the form is checked here, not whether the device exists.
        if not re.fullmatch(DEVICE_PATTERN, self.device):
            raise invalid_choice_error(
                "forecaster.device",
                self.device,
                ("auto", "cpu", "cuda"),
                other_accepted_values="cuda:N with the number N of a GPU, such as cuda:1",
            )
        if self.device == "cpu":
            check_cpu_dtype(self.dtype)

    def for_window_count(self, windows: int) -> InferenceProfile:
        """Return the profile to use for a job that forecasts this many windows.

        With `compile=auto`, a small job in fp32 is not compiled. This changes forecasts by rounding
        only. In tf32 and bf16 all jobs use the same computation, because it is part of the
        specification under which forecasts are cached.
        """
        few = windows < MIN_WINDOWS_TO_COMPILE and self.dtype == "fp32" and self.compile == "auto"
        return replace(self, compile=False) if few else self


class SymbolSettings(BaseModel):
    """Settings of one symbol that override the configured ones; None keeps the configured one.

    context_length: number of the symbol's bars in a window, 3 … 8192.
    prediction_length: default number of steps of `predict_ohlc`, 1 … 24.
    augmentation: transform of the window for the model.
    model: checkpoint folder or Hugging Face hub id.
    device: auto, cpu, cuda or cuda:N.
    dtype: fp32, tf32 or bf16.
    compile: auto, true or false.
    """

    # A malformed file is an error that names the field: no value is converted or ignored.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    context_length: Annotated[int, Field(ge=3, le=8192)] | None = None
    prediction_length: Annotated[int, Field(ge=1, le=24)] | None = None
    augmentation: Augmentation | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    device: Annotated[Device, Field(pattern=DEVICE_PATTERN)] | None = None
    dtype: Dtype | None = None
    compile: CompileMode | None = None

    def apply_to(self, profile: InferenceProfile) -> InferenceProfile:
        """Return a copy of a profile with this symbol's settings applied."""
        changes = self.model_dump(exclude_none=True, exclude={"prediction_length"})
        return replace(profile, **changes)


def check_whole_number(name: str, value: object, low: int, high: int) -> int:
    """Return the value as an int if it is a whole number in low … high.

    Raises InputError otherwise.

    name: name of the setting or argument, used in the message.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if low <= number <= high:
            return number
    raise InputError(f"{name}: {value!r} is not a whole number from {low} to {high}")


def check_cpu_dtype(dtype: Dtype) -> None:
    """Raise InputError for a precision that is supported only on CUDA."""
    if dtype != "fp32":
        raise InputError(
            f"forecaster.dtype: {dtype} is supported only on CUDA, but the device is a CPU; set it"
            " to fp32"
        )


def read_symbol_settings(folder: Path, symbols: Iterable[str]) -> dict[str, SymbolSettings]:
    """Read per-symbol settings from a folder; symbols without a file are skipped.

    Raises DataError for an invalid file.
    """
    settings = {}
    for symbol in symbols:
        path = folder / f"{symbol}.json"
        if path.exists():
            settings[symbol] = _read(path)
    return settings


def _read(path: Path) -> SymbolSettings:
    try:
        return SymbolSettings.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "json_invalid":
            reason = f"the file is not valid JSON: {problem['ctx']['error']}"
        elif problem["type"] == "extra_forbidden":
            reason = str(unknown_key_error(str(problem["loc"][0]), SymbolSettings.model_fields))
        else:
            reason = str(settings_error(error, SymbolSettings))
        raise DataError(f"{path}: {reason}") from error


@settings_class("ray")
class RaySettings:
    """Settings of the Ray cluster that runs the tasks, and of the resources of each task."""

    address: str | None = setting(
        None,
        "`host:port` of an existing Ray cluster, or `auto`; null: start Ray on this machine for "
        "this command only",
    )
    cores: int = setting(1, "processor cores per task", ge=1, le=1024)
    gpus: int = setting(1, "GPUs per task if the cluster has GPUs; 0: none", ge=0, le=64)

    def __post_init__(self) -> None:
        if self.address is not None and self.address != "auto":
            host, _, port = self.address.rpartition(":")
            if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise InputError(
                    f"ray.address: {self.address!r} is neither host:port of a Ray head node nor"
                    " auto; write one of them, and run the command on a machine of the cluster"
                )
