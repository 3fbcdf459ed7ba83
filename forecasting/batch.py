"""Forecast every symbol at every bar of a history, through the cache.

    python -m forecasting.batch 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [output=FILE.parquet|FOLDER] [shape=long|wide] [key=value …]
    python -m forecasting.batch kept=list | kept=prune [unused_days=N]

Without `output` the cache is filled and nothing else. A file has a row a symbol, instant, step
and level: symbol, issued_at, step, target_at (when that bar of its own becomes known), level, value
(USD); `shape=wide` has a column for each level instead. By instant and symbol, levels rising; in
the metadata the name of the forecaster. A folder gets a file for each month, side by side: the
fastest. Each is written whole or not at all.

kept=list shows what the cache holds (`forecasting.store`), kept=prune removes what is
damaged or of other code, and what no run has used for so many days.

With launcher=ray (pip install 'kelly-chronos[ray]') actors on the machines of a Ray cluster,
ray.address=HOST:PORT, compute what the cache lacks: one a GPU, or one for ray.cores cores.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("forecasting.batch")

import logging
import time
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from forecasting.batch_file import Batch, Shape, check_batch_output, is_folder, write_batch
from forecasting.calibration.kept import folder_of_code
from forecasting.chronos2.cached import CachedForecaster, predictions_here
from forecasting.chronos2.on_ray import RayPredictions, RaySettings
from forecasting.forecast import Progress, silent
from forecasting.settings import PanelSettings
from forecasting.store import partition_table, prune
from forecasting.windows import Windows
from foundation.command import Result
from foundation.configuration import may_overwrite, refuse_among_bars, settings_of
from foundation.counts import counted
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from trainingdata.coverage import coverage_parts
from trainingdata.instants import utc_text
from trainingdata.source import span_of

log = logging.getLogger("forecasting")

Launcher = Literal["local", "ray"]


@settings_class()
class BatchSettings(PanelSettings):
    """What is forecast, from which bars and by what."""

    output: str | None = setting(
        None, "Parquet file, or a folder with one a month; none: the cache alone"
    )
    shape: Shape = setting("long", "`long`, a row a level, or `wide`, a column a level")
    kept: Literal["list", "prune"] | None = setting(
        None, "`list` or `prune` what the cache holds, instead of a forecast"
    )
    unused_days: float | None = setting(
        None, "unused, after which `prune` removes what is whole too", ge=0
    )
    launcher: Launcher = setting(
        "local", "`local` computes in this process, `ray` on a Ray cluster"
    )
    ray: RaySettings = setting(RaySettings(), "which one, and what an actor has of it")

    def __post_init__(self) -> None:
        PanelSettings.__post_init__(self)
        if self.unused_days is not None and not (self.kept == "prune" and self.unused_days >= 0):
            raise InputError(
                f"unused_days: {self.unused_days:g} is no number of days of kept=prune, from 0"
            )
        if self.output is not None:
            is_folder(Path(self.output))
        elif self.shape != "long":
            raise InputError(
                f"shape: {self.shape} has no effect without output; name a file,"
                " output=FILE.parquet"
            )
        if self.launcher == "ray" and self.forecaster.device.startswith("cuda:"):
            raise InputError(
                f"forecaster.device: {self.forecaster.device} is one GPU of one machine, and"
                " launcher=ray gives every actor its own; use cuda or auto"
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
    """Refuse an output that cannot be written; the run writes it itself, months one by one."""
    if settings.kept is not None:
        return
    if settings.output is not None:
        output = Path(settings.output).expanduser()
        refuse_among_bars(config, output if is_folder(output) else output.parent)
        check_batch_output(output, overwrite=may_overwrite(config))
    elif not settings.forecaster.keeps:
        raise InputError(
            f"output: name a file; forecasts of {settings.forecaster.kind} are not kept in the"
            " cache, and nothing would be left of them"
        )


def run(settings: BatchSettings, progress: Progress) -> Result:
    """Forecast and write, or list what is kept, or prune it."""
    if settings.kept is not None:
        return kept_result(settings)
    began = time.monotonic()
    output = None if settings.output is None else Path(settings.output).expanduser()
    batch = run_batch(settings, progress)
    place = f"written to {output}"
    if output is not None:
        write_batch(batch, output, progress, settings.shape)
    else:
        place = f"kept in {settings.forecaster.cache} (python -m forecasting.batch kept=list)"
    seconds = time.monotonic() - began
    issued = batch.issued
    forecasts = counted(len(issued), "forecast")
    forecast = set(batch.windows.symbol[issued].tolist())
    without = [each for s, each in enumerate(batch.bars.symbols) if s not in forecast]
    none = f"; none of {', '.join(without)}: too few bars of its own" if without else ""
    symbols = counted(len(forecast), "symbol")
    return Result(
        list(coverage_parts(batch.bars, settings.start, settings.end)),
        [f"{forecasts} of {symbols} by {batch.name} in {seconds:.1f} s, {place}{none}"],
    )


def kept_result(settings: BatchSettings) -> Result:
    """What is kept of forecasts, or what was removed of it."""
    cache = Path(settings.forecaster.cache or "").expanduser()
    if settings.forecaster.cache is None or not cache.is_dir():
        raise InputError(f"forecaster.cache: {cache} is no folder; nothing is kept there")
    if settings.kept == "list":
        return Result([partition_table(cache)])
    done = prune(cache, folder_of_code(), settings.unused_days)
    gone = counted(done.pop("partitions"), "partition", "partitions")
    counts = (f"{count:,} {kind}" for kind, count in done.items())
    return Result(sentences=[", ".join([gone, *counts])])
