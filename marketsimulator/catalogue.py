"""List strategies, forecasters, fee tables or settings, all or those that match a word.

    kelly-chronos list strategies|forecasters|fees|settings [WORD]
    python -m marketsimulator.catalogue settings drawdown

WORD is searched in names, then in descriptions. Entries of installed packages are included.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.catalogue")

from argparse import Namespace
from collections.abc import Mapping, Sequence

from foundation.cli import FlagParser, Result
from foundation.compose import CONFIG_FOLDER
from foundation.errors import InputError, closest_choices, format_suggestion
from foundation.plugin import ENTRY_POINT_KINDS, HYDRA_TARGET_KEY, entry_point_names
from foundation.schemas import SettingEntry, read_all_schemas

STRATEGY_DESCRIPTIONS: Mapping[str, str] = {
    "kelly_10": "10 % of full Kelly; kelly_N is N %",
    "kelly_25": "25 % of full Kelly",
    "kelly_50": "half Kelly, the default",
    "kelly_100": "full Kelly",
    "kelly_50_x4": "half Kelly, stock weights times 4, within the limits",
    "premium_50": "half Kelly on the prior premium alone, without forecasts",
    "equal_weight": "equal weight of every symbol",
    "fixed_fraction": "weight sizing.position in the direction of each forecast",
    "vol_target": "equal risk, scaled to sizing.target_volatility per year",
    "risk_parity": "equal risk contribution of every symbol",
    "buy_and_hold": "equal weights at the start, never rebalanced",
    "legacy": "sizing rule of the earlier program",
}
CONFIG_GROUP_BY_TOPIC = {"strategies": "sizing", "forecasters": "forecaster", "fees": "fees"}
SETTINGS_TOPIC = "settings"
_HIDDEN_DEFAULTS = ("", "null", "[]", "{}")
# Settings that decide what is traded, with what size, at what cost and loss: listed first.
FIRST_SETTINGS = (
    *("symbols", "start", "end", "timeframe", "data.dir", "data.zone", "data.adjustment"),
    *("capital", "benchmark", "schedule", "universe.top", "forecaster.kind", "forecaster.model"),
    *("forecaster.device", "sizing.strategy", "sizing.fraction", "sizing.earned"),
    *("limits.symbol_cap", "limits.intraday_leverage", "limits.overnight_leverage"),
    *("limits.max_positions", "prior.stock_sharpe", "costs.stock_half_spread_bps"),
    *("costs.crypto_half_spread_bps", "fees.commission_bps", "margin.interest_rate"),
    *("margin.borrow_rate", "guards.max_order", "guards.daily_loss", "guards.drawdown"),
    *("protect.kind", "protect.distance", "watch.daily_loss", "watch.action", "mode"),
    *("alert_url", "STARTING_CAPITAL", "MAX_CONTRACTS", "policy", "limits.account_loss"),
)
_USAGE = {
    "strategies": "sizing.strategy=NAME; custom: sizing._target_=module.function",
    "forecasters": "forecaster=NAME; custom: forecaster._target_=module.Class",
    "fees": "fees=NAME; custom: --config-dir FOLDER, with FOLDER/fees/NAME.yaml",
    SETTINGS_TOPIC: "KEY=VALUE, or a YAML file that config=FILE names; * marks what matters most",
}


def topic_entries(topic: str) -> dict[str, str]:
    """Return the description of each entry of a topic, by name."""
    entries: dict[str, str] = {}
    if topic == SETTINGS_TOPIC:
        known = {key: each for key, each in read_all_schemas().items() if not each.is_group}
        first = {key: f"* {_describe(known[key])}" for key in FIRST_SETTINGS}
        return first | {k: _describe(each) for k, each in known.items() if k not in first}
    group = CONFIG_GROUP_BY_TOPIC[topic]
    if topic == "strategies":
        entries |= STRATEGY_DESCRIPTIONS
    else:
        files = sorted((CONFIG_FOLDER / group).glob("[!_]*.yaml"))
        # The second line of a file is its description, below the editor's line.
        lines = {path.stem: path.read_text(encoding="utf-8").splitlines()[1] for path in files}
        entries = {name: line.removeprefix("# ").removesuffix(".") for name, line in lines.items()}
    for name in entry_point_names(ENTRY_POINT_KINDS[group]):
        entries[name] = f"from an installed package: {group}.{HYDRA_TARGET_KEY}={name}"
    return entries


def _describe(setting: SettingEntry) -> str:
    default = setting.default.strip('"')
    shown = "" if default in _HIDDEN_DEFAULTS else f" (default: {default})"
    return f"{setting.meaning}{shown}"


def parse_arguments(words: Sequence[str]) -> tuple[Namespace, None]:
    parser = FlagParser()
    topics = [*CONFIG_GROUP_BY_TOPIC, SETTINGS_TOPIC]
    parser.add_argument("topic", choices=topics, metavar="|".join(topics))
    parser.add_argument("word", nargs="?", default="")
    return parser.parse_args(list(words)), None


def run(settings: Namespace) -> Result:
    """Return the table of a topic. Raises InputError for a word without a match."""
    entries = topic_entries(settings.topic)
    folded = settings.word.casefold()
    # Names that contain the word, else those whose description does.
    names = [name for name in entries if folded in name.casefold()] or [
        name for name, about in entries.items() if folded in about.casefold()
    ]
    if not names:
        by_word = {name.rpartition(".")[2]: name for name in reversed(entries)}
        hint = format_suggestion(
            [by_word[each] for each in closest_choices(settings.word, [*by_word])]
        )
        raise InputError(
            f"{settings.topic}: no name or description contains {settings.word!r}{hint}"
        )
    lines = [f"{name:{max(map(len, names))}}  {entries[name]}".rstrip() for name in names]
    return Result(closing_lines=[*lines, f"Use: {_USAGE[settings.topic]}"])
