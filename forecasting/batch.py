"""Forecast every symbol at every bar of a history, through the cache.

    python -m forecasting.batch 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [output=FILE.parquet] [key=value …]

Without `output` the cache is filled and nothing else. The file has a row a symbol, instant, step
and level: symbol, issued_at, step, target_at (when that bar of its own becomes known), level, value
(USD); by instant and symbol, levels rising; in the metadata the name of the forecaster. It is
written whole or not at all.

With launcher=ray (pip install -e '.[ray]') tasks on the machines of a Ray cluster,
ray.address=HOST:PORT, compute what the cache lacks: one a GPU, or one for ray.cores cores.
"""

from __future__ import annotations

from foundation.cli import start

if __name__ == "__main__":
    start("forecasting.batch")

import logging
import time
from pathlib import Path
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from forecasting.batch_file import Batch, is_batch, write_batch
from forecasting.chronos2.cached import CachedForecaster, predictions_here
from forecasting.chronos2.on_ray import RayPredictions, RaySettings
from forecasting.forecast import Progress, silent
from forecasting.from_file import ENDING
from forecasting.settings import PanelSettings
from forecasting.windows import Windows
from foundation.cli import Result
from foundation.errors import InputError
from foundation.figures import counted
from foundation.files import check_file, may_overwrite, refuse_among_bars
from foundation.settings import setting, settings_class, settings_of
from trainingdata.coverage import coverage_parts
from trainingdata.instants import utc_text
from trainingdata.source import span_of

log = logging.getLogger("forecasting")

Launcher = Literal["local", "ray"]


@settings_class()
class BatchSettings(PanelSettings):
    """What is forecast, from which bars and by what."""

    output: str | None = setting(None, "Parquet file; none: the cache alone")
    launcher: Launcher = setting(
        "local", "`local` computes in this process, `ray` on a Ray cluster"
    )
    ray: RaySettings = setting(RaySettings(), "which one, and what a task has of it")

    def __post_init__(self) -> None:
        PanelSettings.__post_init__(self)
        if self.output is not None and not self.output.endswith(ENDING):
            raise InputError(f"output: {self.output} does not end in {ENDING}")
        if self.launcher == "ray" and self.forecaster.device.startswith("cuda:"):
            raise InputError(
                f"forecaster.device: {self.forecaster.device} is one GPU of one machine, and"
                " launcher=ray gives every task its own; use cuda or auto"
            )
        if self.launcher == "ray" and not self.forecaster.keeps:
            raise InputError(
                "launcher: ray computes what the cache lacks, and forecasts of"
                f" {self.forecaster.kind} are not kept there; use launcher=local"
            )

    @classmethod
    def of(cls, config: DictConfig) -> BatchSettings:
        return settings_of(cls, config)


def run_batch(settings: BatchSettings, progress: Progress = silent) -> Batch:
    """Forecast what the settings ask for."""
    settings.forecaster.check()
    bars = settings.bars()
    first, last = span_of(bars, settings.start, settings.end)
    issued = Windows.of(bars, first, settings.forecaster.context_length).issued_at
    # Looked at before anything is computed: a span without a forecast would else take as long as
    # one with many.
    if not (issued >= first).any():
        raise InputError(
            f"start, end: nothing can be forecast between {utc_text(first)} and {utc_text(last)}:"
            f" no bar closes then, or no symbol has {settings.forecaster.context_length} bars of"
            " its own"
        )
    del issued
    predictions = RayPredictions(settings.ray) if settings.launcher == "ray" else predictions_here
    forecaster = settings.forecaster.build(bars.symbols, predictions)
    if isinstance(forecaster, CachedForecaster):
        windows, tables = forecaster.by_month(bars, first, progress)
        return Batch(bars, forecaster.name, first, last, windows, tables)
    table = forecaster.forecast(bars, first, progress)
    return Batch(bars, table.name, first, last, table.windows, [table])


def output_of(settings: BatchSettings, config: DictConfig) -> None:
    """Refuse an output that cannot be written; the run writes it itself, a portion at a time."""
    if settings.output is not None:
        output = Path(settings.output).expanduser()
        refuse_among_bars(config, output.parent)
        check_file(output, "output", is_batch, overwrite=may_overwrite(config))
    elif not settings.forecaster.keeps:
        raise InputError(
            f"output: name a file; forecasts of {settings.forecaster.kind} are not kept in the"
            " cache, and nothing would be left of them"
        )


def run(settings: BatchSettings, progress: Progress) -> Result:
    """Forecast and write."""
    began = time.monotonic()
    output = None if settings.output is None else Path(settings.output).expanduser()
    batch = run_batch(settings, progress)
    issued = np.bincount(batch.windows.symbol[batch.issued], minlength=len(batch.bars.symbols))
    if output is None:
        place, written = f"kept in {settings.forecaster.cache}", issued
    else:
        written = write_batch(batch, output, progress)
        place = f"written to {output}{batch.without_values(written)}"
    seconds = time.monotonic() - began
    forecasts = counted(int(written.sum()), "forecast")
    forecast = set(np.flatnonzero(issued).tolist())
    without = [each for s, each in enumerate(batch.bars.symbols) if s not in forecast]
    none = f"; none of {', '.join(without)}: too few bars of its own" if without else ""
    symbols = counted(int((written > 0).sum()), "symbol")
    doubts = batch.bars.doubts_between(batch.first, batch.last)
    return Result(
        list(coverage_parts(batch.bars, settings.start, settings.end, doubts)),
        [f"{forecasts} of {symbols} by {batch.name} in {seconds:.1f} s, {place}{none}"],
    )
