"""Conversion of the command-line flags of the original backtest script to settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foundation.cli import FlagParser, find_command, refuse_flag_conflicts
from foundation.compose import flags_to_overrides, is_override
from trainingdata.instruments import parse_symbols


def overrides_from_flags(words: Sequence[str]) -> list[str]:
    """Convert the original script's command-line flags to Hydra overrides."""
    parser = FlagParser(settings=True)
    parser.add_argument("--symbols", nargs="+", default=[])
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--days", type=int)
    parser.add_argument("--capital", type=float)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--output")
    arguments = parser.parse_intermixed_args(list(words))
    # A flag with several values takes every word up to the next flag, overrides too: they are
    # separated here. A folder whose name looks like key=value stays a folder.
    overrides: list[str] = []
    values: dict[str, list[str]] = {"symbols": [], "data_dir": [], "overrides": []}
    for name, others in values.items():
        for word in getattr(arguments, name):
            is_folder = name == "data_dir" and Path(word).exists()
            if is_override(word) and not is_folder:
                overrides.append(word)
            else:
                others.append(word)
    parser.refuse_non_overrides(values["overrides"])
    refuse_flag_conflicts(
        find_command("marketsimulator.backtest_kelly_chronos2").flag_by_setting, words
    )
    named = values["data_dir"] or any(word.startswith("data.dir=") for word in overrides)
    if values["symbols"] and not named:
        values["data_dir"] = _find_bar_folders(values["symbols"])
    single = ("start", "end", "days", "capital", "output")
    flags = {key: getattr(arguments, key) for key in single}
    flags |= {"symbols": values["symbols"], "data.dir": values["data_dir"]}
    return flags_to_overrides(flags) + overrides


def _find_bar_folders(symbols: Sequence[str]) -> list[str]:
    """Return the folders below trainingdata/ that contain bars of the symbols.

    The original script searched the same place.
    """
    from trainingdata.bar_files import find_symbol_folders
    from trainingdata.source import refuse_non_synthetic_symbols

    folders = [str(folder) for folder in find_symbol_folders(Path("trainingdata"), symbols)]
    if not folders:
        refuse_non_synthetic_symbols(parse_symbols(symbols), "trainingdata/")
    return folders
