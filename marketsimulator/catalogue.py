"""List strategies, forecasters, fee tables or settings, all or those that match a word.

    kelly-chronos list strategies|forecasters|fees|settings [WORD]
    python -m marketsimulator.catalogue settings drawdown

WORD is searched in names, then in meanings. Code that installed packages offer is listed, too.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.catalogue")

from argparse import Namespace
from collections.abc import Mapping, Sequence

from foundation.cli import FlagParser, Result
from foundation.compose import CONFIGS
from foundation.errors import InputError, closest_choices, did_you_mean
from foundation.plugin import ENTRY_POINT_KINDS, PLUGIN_KEYS, TARGET, entry_point_names
from foundation.schemas import all_settings

STRATEGIES: Mapping[str, str] = {
    "kelly_10": "a tenth of Kelly; kelly_N is N %",
    "kelly_25": "a quarter of Kelly",
    "kelly_50": "half-Kelly, the default",
    "kelly_100": "full Kelly",
    "kelly_50_x4": "half-Kelly times four, within the limits",
    "premium_50": "half-Kelly on the stated premium alone, without a forecast",
    "equal_weight": "the same weight for every symbol",
    "fixed_fraction": "sizing.position in the direction of each forecast",
    "vol_target": "equal risk, scaled to sizing.target_volatility a year",
    "inverse_volatility": "weights in inverse proportion to volatility",
    "risk_parity": "every symbol contributes the same risk",
    "buy_and_hold": "equal weights at the start, then nothing",
    "legacy": "the rule of the program before",
}
GROUPS = {"strategies": "sizing", "forecasters": "forecaster", "fees": "fees"}
SETTINGS = "settings"
_USE = {
    "strategies": "sizing.strategy=NAME; your own: kelly-chronos new-strategy NAME",
    "forecasters": "forecaster=NAME; your own: forecaster._target_=module.Class",
    "fees": "fees=NAME; your own table: --config-dir FOLDER, with FOLDER/fees/NAME.yaml",
    SETTINGS: "KEY=VALUE on a command line, or a line of the file that config=FILE names",
}


def catalogue(topic: str) -> dict[str, tuple[str, str]]:
    """Return default and meaning of each entry of a topic, by name."""
    if topic == SETTINGS:
        entries = all_settings().values()
        return {each.key: (each.default, each.meaning) for each in entries if not each.is_group}
    group = GROUPS[topic]
    if topic == "strategies":
        known = dict(STRATEGIES)
    else:
        files = sorted((CONFIGS / group).glob("[!_]*.yaml"))
        known = {path.stem: _second_comment(path.read_text(encoding="utf-8")) for path in files}
    assert group in PLUGIN_KEYS
    for name in entry_point_names(ENTRY_POINT_KINDS[group]):
        known[name] = f"of an installed package: {group}.{TARGET}={name}"
    return {name: ("", meaning) for name, meaning in known.items()}


def _second_comment(text: str) -> str:
    """Return the comment below the editor's line of a file, without its full stop."""
    return text.splitlines()[1].removeprefix("# ").removesuffix(".")


def matching(word: str, entries: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the names that contain a word, else those whose meaning does; case is ignored."""
    wanted = word.casefold()
    named = [name for name in entries if wanted in name.casefold()]
    return named or [name for name, (_, said) in entries.items() if wanted in said.casefold()]


def read(words: Sequence[str]) -> tuple[Namespace, None]:
    parser = FlagParser()
    topics = [*GROUPS, SETTINGS]
    parser.add_argument("topic", choices=topics, metavar="|".join(topics))
    parser.add_argument("word", nargs="?", default="")
    return parser.parse_args(list(words)), None


def run(settings: Namespace) -> Result:
    """Return the table of a topic. Raises InputError for a word without a match."""
    entries = catalogue(settings.topic)
    names = matching(settings.word, entries)
    if not names:
        by_word = {name.rpartition(".")[2]: name for name in reversed(entries)}
        hint = did_you_mean([by_word[each] for each in closest_choices(settings.word, [*by_word])])
        raise InputError(
            f"{settings.topic}: {settings.word!r} is in no name and in no meaning{hint}"
        )
    lines = [f"{name:{max(map(len, names))}}  {_text(*entries[name])}".rstrip() for name in names]
    return Result(sentences=[*lines, f"Use: {_USE[settings.topic]}"])


def _text(default: str, meaning: str) -> str:
    shown = "" if default in ("", "null") else f" [{default}]"
    return f"{meaning}{shown}"
