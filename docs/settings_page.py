"""Write docs/SETTINGS.md, every key of every configuration, and configs/classes.json, from classes.

make settings-page
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml

from event_contracts.compare import ComparisonSettings
from event_contracts.live.settings import KalshiTradingSettings
from event_contracts.simulation.venue import KalshiVenueSettings
from event_contracts.train import TrainingSettings
from execution.live.settings import LiveSettings
from forecasting.batch import BatchSettings
from forecasting.evaluate import EvaluationSettings
from foundation.configuration import OVERWRITE_KEY
from foundation.declared import CONFIGS, FILE
from foundation.settings_page import (
    bases_of,
    classes_of,
    own_keys,
    plain_schemas,
    schemas_of,
    table_of,
)
from marketsimulator.compare import ComparedRuns
from marketsimulator.drift import ComparisonWords
from marketsimulator.settings import BacktestSettings
from marketsimulator.stress import StressSettings
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.backtest import SpreadSettings
from option_spreads.selling.settings import SellingSettings
from option_spreads.simulation.desk import PracticeSettings
from option_spreads.simulation.resampled_accounts import MonteCarloSettings

PAGE = Path(__file__).resolve().parent / "SETTINGS.md"
_TIME = "-${now:%Y%m%dT%H%M%S}"
NO_SETTINGS = {"defaults", "hydra", OVERWRITE_KEY}

# A configuration's settings, a key being that of the first class that has it.
CLASSES: Mapping[str, tuple[type[Any], ...]] = {
    "backtest": (BacktestSettings,),
    "compare": (ComparedRuns, BacktestSettings),
    "batch": (BatchSettings,),
    "evaluate": (EvaluationSettings,),
    "venue": (PracticeSettings,),
    "live": (LiveSettings, BacktestSettings),
    "drift": (ComparisonWords, LiveSettings, BacktestSettings),
    "stress": (StressSettings, BacktestSettings),
    "autoscaling": (AutoscalingSettings,),
    "spreads": (SpreadSettings, AutoscalingSettings),
    "sell_spreads": (SellingSettings, AutoscalingSettings),
    "monte_carlo": (MonteCarloSettings, AutoscalingSettings),
    "trade_kalshi": (KalshiTradingSettings,),
    "kalshi_train": (TrainingSettings,),
    "kalshi_compare": (ComparisonSettings,),
    "kalshi_venue": (KalshiVenueSettings,),
}

INTRODUCTION = """# Settings

Look up which words a command takes: `key=value`, as `sizing.fraction=0.25`. A list is in quotes,
`'symbols=[NVDA,AAPL]'`; a key that the command's file does not have is `+key=value`.
`make settings-page` makes this page from the settings classes and `configs/*.yaml`.

A value is the class's default, then what else the key takes: `1.0` stands for any number, `1` for
whole ones, 0…1 for both ends, >0…<1 for neither, `[]` and `null` alone for texts, `true` and
`false` for each other. Where a meaning does not say so, `null` (in meanings: none) switches off.

## Commands

A configuration has the keys of its classes, and appends the time to their `output`;
`overwrite=true` lets that replace something else."""


def page() -> str:
    """The page as it should be now."""
    parts = [INTRODUCTION, *map(_section, CLASSES)]
    for name, kind in sorted(_all_classes().items()):
        if own_keys(kind):
            about = cast(str, kind.__doc__).splitlines()[0]
            parts += [f"## {name}", about + _bases_text(bases_of(kind)), table_of(kind)]
    return "\n\n".join(parts) + "\n"


def _all_classes() -> dict[str, type[Any]]:
    every = (kind for kinds in CLASSES.values() for kind in kinds)
    return {name: each for kind in every for name, each in classes_of(kind).items()}


def _bases_text(bases: Iterable[type[Any]]) -> str:
    words = " and ".join(map(_link, filter(own_keys, bases)))
    return f" Includes {words}." if words else ""


def _link(kind: type[Any]) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _section(name: str) -> str:
    """A configuration: what its file says it is for, its classes, and what the file alone says."""
    text = (CONFIGS / f"{name}.yaml").read_text()
    about = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    parts = [f"### {name}", f"{about} {', '.join(map(_link, CLASSES[name]))}."]
    beside = _beside(name)
    parts += ["\n".join(f"- `{key}`: {said}" for key, said in beside.items())] if beside else []
    without = NO_SETTINGS | beside.keys()
    listed = {key: value for key, value in _listed(name).items() if key not in without}
    instead = [
        f"`{key}: {value}`" for key, value in _leaves(listed) if not str(value).endswith(_TIME)
    ]
    parts += [f"Its file says: {', '.join(instead)}."] if instead else []
    return "\n\n".join(parts)


def _leaves(values: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its value, under its dotted key; of a list how many entries it has."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{group}{key}.")
        elif isinstance(value, list):
            yield f"{group}{key}", f"[{len(value)} entries]"
        else:
            yield f"{group}{key}", "null" if value is None else value


def _beside(name: str) -> dict[str, str]:
    """The keys that a file has beside those of its classes, and what it says of them."""
    known = {field.name for kind in CLASSES[name] for field in fields(kind)}
    text = (CONFIGS / f"{name}.yaml").read_text()
    said = dict(re.findall(r"^(\w+):.*?[ ]# *(.+)$", text, re.MULTILINE))
    known |= NO_SETTINGS
    own = [key for key in _listed(name) if key not in known]
    return {key: said[key] for key in own if key in said}


def _listed(name: str) -> dict[str, Any]:
    """What a configuration's own file holds."""
    return cast(dict[str, Any], yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


def declarations() -> str:
    """The file of classes as it should be now: `foundation.declared` reads it."""
    configurations = {
        name: {"classes": _names(kinds), "own": _beneath(name)} for name, kinds in CLASSES.items()
    }
    every = sorted(_all_classes().items())
    bases = {name: _names(bases_of(kind)) for name, kind in every}
    tables = {name: _lines(plain_schemas(kind)) for name, kind in every}
    parts = {
        "configurations": _lines(configurations),
        "bases": _lines(bases),
        "classes": _object(tables),
    }
    return _object(parts) + "\n"


def _names(kinds: Iterable[type[Any]]) -> list[str]:
    return [kind.__name__ for kind in kinds]


def _lines(values: Mapping[str, Any]) -> str:
    """JSON with a line a key."""
    return _object({key: json.dumps(value) for key, value in values.items()})


def _object(values: Mapping[str, str]) -> str:
    """JSON of values that are JSON already."""
    rows = [f"{json.dumps(key)}: {value}" for key, value in values.items()]
    return "{\n" + ",\n".join(rows) + "\n}"


def _beneath(name: str) -> list[str]:
    """The keys whose defaults lie beneath a file.

    Those that an earlier file has are not among them, nor is what a choice of files holds or what
    the file leaves to be named, ???.
    """
    first, *others = CLASSES[name]
    others += [kinds[0] for kinds in CLASSES.values() if kinds[0] in first.__mro__[1:]]
    if _earliest(first) != name:
        return []
    there = {key for kind in others for key in schemas_of(kind)}
    there |= {key for key, value in _listed(name).items() if value == "???"}
    return [key for key in schemas_of(first) if key not in there and not (CONFIGS / key).is_dir()]


def _earliest(kind: type[Any]) -> str:
    return next(name for name, kinds in CLASSES.items() if kinds[0] is kind)


def main() -> None:
    """Write both."""
    PAGE.write_text(page())
    FILE.write_text(declarations())


if __name__ == "__main__":
    main()
