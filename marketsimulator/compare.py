r"""Compare backtests: earlier runs, and variants that are run now.

    python -m marketsimulator.compare [RUN …] [strategies=[kelly_50,risk_parity,…]] \
        ['vary={sizing.holding: [next, session]}'] [key=value …]

RUN is the results folder of a backtest (with summary.json and equity.parquet), or a folder of
several such folders, as a multirun writes it. A variant is a backtest with one of the strategies
and one combination of the varied settings; all variants have the same bars. Variants share
forecasts and covariances where their settings allow it, run compiled where they can, and with
launcher=ray on a cluster. If only runs are given, nothing is simulated.

Variants enter the trial ledger, and each Sharpe ratio is deflated by the number of all trials; a
live account is not a trial. Runs over different periods are compared over their common days.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.compare")

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from forecasting.chronos2.profile import RaySettings
from forecasting.forecast import Progress, has_look_ahead, no_progress
from foundation.cli import Result
from foundation.errors import InputError
from foundation.plugin import allow_plugin_import, is_plugin, resolve_varied_targets
from foundation.settings import setting, settings_class, settings_from_config, with_changes
from marketsimulator.results.belief_tables import BeliefTableCache
from marketsimulator.results.comparison import Comparison, compare_records, frame_to_rows
from marketsimulator.results.figures import account_figures
from marketsimulator.results.remarks import data_warning_remarks
from marketsimulator.results.run_folder import SUMMARY_FILE
from marketsimulator.results.run_record import (
    RunRecord,
    find_run_folders,
    flatten_settings,
    format_setting_value,
    read_run_record,
)
from marketsimulator.results.trial_identity import data_hash, make_trial
from marketsimulator.results.trials import TRIALS_OFF_NOTE, check_ledger, record_trials
from marketsimulator.runs.outcome import VariantOutcome, simulate_variants, simulate_variants_on_ray
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

STRATEGY_KEY = "sizing.strategy"
FRACTION_KEY = "sizing.fraction"
# Settings that all variants share: another panel is another comparison.
SHARED_SETTING_KEYS = (
    *("data", "symbols", "start", "end", "days", "timeframe", "fill", "increments", "seed"),
    *("trials", "output", "order_tag"),
)

VariedValues = dict[str, Any]  # value by setting
Variants = list[tuple[VariedValues, BacktestSettings]]


@settings_class()
class ComparisonOptions:
    """Settings of a comparison: earlier runs, strategies and varied settings."""

    runs: tuple[str, ...] = setting(
        (), "results folders of backtests, or folders that contain them"
    )
    strategies: tuple[str, ...] = setting(
        (), "strategies to compare, each as in sizing.strategy; empty: the configured one"
    )
    vary: dict[str, Any] | None = setting(
        None, "`setting: [values]`; every combination runs with every strategy"
    )
    launcher: Literal["local", "ray"] = setting(
        "local", "`local` runs variants in this process, `ray` on a Ray cluster"
    )
    ray: RaySettings = setting(RaySettings(), "Ray cluster, and the resources of a task")


def compare(
    settings: BacktestSettings,
    strategies: Sequence[str],
    vary: Mapping[str, Sequence[Any]] | None = None,
    runs: Sequence[Path] = (),
    *,
    ray: RaySettings | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Run each strategy with each combination of varied settings; compare them with earlier runs.

    settings: settings of a backtest, in which the varied settings are replaced.
    strategies: names of strategies; may be empty with `runs` and without `vary`.
    vary: list of values for each varied setting, by key.
    runs: folders of earlier backtests.
    ray: Ray cluster that runs the variants; None: this process.
    progress: progress callback, for forecasts and for variants.
    """
    kept = [read_run_record(path) for path in find_run_folders(runs)]
    variants = _expand_variants(settings, strategies, vary or {})
    if not (kept or variants):
        raise InputError("strategies: the list is empty; name at least one strategy")
    if (rows := len(kept) + len(variants)) < 2:
        raise InputError(
            f"RUN, strategies, vary: a comparison needs at least two runs, got {rows}; add"
            " a run folder, a strategy or a varied setting"
        )
    if not variants:
        return compare_records(kept)
    names = tuple(_variant_name(variation, variant) for variation, variant in variants)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"vary: two variants have the same name {twice[0]}; remove one of them")
    check_ledger(settings.trials)
    market = settings.load_market()
    made = _run_variants(variants, names, market, ray, progress)
    found = pd.DataFrame([record.summary for record in made])
    trials = _record_trials(settings, variants, found, market)
    notes = [
        *data_warning_remarks(market.data_warnings),
        *([TRIALS_OFF_NOTE] if settings.trials is None else []),
    ]
    tried = [record for record in kept if record.is_trial]
    no_ledger_note = sum(record.summary["trials"] is None for record in tried)
    beside_ledger = len(tried) if settings.trials is None else no_ledger_note
    return compare_records([*kept, *made], trials + beside_ledger, notes, seed=settings.seed)


def _expand_variants(
    settings: BacktestSettings, strategies: Sequence[str], vary: Mapping[str, Sequence[Any]]
) -> Variants:
    """Return all combinations of strategies and varied values, each with its complete settings."""
    for name, values in vary.items():
        if name.partition(".")[0] in SHARED_SETTING_KEYS:
            raise InputError(
                f"vary.{name}: cannot be varied, because all variants share it; start a"
                " separate run for each value"
            )
        if name == STRATEGY_KEY and strategies:
            raise InputError(f"vary.{name}: strategies also lists strategies; set only one of them")
        if inner := [other for other in vary if other.startswith(f"{name}.")]:
            raise InputError(
                f"vary.{inner[0]}: vary.{name} sets this setting too; remove one of them"
            )
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise InputError(f"vary.{name}: expected a non-empty list of values, got {values!r}")
    every = {STRATEGY_KEY: list(dict.fromkeys(strategies)), **vary} if strategies else vary
    if not every:
        return []
    rows = (dict(zip(every, values, strict=True)) for values in itertools.product(*every.values()))
    return [(variation, with_changes(settings, variation)) for variation in rows]


def _record_trials(
    settings: BacktestSettings,
    variants: Sequence[tuple[VariedValues, BacktestSettings]],
    table: pd.DataFrame,
    market: Market,
) -> int:
    """Record each variant in the trial ledger; return the number of all trials on these data.

    Without a ledger only these variants count. Variants whose forecaster reads the future are not
    trials.

    table: [V] rows with the figures of the variants.
    """
    daily_ratios = table["sharpe"].astype(float) / np.sqrt(table["periods_per_year"])
    digest = data_hash(market)
    trials = []
    for (_, variant), row, ratio in zip(variants, frame_to_rows(table), daily_ratios, strict=True):
        trial = make_trial(
            *(variant, market, digest, row["forecaster"]),
            days=row["days"],
            daily_sharpe=None if np.isnan(ratio) else float(ratio),
            total_return=row["total_return"],
        )
        trials.append(trial)
    recorded = record_trials(settings.trials, trials)
    if recorded is not None:
        return recorded
    return len({trial.config_hash for trial in trials if not has_look_ahead(trial.forecaster)})


def _variant_name(variation: VariedValues, variant: BacktestSettings) -> str:
    """Return the name of a variant: its strategy and Kelly fraction, then the varied settings."""
    named = (STRATEGY_KEY, FRACTION_KEY)
    changes = [
        f"{k}={format_setting_value(value)}" for k, value in variation.items() if k not in named
    ]
    return " ".join([variant.sizing.strategy_label, *changes])


def _run_variants(
    variants: Variants,
    names: Sequence[str],
    market: Market,
    ray: RaySettings | None,
    progress: Progress,
) -> list[RunRecord]:
    """Run each variant; return one record per variant.

    names: name of each variant.
    """
    found: dict[int, VariantOutcome] = {}
    forecasters: dict[int, str] = {}
    tables = BeliefTableCache(market, progress)
    for beliefs, members, forecaster in tables.group_variants([variant for _, variant in variants]):
        forecasters |= dict.fromkeys(members, forecaster)
        chosen = [variants[k][1] for k in members]
        before = len(found)

        def report_walk(what: str, done: int, _: int, before: int = before) -> None:
            progress(what, before + done, len(variants))

        if ray is None:
            walked = simulate_variants(chosen, market, beliefs, progress=report_walk)
        else:
            walked = simulate_variants_on_ray(chosen, market, beliefs, ray, progress=report_walk)
        found |= dict(zip(members, walked, strict=True))
    bars = market.run_bars
    has_crypto = bool(bars.crypto.any())
    return [
        RunRecord(
            name=name,
            summary={
                **account_figures(
                    bars.times, found[k], capital=variant.capital, has_crypto=has_crypto
                ),
                "forecaster": forecasters[k],
                "data": bars.source,
                "symbols": list(bars.symbols),
                "trials": None,
            },
            settings=flatten_settings(asdict(variant)),
            instants=bars.times,
            equity=found[k].equity,
        )
        for k, ((_, variant), name) in enumerate(zip(variants, names, strict=True))
    ]


COMPARISON_OPTION_NAMES = tuple(field.name for field in fields(ComparisonOptions))


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """Options of a comparison, and the backtest settings that all variants share."""

    options: ComparisonOptions
    backtest_settings: BacktestSettings

    @classmethod
    def from_config(cls, config: DictConfig) -> ComparisonSettings:
        """Validate a composed configuration and return its settings."""
        own = settings_from_config(
            ComparisonOptions, OmegaConf.masked_copy(config, list(COMPARISON_OPTION_NAMES))
        )
        for name in filter(is_plugin, own.strategies):
            allow_plugin_import(name)
        if own.vary:
            own = replace(own, vary=resolve_varied_targets(own.vary))
        _refuse_own_output(own.runs, config.get("output"))
        keys = [str(key) for key in config if key not in COMPARISON_OPTION_NAMES]
        shared = BacktestSettings.from_config(OmegaConf.masked_copy(config, keys))
        if shared.benchmark is not None:
            raise InputError(
                f"benchmark: {shared.benchmark} has no place in a comparison, which ranks its runs;"
                " name it in a backtest"
            )
        return cls(own, shared)


def _refuse_own_output(runs: Sequence[str], output: object) -> None:
    """Refuse an output folder in which a compared run would be overwritten."""
    place = Path(str(output)).expanduser().resolve()
    for folder in (Path(each).expanduser().resolve() for each in runs):
        within = place.parent == folder and (place / SUMMARY_FILE).is_file()
        if place == folder or within:
            raise InputError(
                f"output: {output} is the folder of a compared run, which would be"
                " overwritten; choose another folder"
            )


def run(settings: ComparisonSettings, progress: Progress) -> Result:
    """Run a comparison; return its verdict, ranking and warnings, and the files of its page."""
    own = settings.options
    found = compare(
        settings.backtest_settings,
        own.strategies,
        own.vary,
        tuple(Path(folder) for folder in own.runs),
        ray=own.ray if own.launcher == "ray" else None,
        progress=progress,
    )
    return Result(
        [found.verdict.claim, found.terminal_table()],
        found.sentences(),
        found.file_writers(),
        json_document=found.summary(),
    )
