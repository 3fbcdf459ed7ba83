"""The lists of strategies, forecasters, fee tables and settings, and their search."""

from __future__ import annotations

import pytest

from foundation.compose import group_choices
from marketsimulator.catalogue import STRATEGIES, catalogue
from sizing.strategies import STRATEGY_NAMES
from tests.e2e.refused import answer_of, refusal_of

LIST = "marketsimulator.catalogue"


def test_lists_name_all_that_there_is() -> None:
    assert tuple(STRATEGIES) == STRATEGY_NAMES
    assert [*catalogue("forecasters")] == group_choices("forecaster", "backtest")
    assert {"alpaca", "kalshi"} <= catalogue("fees").keys()
    for topic in ("strategies", "forecasters", "fees"):
        assert all(meaning for _, meaning in catalogue(topic).values())


def test_word_finds_names_before_meanings() -> None:
    code, printed, _ = answer_of(LIST, "settings", "DRAWDOWN")
    lines = printed.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[:-1]] == [
        "sizing.drawdown.depth",
        "sizing.drawdown.probability",
        "guards.drawdown",
    ]
    assert "[0.3]" in lines[2]
    assert lines[-1].startswith("Use: KEY=VALUE")
    assert answer_of(LIST, "strategies", "without a forecast")[1].startswith("premium_50 ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["settings", "symbol_caps"], "did you mean limits.symbol_cap?"),
        (["forecasters", "ewmaa"], "did you mean ewma?"),
        (["settings", "zzzqqq"], "'zzzqqq' is in no name and in no meaning"),
        (["setings"], "did you mean settings?"),
        ([], "strategies|forecasters|fees|settings"),
        (["fees", "a", "b"], "unrecognized arguments: b"),
    ],
)
def test_unknown_word_is_answered_with_the_nearest(words: list[str], says: str) -> None:
    assert says in refusal_of(LIST, *words)
