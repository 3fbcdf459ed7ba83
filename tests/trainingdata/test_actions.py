from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import DataError
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.corporate_actions import adjust_for_splits, read_corporate_events
from trainingdata.source import Adjustment, DataSettings

HEAD = "symbol,date,kind,value\n"
TWICE = ("rows 1 and 3", "NVDA", "2024-06-10")

Row = tuple[str, str, str, str]


@st.composite
def sound_rows(draw: st.DrawFn) -> list[Row]:
    """Rows that no session has twice, in any order."""
    days = np.arange(np.datetime64("2024-03-01"), np.datetime64("2024-04-01"))
    # A dividend on the day of a split has to state its share.
    sessions = st.tuples(
        st.sampled_from(["NVDA", "AAPL", "BRK.B"]),
        st.sampled_from(
            [str(day) for day in days if np.is_busday(day) and str(day)[5:] != "03-29"]
        ),
        st.sampled_from(["split", "dividend"]),
    )
    places = draw(st.lists(sessions, min_size=1, max_size=12, unique_by=lambda place: place[:2]))
    values = st.floats(0.01, 100).map(str)
    return [(*place, draw(values)) for place in places]


def file(folder: Path, *rows: str) -> Path:
    path = folder / "actions.csv"
    path.write_text(HEAD + "".join(row + "\n" for row in rows))
    return path


def test_corporate_action_applies_at_its_session_open(tmp_path: Path) -> None:
    """An action dated Saturday applies on Monday; actions are sorted by time."""
    actions = read_corporate_events(
        file(tmp_path, "AAPL,2024-10-10,dividend,0.25", "nvda,2024-06-08,split,10")
    )
    assert [a.symbol for a in actions] == ["NVDA", "AAPL"]
    assert actions[0].effective_open == np.datetime64("2024-06-10T13:30", "ns")
    assert (actions[0].split_ratio, actions[0].dividend) == (10.0, 0.0)
    assert (actions[1].split_ratio, actions[1].dividend) == (1.0, 0.25)


@pytest.mark.parametrize("head", ["Symbol,Date,Kind,Value", "SYMBOL, DATE ,KIND,VALUE"])
@pytest.mark.parametrize("kind", ["Split", "SPLIT"])
def test_action_columns_and_kinds_are_case_insensitive(
    tmp_path: Path, head: str, kind: str
) -> None:
    path = tmp_path / "actions.csv"
    path.write_text(f"{head}\nNVDA,2024-06-10,{kind},10\n")
    assert read_corporate_events(path) == read_corporate_events(
        file(tmp_path, "NVDA,2024-06-10,split,10")
    )


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("Symbol;Date;Kind;Value\nNVDA;2024-06-10;split;10\n", ()),
        ("symbol,date,kind,value,Kind\nNVDA,2024-06-10,split,10,x\n", ("'kind'",)),
    ],
)
def test_unreadable_action_headers_are_refused_naming_the_cause(
    tmp_path: Path, content: str, facts: tuple[str, ...]
) -> None:
    path = tmp_path / "actions.csv"
    path.write_text(content)
    with refused(DataError, *facts):
        read_corporate_events(path)


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ("NVDA,2024-06-10,split,0", ("row 1", "split", "2024-06-10", "0")),
        ("NVDA,2024-06-10,bonus,1", ("kind", "'bonus'")),
        ("BTCUSD,2024-06-10,split,2", ("BTCUSD", "split")),
        ("NVDA,someday,split,2", ("row 1", "date 'someday'")),
        ("NVDA,02/20/2024,split,2", ("date '02/20/2024'", "YYYY-MM-DD")),
        ("NVDA,2024-06-10,split,2:1", ("row 1", "value '2:1'")),
        ("NVDA,2099-06-10,split,2", ("2099-06-10",)),
        ("NVDA,2024,split,2", ("row 1", "date '2024'", "YYYY-MM-DD")),
        (",2024-06-10,split,2", ("''",)),
        # One session has no two splits and no dividend twice, on whatever days they are listed.
        *(
            (f"NVDA,{day},{one}\nAAPL,2024-06-10,split,2\nnvda,2024-06-10,{other}", TWICE)
            for day, one, other in (
                ("2024-06-10", "split,10", "split,4"),
                ("2024-06-08", "split,10", "split,10"),
                ("2024-06-08", "dividend,0.01", "dividend,0.010"),
            )
        ),
    ],
)
def test_invalid_action_row_is_named_in_the_error(
    row: str, facts: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(DataError, *facts):
        read_corporate_events(file(tmp_path, row))


@given(rows=sound_rows(), data=st.data())
def test_corporate_actions_reject_duplicates_in_any_row_order(
    rows: list[Row], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("actions")
    written = read_corporate_events(file(folder, *map(",".join, rows)))
    assert len(written) == len(rows)
    shuffled = data.draw(st.permutations(rows))
    assert read_corporate_events(file(folder, *map(",".join, shuffled))) == written
    k = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(k + 1, len(rows)))
    twice = [*rows[:place], rows[k], *rows[place:]]
    with pytest.raises(DataError, match=rf"rows {k + 1} and {place + 1}: "):
        read_corporate_events(file(folder, *map(",".join, twice)))


@pytest.mark.parametrize(("adjustment", "per_share"), [("raw", (0.5, 3.0)), ("split", (5.0, 30.0))])
def test_dividend_applies_before_split_of_the_same_session(
    tmp_path: Path, adjustment: Adjustment, per_share: tuple[float, float]
) -> None:
    """Raw prices count old shares before the split, adjusted prices new shares throughout."""
    path = tmp_path / "actions.csv"
    path.write_text(
        "symbol,date,kind,value,per\nSYA,2024-02-01,split,0.1,\n"
        "SYA,2024-02-01,dividend,30,new\nSYA,2024-02-01,dividend,0.5,old\n"
    )
    actions = DataSettings(actions=str(path), adjustment=adjustment).actions_in_file()
    assert [a.split_ratio for a in actions] == [1.0, 1.0, 0.1]
    np.testing.assert_allclose([a.dividend for a in actions], [*per_share, 0.0])


def test_dividend_on_a_split_day_states_its_share(tmp_path: Path) -> None:
    path = file(tmp_path, "NVDA,2024-06-10,split,10", "NVDA,2024-06-08,dividend,0.1")
    with refused(DataError, "row 2", "NVDA", "2024-06-08", "old", "new", "per"):
        read_corporate_events(path)
    path.write_text("symbol,date,kind,value,per\nNVDA,2024-06-10,split,10,new\n")
    with refused(DataError, "row 1", "per", "split"):
        read_corporate_events(path)


def test_action_dates_are_read_from_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"symbol": ["NVDA"], "kind": ["split"], "value": [10.0]})
    for number, day in enumerate([pd.Timestamp("2024-06-10"), datetime.date(2024, 6, 10)]):
        path = tmp_path / f"{number}.parquet"
        frame.assign(date=[day]).to_parquet(path)
        assert read_corporate_events(path)[0].effective_open == np.datetime64(
            "2024-06-10T13:30", "ns"
        )


def test_action_already_reflected_in_prices_is_not_booked(tmp_path: Path) -> None:
    path = str(file(tmp_path, "NVDA,2024-06-10,split,10", "NVDA,2024-06-11,dividend,0.01"))
    assert len(DataSettings(actions=path, adjustment="raw").actions_to_book()) == 2
    assert [
        a.dividend for a in DataSettings(actions=path, adjustment="split").actions_to_book()
    ] == [0.01]
    assert DataSettings().actions_to_book() == ()


def test_adjustment_divides_prices_before_a_split(market: Bars, tmp_path: Path) -> None:
    actions = read_corporate_events(
        file(tmp_path, "SYA,2024-02-01,split,4", "SYB,2027-01-04,split,2")
    )
    s = market.symbols.index("SYA")
    before = market.times <= actions[0].effective_open
    adjusted = adjust_for_splits(market, actions)
    np.testing.assert_array_equal(adjusted.values[s, before, :4], market.values[s, before, :4] / 4)
    np.testing.assert_array_equal(adjusted.values[s, before, 4], market.values[s, before, 4] * 4)
    np.testing.assert_array_equal(adjusted.values[s, ~before], market.values[s, ~before])
    np.testing.assert_array_equal(adjusted.values[s + 1], market.values[s + 1])
    left_out = np.zeros(market.mask.shape, dtype=bool)
    left_out[s, 5::7] = market.mask[s, 5::7]
    again = adjust_for_splits(market.drop_bars(left_out), actions).with_unconfirmed_bars()
    np.testing.assert_array_equal(again.values, adjusted.values)
