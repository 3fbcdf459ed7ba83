"""Lists of strategies, forecasters, fee tables and settings, and the search in them."""

from __future__ import annotations

import pytest

from foundation.compose import list_group_choices
from marketsimulator.catalogue import FIRST_SETTINGS, STRATEGY_DESCRIPTIONS, topic_entries
from sizing.strategies import STRATEGY_NAMES
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message

LIST = "marketsimulator.catalogue"


def test_list_command_shows_every_option_with_description() -> None:
    assert tuple(STRATEGY_DESCRIPTIONS) == STRATEGY_NAMES
    assert [*topic_entries("forecasters")] == list_group_choices("forecaster", "backtest")
    assert {"alpaca", "kalshi"} <= topic_entries("fees").keys()
    for topic in ("strategies", "forecasters", "fees"):
        assert all(topic_entries(topic).values())


def test_first_settings_are_listed_first_and_marked() -> None:
    shown = [line.split()[:2] for line in answer_of(LIST, "settings")[1].splitlines()]
    assert shown[: len(FIRST_SETTINGS)] == [[key, "*"] for key in FIRST_SETTINGS]


def test_list_search_ranks_name_matches_before_description_matches() -> None:
    code, printed, _ = answer_of(LIST, "settings", "DRAWDOWN")
    lines = printed.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[:-1]] == [
        "guards.drawdown",
        "guards.drawdown_resume_fraction",
        "watch.drawdown",
    ]
    assert lines[0].endswith("(default: 0.3)")
    assert lines[-1].startswith("Use: KEY=VALUE")
    assert answer_of(LIST, "strategies", "without forecasts")[1].startswith("premium_50 ")


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["settings", "symbol_caps"], ("symbol_caps", "limits.symbol_cap")),
        (["forecasters", "ewmaa"], ("ewmaa", "ewma")),
        (["settings", "zzzqqq"], ("zzzqqq",)),
        (["setings"], ("setings", "settings")),
        ([], ("strategies|forecasters|fees|settings",)),
        (["fees", "a", "b"], ("b",)),
    ],
)
def test_unknown_search_term_is_refused_with_a_suggestion(
    words: list[str], facts: tuple[str, ...]
) -> None:
    check_message(refusal_of(LIST, *words), *facts)
