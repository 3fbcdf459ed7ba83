from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import DataError
from tests.marketsimulator.accounts import panel_of, stock_ends
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.corporate_actions import read_corporate_events
from trainingdata.delistings import (
    BarAbsence,
    Delisting,
    DelistingRules,
    Rename,
    check_delistings,
    earlier_symbols,
    latest_symbol,
)
from trainingdata.sessions import exchange_calendar, first_open_on_or_after
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY

HEAD = "symbol,date,kind,value,into,cash,known\n"
SESSIONS = 12


@st.composite
def panels(draw: st.DrawFn) -> Bars:
    """Three stocks over twelve sessions, of which each has some bars in some; two coins beside."""
    ends = stock_ends("2026-05-04", 7 * SESSIONS)
    hours = ends.astype("datetime64[h]").astype("datetime64[ns]")
    tables = {}
    for symbol in ("AAA", "BBB", "CCC", "BTCUSD", "ETHUSD"):
        times = hours if symbol.endswith("USD") else ends
        present = draw(st.lists(st.booleans(), min_size=SESSIONS, max_size=SESSIONS))
        first = draw(st.integers(0, 6))
        kept = np.repeat(present, 7) & (np.arange(len(times)) % 7 >= first)
        kept[draw(st.integers(0, len(times) - 1))] = True
        tables[symbol] = times[kept], np.ones((int(kept.sum()), 4))
    return panel_of(tables)


def by_hand(bars: Bars, after: int) -> set[tuple[str, str]]:
    """Symbols and sessions: a loop over sessions that counts those which went on without each."""
    opens = exchange_calendar().opens[exchange_calendar().opens >= np.datetime64("2026-05-01")]
    found = set()
    for s, symbol in enumerate(bars.symbols):
        count, begun = 0, False
        for begin, end in pairwise(opens):
            if end > bars.last_instant:
                break
            within = (bars.times > begin) & (bars.times <= end)
            peers = bars.mask[bars.crypto == bars.crypto[s]][:, within].any()
            if bars.mask[s, within].any():
                count, begun = 0, True
            elif begun and peers:
                count += 1
                starts = bars.clock(bars.instruments[s].kind).starts_by_end(bars.times)
                runs = bars.mask[s] & (starts <= end) & (bars.times > end)
                if count == after + 1 and not runs.any():
                    found.add((symbol, str(end)))
    return found


@given(bars=panels(), after=st.integers(1, 5), cut=st.integers(1, 83))
def test_symbol_is_delisted_after_enough_sessions_without_bars(
    bars: Bars, after: int, cut: int
) -> None:
    """No delisting uses later bars, and the end of the data is no delisting."""
    endings = DelistingRules(missed_sessions=after)
    found = endings.booked_delistings(bars)
    assert {(each.symbol, str(each.booked_at)) for each in found} == by_hand(bars, after)
    known = bars.slice_rows(0, min(cut, len(bars.times)))
    at_open = {(each.symbol, each.booked_at) for each in endings.cancelled_delistings(bars)}
    # Within the first bar of a session that a symbol is back in, only its open is known.
    assert tuple(
        each
        for each in endings.booked_delistings(known)
        if (each.symbol, each.booked_at) not in at_open
    ) == tuple(each for each in found if each.booked_at <= known.last_instant)
    assert all(each.last_price_fraction == 0.7 and not each.successor for each in found)
    assert DelistingRules().booked_delistings(bars) == ()


def test_unspecified_delisting_uses_the_default_terms() -> None:
    times = stock_ends("2026-05-04", 7)
    bars = panel_of({"AAA": (times, np.ones((7, 4)))})
    end = Delisting("AAA", times[-1], times[-1], cash_per_share=np.nan)
    (found,) = DelistingRules((end, replace(end, symbol="GONE"))).booked_delistings(bars)
    assert (found.cash_per_share, found.last_price_fraction) == (0.0, 0.7)
    assert DataSettings().delisted_after == 10


@pytest.mark.parametrize(("more", "gone", "missing"), [(0, True, 4), (1, False, 0), (7, False, 0)])
def test_symbol_that_trades_again_is_no_longer_delisted(
    more: int, gone: bool, missing: int
) -> None:
    times = stock_ends("2026-05-04", 56)
    here = np.r_[times[:28], times[56 - more :]]
    bars = panel_of(
        {"AAA": (here, np.ones((len(here), 4))), "BBB": (times, np.ones((len(times), 4)))}
    )
    assert len(DelistingRules(missed_sessions=1).booked_delistings(bars)) == 1
    assert DelistingRules(missed_sessions=1).delisted_mask(bars).tolist() == [gone, False]
    assert BarAbsence.from_bars(bars).missed_sessions_at_end.tolist() == [missing, 0]


@pytest.mark.parametrize("hour", range(7))
def test_trade_at_any_hour_keeps_the_symbol_listed(hour: int) -> None:
    """It trades in the session after two without a bar, at whose open it was paid out before."""
    times = stock_ends("2026-05-04", 56)
    here = np.r_[times[:14], times[28 + hour :]]
    bars = panel_of(
        {"AAA": (here, np.ones((len(here), 4))), "BBB": (times, np.ones((len(times), 4)))}
    )
    endings = DelistingRules(missed_sessions=2)
    assert endings.booked_delistings(bars) == ()
    for last in range(1, len(times)):
        assert endings.booked_delistings(bars.slice_rows(0, last)) == ()
    longer = panel_of({"AAA": (times[:14], np.ones((14, 4))), "BBB": (times, np.ones((56, 4)))})
    (end,) = endings.booked_delistings(longer)
    assert end.booked_at == first_open_on_or_after(np.datetime64("2026-05-11"))


def rows(folder: Path, *lines: str) -> Path:
    path = folder / "actions.csv"
    path.write_text(HEAD + "".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("row", "booked", "worth"),
    [
        ("AAA,2024-06-10,ended,,,,", "2024-06-10T13:30", (np.nan, 0.0, "")),
        ("AAA,2024-06-08,ended,0,,,", "2024-06-10T13:30", (0.0, 0.0, "")),
        ("AAA,2024-06-10,ended,12.5,,,2024-05-01", "2024-06-10T13:30", (12.5, 0.0, "")),
        ("AAA,2024-06-10,ended,1,,,2024-06-12T15:00Z", "2024-06-13T13:30", (1.0, 0.0, "")),
        ("AAA,2024-06-10,ended,1,,,2024-06-12T13:30Z", "2024-06-12T13:30", (1.0, 0.0, "")),
        ("AAA,2024-06-10,ended,1,,,2024-06-12", "2024-06-13T13:30", (1.0, 0.0, "")),
        ("AAA,2024-06-10,merger,0.5,BBB,,", "2024-06-10T13:30", (0.0, 0.5, "BBB")),
        ("AAA,2024-06-10,merger,0.5,bbb,3,", "2024-06-10T13:30", (3.0, 0.5, "BBB")),
        ("BTCUSD,2024-06-09,ended,0,,,", "2024-06-10T13:30", (0.0, 0.0, "")),
    ],
)
def test_delisting_in_actions_file_is_booked_when_known(
    row: str, booked: str, worth: tuple[float, float, str], tmp_path: Path
) -> None:
    (end,) = read_corporate_events(rows(tmp_path, row))
    assert isinstance(end, Delisting)
    assert end.booked_at == np.datetime64(booked, "ns")
    np.testing.assert_equal((end.cash_per_share, end.exchange_ratio, end.successor), worth)
    assert end.last_price_fraction == 0.0


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ("AAA,2024-06-10,merger,0.5,,,", ()),
        ("AAA,2024-06-10,rename,1,,,", ()),
        ("AAA,2024-06-10,merger,0,BBB,,", ("0", "value")),
        ("AAA,2024-06-10,merger,,BBB,,", ()),
        ("AAA,2024-06-10,merger,1,AAA,,", ("AAA",)),
        ("AAA,2024-06-10,merger,1,BBB,much,", ("row 1", "cash 'much'")),
        ("AAA,2024-06-10,rename,2,BBB,,", ("2", "1")),
        ("AAA,2024-06-10,ended,-1,,,", ("-1", "0")),
        ("AAA,2024-06-10,ended,1,BBB,,", ("'into'",)),
        ("AAA,2024-06-10,dividend,1,,,2024-06-01", ("dividend", "'known'")),
        ("AAA,2024-06-10,ended,1,,,2099-01-01", ("2099-01-01",)),
        ("AAA,2024-06-10,ended,1,,,\nAAA,2024-07-10,ended,2,,,", ("rows 1", "2", "AAA")),
    ],
)
def test_invalid_delisting_row_is_named_in_the_error(
    row: str, facts: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(DataError, *facts):
        read_corporate_events(rows(tmp_path, row))


def write(folder: Path, symbol: str, starts: np.ndarray, price: float = 10.0) -> None:
    close = price + np.arange(len(starts)) % 5
    frame = pd.DataFrame({"timestamp": pd.DatetimeIndex(starts, tz="UTC")})
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    frame.assign(**prices, volume=1e6).to_csv(folder / f"{symbol}.csv", index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """OLD until 10 June 2024, NEW from then on, and KEPT, with 70 bars all the time."""
    clock = HOURLY.stock_clock
    first = int(np.searchsorted(clock.starts, np.datetime64("2024-06-03", "ns")))
    starts = clock.starts[first : first + 70]
    place = tmp_path / "bars"
    place.mkdir()
    write(place, "KEPT", starts)
    write(place, "OLD", starts[:35])
    write(place, "NEW", starts[35:])
    return place


def settings(folder: Path, *lines: str) -> DataSettings:
    return DataSettings(dir=(str(folder),), actions=str(rows(folder.parent, *lines)))


RENAME = "OLD,2024-06-10,rename,1,NEW,,"


@pytest.mark.parametrize("symbols", [[], ["NEW", "KEPT"], ["OLD", "NEW", "KEPT"]])
def test_renamed_symbol_appears_under_its_latest_name(symbols: list[str], folder: Path) -> None:
    data = settings(folder, RENAME, "OLD,2024-06-05,dividend,0.1,,,", "OLD,2024-06-11,split,2,,,")
    bars = data.load_panel(symbols, None, None)
    assert bars.symbols == ("KEPT", "NEW")
    np.testing.assert_array_equal(*(bars.bars_of_symbol(s)[0] for s in (0, 1)))
    assert "traded as OLD until 2024-06-10" in bars.provenances[1].notes[0]
    assert [each.symbol for each in data.actions_to_book()] == ["NEW"]
    assert data.build_market(bars).booked_delistings == ()


def test_symbol_is_followed_through_several_renames(folder: Path) -> None:
    starts = HOURLY.stock_clock.starts
    first = int(np.searchsorted(starts, np.datetime64("2024-05-06", "ns")))
    write(folder, "FIRST", starts[first : first + 70])
    data = settings(folder, RENAME, "FIRST,2024-06-01,rename,,OLD,,", "FIRST,2024-05-13,dividend,1")
    bars = data.load_panel(["NEW"], None, None)
    assert bars.symbols == ("NEW",)
    assert bars.mask.sum() == 140
    assert data.actions_to_book()[0].symbol == "NEW"


def test_old_name_applies_through_the_rename_day() -> None:
    open_, later = exchange_calendar().opens[-9:-7]
    renames = [Rename("OLD", open_, "MID"), Rename("MID", later, "NEW")]
    assert latest_symbol("OLD", open_, renames) == "NEW"
    assert latest_symbol("OLD", later, renames) == "OLD"
    assert earlier_symbols(["NEW", "MID", "AAA"], renames) == ["OLD"]


def test_rename_after_the_run_is_ignored(folder: Path) -> None:
    bars = settings(folder, RENAME).load_panel(["OLD", "KEPT"], None, "2024-06-07")
    assert bars.symbols == ("KEPT", "OLD")


@pytest.mark.parametrize(
    ("symbols", "line", "facts"),
    [
        (["OLD", "KEPT"], RENAME, ("OLD", "NEW", "2024-06-10")),
        (["OLD", "KEPT"], "OLD,2024-06-10,merger,1,NEW,,", ("NEW", "2024-06-10")),
        ([], "KEPT,2024-06-10,ended,1,,,", ("KEPT", "2024-06-10")),
        ([], "OLD,2024-06-10,ended,5e6,,,", ("OLD", "2024-06-10", "5,000,000.00")),
        ([], "OLD,2024-06-05,rename,1,NEW,,", ("OLD.csv",)),
        ([], "OLD,2024-06-10,rename,1,KEPT,,", ("KEPT.csv",)),
        ([], "NEW,2024-06-17,ended,1,,,\nOLD,2024-06-10,merger,1,GONE,,", ("GONE",)),
    ],
)
def test_delisting_contradicted_by_bars_is_refused(
    symbols: list[str], line: str, facts: tuple[str, ...], folder: Path
) -> None:
    with refused(DataError, "data.actions", *facts):
        settings(folder, line).load_panel(symbols, None, None)


def test_bars_after_a_listed_delisting_are_refused() -> None:
    times = stock_ends("2026-05-04", 7)
    bars = panel_of({"AAA": (times, np.ones((7, 4)))})
    last = HOURLY.stock_clock.starts_by_end(times[-1:])[0]
    check_delistings(bars, [Delisting("AAA", times[-1], times[-1])])
    with refused(DataError, "AAA", "2026-05-04"):
        check_delistings(bars, [Delisting("AAA", last, last)])
    with refused(DataError, "GONE", "2026-05-04"):
        check_delistings(
            bars, [Delisting("AAA", times[-1], times[-1], exchange_ratio=1.0, successor="GONE")]
        )
    later = times[-1] + np.timedelta64(1, "ns")
    check_delistings(bars, [Delisting("AAA", later, later, exchange_ratio=1.0, successor="GONE")])


def test_merger_into_symbol_without_bars_yet_is_refused(folder: Path) -> None:
    path = folder / "NEW.csv"
    pd.read_csv(path).iloc[7:].to_csv(path, index=False)
    data = settings(folder, "OLD,2024-06-10,merger,1,NEW,,")
    with refused(DataError, "NEW", "2024-06-10"):
        data.load_panel([], None, None)


def test_delistings_and_renames_work_with_dividend_adjusted_prices(folder: Path) -> None:
    data = settings(folder, RENAME, "KEPT,2024-06-17,ended,1,,,")
    whole = DataSettings(dir=data.dir, actions=data.actions, adjustment="all")
    assert [
        end.symbol
        for end in whole.build_market(
            whole.load_panel([], None, None)
        ).delisting_rules.explicit_delistings
    ] == ["KEPT"]


@given(
    left_out=st.lists(st.integers(0, 55), min_size=1, max_size=40, unique=True),
    after=st.integers(1, 3),
    last=st.integers(28, 55),
)
def test_symbol_present_in_every_session_is_never_delisted(
    left_out: list[int], after: int, last: int
) -> None:
    """Rejected bars count as present; if bars stop, the symbol is delisted as before."""
    ends = stock_ends("2026-05-04", 56)
    bars = panel_of({"AAA": (ends, np.ones((56, 4))), "BBB": (ends, np.ones((56, 4)))})
    mask = np.zeros(bars.mask.shape, dtype=bool)
    mask[0, left_out] = True
    doubted = bars.drop_bars(mask)
    assert not BarAbsence.from_bars(doubted).missed_sessions.any()
    assert DelistingRules(missed_sessions=after).booked_delistings(doubted) == ()
    assert not DelistingRules(missed_sessions=after).delisted_mask(doubted).any()
    cut = panel_of({"AAA": (ends[:last], np.ones((last, 4))), "BBB": (ends, np.ones((56, 4)))})
    shorter = cut.drop_bars(mask & cut.mask)
    for part in (shorter, shorter.slice_rows(0, 50), shorter.select(("AAA", "BBB"))):
        whole = cut.slice_rows(0, len(part.times))
        assert np.array_equal(
            BarAbsence.from_bars(part).missed_sessions, BarAbsence.from_bars(whole).missed_sessions
        )
        found, expected = (
            DelistingRules(missed_sessions=after).booked_delistings(each) for each in (part, whole)
        )
        assert [(e.symbol, e.booked_at) for e in found] == [
            (e.symbol, e.booked_at) for e in expected
        ]
        # An unconfirmed last bar states its payout in USD; all prices here are 1.
        assert all(e.cash_per_share + e.last_price_fraction == 0.7 for e in found)
