"""Write docs/SETTINGS.md: every key of every configuration, from the code and the YAML themselves.

make settings-page
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf

from event_contracts.compare import ComparisonSettings
from event_contracts.live.settings import KalshiTradingSettings
from event_contracts.simulation.venue import KalshiVenueSettings
from event_contracts.train import TrainingSettings
from execution.live.settings import LiveSettings
from forecasting.batch import BatchSettings
from forecasting.evaluate import EvaluationSettings
from foundation.compose import CONFIGS, composed_config
from foundation.settings_page import HEAD, Row, field_types, rows_of
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

Made by `make settings-page` from `configs/*.yaml` and the settings classes: change those, not this
page. A setting is a word `key=value` on a command's line, such as `sizing.fraction=0.25`; one that
its file does not have is written `+key=value`, and a list in quotes, `'symbols=[NVDA,AAPL]'`.

*Bounds* are what the class takes with all other keys at their defaults; a key without them may
still be refused by what it belongs to, as its meaning says. What a meaning calls none is `null`,
`$NAME` is a variable of the environment, TIME the start of the run. A key whose type is empty is
`null` unless it is given."""


def page() -> str:
    """The page as it should be now."""
    parts = [INTRODUCTION, _contents()]
    for name in CLASSES:
        parts.append(_section(name))
        if name == "backtest":
            parts.append(_forecasters())
    return "\n\n".join(parts) + "\n"


def _contents() -> str:
    return "Configurations: " + ", ".join(f"[{name}](#{name})" for name in CLASSES) + "."


def _section(name: str) -> str:
    """A configuration: what its file says it is for, and its keys but for those of its base."""
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    about = []
    for line in lines:
        if not line.startswith("#"):
            break
        about.append(line.removeprefix("# "))
    rows = _rows(name)
    for base in _bases(name):
        there = {row.line for row in _rows(base)}
        rows = [row for row in rows if row.line not in there]
        about.append(f"Every key of [{base}](#{base}) that is not below is one here too.")
    return "\n".join([f"## {name}", "", *about, "", HEAD, *(row.line for row in rows)])


def _bases(name: str) -> list[str]:
    """The configurations whose keys this one has as well."""
    listed = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["defaults"]
    bases = [word for word in listed if isinstance(word, str) and word in CLASSES]
    contracts = AutoscalingSettings in CLASSES[name] and name != "autoscaling"
    return [*bases, "autoscaling"] if contracts else bases


def _forecasters() -> str:
    """What `forecaster=NAME` changes of the keys of a forecaster."""
    usual = {row.line for row in _rows("backtest")}
    files = (CONFIGS / "forecaster").glob("*.yaml")
    names = sorted(path.stem for path in files if path.stem != "base")
    lines = ["### forecaster=NAME", ""]
    lines.append(f"NAME is one of {', '.join(f'`{name}`' for name in names)}, or `module:Class`,")
    lines += ["for which `plugin` stands. Keys that are not those of the default:", ""]
    lines += [f"| NAME {HEAD.splitlines()[0]}", f"| --- {HEAD.splitlines()[1]}"]
    for name in names:
        for row in _rows("backtest", f"forecaster={name}"):
            own = row.key.startswith("forecaster.") and row.key != "forecaster.kind"
            if own and row.line not in usual:
                lines.append(f"| `{name}` {row.line}")
    return "\n".join(lines)


def _rows(name: str, *overrides: str) -> list[Row]:
    """A row for each key of a configuration."""
    config = composed_config(name, list(overrides))
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    owners = tuple(kind() for kind in CLASSES[name])
    return list(rows_of(values, owners, _comments(name)))


def _comments(name: str) -> dict[str, str]:
    """What a configuration's file says behind its top keys, and those it extends of other keys."""
    inherited: dict[str, str] = {}
    for base in _bases(name):
        inherited |= _comments(base)
    fields = {key for kind in CLASSES[name] for key in field_types(kind)}
    text = (CONFIGS / f"{name}.yaml").read_text()
    own = dict(re.findall(r"^(\w+):.*?[ ]# *(.+)$", text, re.MULTILINE))
    return {key: said for key, said in inherited.items() if key not in fields} | own


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
