"""Write docs/SETTINGS.md: every key of every configuration, from the classes and the YAML.

make settings-page
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
from foundation.compose import CONFIGS
from foundation.settings_page import bases_of, classes_of, own_keys, table_of
from marketsimulator.settings import BacktestSettings
from marketsimulator.stress import StressSettings
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.backtest import SpreadSettings
from option_spreads.selling.settings import SellingSettings
from option_spreads.simulation.desk import PracticeSettings
from option_spreads.simulation.resampled_accounts import MonteCarloSettings

PAGE = Path(__file__).resolve().parent / "SETTINGS.md"

# A configuration's settings, a key being that of the first class that has it.
CLASSES: Mapping[str, tuple[type[Any], ...]] = {
    "backtest": (BacktestSettings,),
    "compare": (BacktestSettings,),
    "batch": (BatchSettings,),
    "evaluate": (EvaluationSettings,),
    "venue": (PracticeSettings,),
    "live": (LiveSettings, BacktestSettings),
    "drift": (LiveSettings, BacktestSettings),
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

Made by `make settings-page` from the settings classes and `configs/*.yaml`: change those, not this
page. A setting is a word `key=value` on a command's line, such as `sizing.fraction=0.25`; a list
stands in quotes, `'symbols=[NVDA,AAPL]'`, one that its file does not have is written `+key=value`.

First the configurations, each with the classes that its keys are of, then every class once. A
default is the class's; what a configuration's file says instead stands below its table, where
`${oc.env:NAME,…}` is a variable of the environment. None is `null`."""


def page() -> str:
    """The page as it should be now."""
    own = {kinds[0] for kinds in CLASSES.values()}
    parts = [INTRODUCTION, *(_section(name) for name in CLASSES), "# Classes"]
    for name, kind in sorted(_all_classes().items()):
        if kind not in own:
            about = cast(str, kind.__doc__).splitlines()[0]
            parts += [f"## {name}", about + _bases_text(bases_of(kind)), table_of(kind)]
    return "\n\n".join(parts) + "\n"


def key_count() -> int:
    """Keys of all tables: those of each class once, and those that a file alone has."""
    in_classes = sum(len(own_keys(kind)) for kind in _all_classes().values())
    return in_classes + sum(len(_beside(name)) for name in CLASSES)


def _all_classes() -> dict[str, type[Any]]:
    every = (kind for kinds in CLASSES.values() for kind in kinds)
    return {name: each for kind in every for name, each in classes_of(kind).items()}


def _bases_text(bases: Iterable[type[Any]]) -> str:
    words = [f"[{each.__name__}](#{each.__name__.lower()})" for each in bases]
    return f" Every key of {' and '.join(words)} is one here too." if words else ""


def _section(name: str) -> str:
    """A configuration: what its file says it is for, its keys, and those its file alone has."""
    text = (CONFIGS / f"{name}.yaml").read_text()
    about = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    first, *others = CLASSES[name]
    earliest = next(each for each in CLASSES if CLASSES[each][0] is first)
    parts = [f"## {name}"]
    if earliest == name:
        mark = f'<a id="{first.__name__.lower()}"></a>'
        bases = dict.fromkeys((*bases_of(first), *others))
        parts += [f"{mark}{about}{_bases_text(bases)}", table_of(first)]
    else:
        parts.append(f"{about} Its keys are those of [{earliest}](#{earliest}).")
    beside = [f"- `{key}`: {said}" for key, said in _beside(name).items()]
    return "\n\n".join([*parts, *(["\n".join(beside)] if beside else [])])


def _beside(name: str) -> dict[str, str]:
    """The keys that a file has beside those of its classes, and what it says of them."""
    known = {field.name for kind in CLASSES[name] for field in fields(kind)}
    text = (CONFIGS / f"{name}.yaml").read_text()
    said = dict(re.findall(r"^(\w+):.*?[ ]# *(.+)$", text, re.MULTILINE))
    listed = yaml.safe_load(text)
    own = [key for key in listed if key not in known and key not in ("defaults", "hydra")]
    return {key: said[key] for key in own if key in said}


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
