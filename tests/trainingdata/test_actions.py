from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.errors import DataError
from trainingdata.actions import read_actions, split_adjusted
from trainingdata.bars import Bars
from trainingdata.source import DataSettings

HEAD = "symbol,date,kind,value\n"


def file(folder: Path, *rows: str) -> Path:
    path = folder / "actions.csv"
    path.write_text(HEAD + "".join(row + "\n" for row in rows))
    return path


def test_an_action_takes_hold_when_its_session_opens(tmp_path: Path) -> None:
    """A Saturday's takes hold on Monday; what comes first is first."""
    actions = read_actions(
        file(tmp_path, "AAPL,2024-10-10,dividend,0.25", "nvda,2024-06-08,split,10")
    )
    assert [a.symbol for a in actions] == ["NVDA", "AAPL"]
    assert actions[0].opens == np.datetime64("2024-06-10T13:30", "ns")
    assert (actions[0].ratio, actions[0].dividend) == (10.0, 0.0)
    assert (actions[1].ratio, actions[1].dividend) == (1.0, 0.25)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("NVDA,2024-06-10,split,0", "row 1: split of 0"),
        ("NVDA,2024-06-10,dividend,nan", "row 1"),
        ("NVDA,2024-06-10,bonus,1", "kind is 'bonus'"),
        ("BTCUSD,2024-06-10,split,2", "'BTCUSD' is no stock"),
        ("NVDA,someday,split,2", "cannot be read"),
        ("NVDA,2099-06-10,split,2", "beyond the exchange calendar"),
        ("NVDA,,split,2", "row 1"),
    ],
)
def test_a_row_that_cannot_be_is_named(row: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        read_actions(file(tmp_path, row))


def test_what_a_price_holds_already_is_not_applied_again(tmp_path: Path) -> None:
    path = str(file(tmp_path, "NVDA,2024-06-10,split,10", "NVDA,2024-06-11,dividend,0.01"))
    assert len(DataSettings(actions=path, adjustment="raw").corporate_actions()) == 2
    assert [
        a.dividend for a in DataSettings(actions=path, adjustment="split").corporate_actions()
    ] == [0.01]
    assert DataSettings().corporate_actions() == ()


def test_prices_before_a_split_are_put_into_units_after_it(market: Bars, tmp_path: Path) -> None:
    actions = read_actions(file(tmp_path, "SYA,2024-02-01,split,4", "SYB,2027-01-04,split,2"))
    s = market.symbols.index("SYA")
    before = market.times <= actions[0].opens
    adjusted = split_adjusted(market, actions)
    np.testing.assert_array_equal(adjusted.values[s, before, :4], market.values[s, before, :4] / 4)
    np.testing.assert_array_equal(adjusted.values[s, before, 4], market.values[s, before, 4] * 4)
    np.testing.assert_array_equal(adjusted.values[s, ~before], market.values[s, ~before])
    np.testing.assert_array_equal(adjusted.values[s + 1], market.values[s + 1])
