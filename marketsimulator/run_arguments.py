"""Conversion of files and folders on a command line into overrides of the settings."""

from __future__ import annotations

from collections.abc import Sequence

from foundation.compose import is_override, quote_value
from foundation.errors import InputError

OUTPUT_SETTING_KEYS = ("output", "overwrite")  # settings of a comparison of existing runs
VARIANT_SETTING_KEYS = ("strategies", "vary")  # settings that start further runs


def overrides_from_arguments(words: Sequence[str]) -> list[str]:
    """Replace all arguments that are folders by one `runs=[…]` override.

    If there are folders, no strategy is run unless strategies or varied settings are given.
    """
    runs = [word for word in words if not is_override(word) and not word.startswith("-")]
    others = [word for word in words if word not in runs]
    # A flag of Hydra's takes the next word.
    if not runs or (others and any(word.startswith("-") for word in others)):
        return list(words)
    if any(word.partition("=")[0] == "runs" for word in others):
        raise InputError(
            "runs: folders are given both as words and in runs=[…]; use only one of the two"
        )
    named = f"runs=[{','.join(map(quote_value, runs))}]"
    keys = {word.partition("=")[0] for word in others}
    if keys & {*VARIANT_SETTING_KEYS}:
        return [named, *others, *([] if "strategies" in keys else ["strategies=[]"])]
    for word in others:
        if word.partition("=")[0] not in OUTPUT_SETTING_KEYS:
            raise InputError(
                f"{word}: cannot change the settings of existing runs; remove it, or add"
                " strategies=[…] or vary={…} to simulate new variants. Only output and"
                " overwrite apply to existing runs alone"
            )
    return [named, "strategies=[]", *others]


def overrides_from_forecasts(words: Sequence[str]) -> list[str]:
    """Replace files of forecasts by a `forecasts=[…]` override, or `seal FOLDER` by `seal=…`."""
    named = [word for word in words if not is_override(word) and not word.startswith("-")]
    others = [word for word in words if word not in named]
    if named[:1] == ["seal"]:
        if len(named) != 2:
            raise InputError(
                f"seal: {len(named) - 1} folders are named; write seal FOLDER, with one folder"
            )
        return [f"seal={quote_value(named[1])}", *others]
    if named and any(word.startswith("forecasts=") for word in others):
        raise InputError(
            "forecasts: files are given both as words and in forecasts=[…]; use only one of the two"
        )
    return [*([f"forecasts=[{','.join(map(quote_value, named))}]"] if named else []), *others]


def overrides_from_returns_file(words: Sequence[str]) -> list[str]:
    """Replace the file of a tear sheet by a `returns=…` override."""
    files = [word for word in words if not is_override(word) and not word.startswith("-")]
    others = [word for word in words if word not in files]
    if len(files) + sum(word.startswith("returns=") for word in others) > 1:
        named = ", ".join([*files, *(word for word in others if word.startswith("returns="))])
        raise InputError(f"returns: several files are named, {named}; name one")
    return [*(f"returns={quote_value(file)}" for file in files), *others]
