"""Probabilities of one's own count while they hold; a file that makes no sense changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.sampler import ALERT, EstimateFile, read_estimates
from foundation.errors import InputError
from foundation.notices import Notices

NOON = np.datetime64("2026-11-24T12:00", "ns")
MINUTE = np.timedelta64(1, "m")
ROW = "RAIN,0.62,2026-11-24T12:00:00Z"


class Told(Notices):
    """Alerts by kind, as long as their cause lasts."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.kinds: list[str] = []

    def alert(self, kind: str, text: str) -> None:
        self.kinds.append(kind)

    def end_alert(self, kind: str) -> None:
        self.kinds.clear()


def written(path: Path, *rows: str, header: str = "market,probability,until") -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


@given(
    st.dictionaries(
        st.text("ABC-19", min_size=1, max_size=8),
        st.tuples(st.floats(0, 1), st.integers(-100, 100)),
        max_size=5,
    ),
    st.permutations(("market", "probability", "until")),
)
def test_an_estimate_counts_until_its_own_instant(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, tuple[float, int]], columns: list[str]
) -> None:
    rows = []
    for market, (probability, minutes) in said.items():
        values = {"market": market, "probability": repr(probability)}
        values["until"] = f"{np.datetime_as_string(NOON + minutes * MINUTE, 's')}Z"
        rows.append(",".join(values[name] for name in columns))
    path = written(tmp_path_factory.mktemp("own") / "own.csv", *rows, header=",".join(columns))
    counting = {market: p for market, (p, minutes) in said.items() if minutes > 0}
    assert EstimateFile(path, Told()).at(NOON) == counting


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("market,probability\nRAIN,0.5\n", "its first line has to name"),
        (f"market,probability,until\n{ROW}\n{ROW}\n", "line 3: market 'RAIN' is empty, or stands"),
        ("market,probability,until\nRAIN,1.2,2026-11-24T12:00Z\n", "line 2: probability is 1.2"),
        ("market,probability,until\nRAIN,0.5,2026-11-24T12:00\n", "line 2: no time with a zone"),
        ("market,probability,until\nRAIN,0.5\n", "line 2: .*shorter"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"own\.csv.*{says}") as refused:
        read_estimates(path)
    assert "\n" not in str(refused.value)


def test_what_was_said_last_goes_on_while_a_file_cannot_be_read_and_somebody_is_told(
    tmp_path: Path,
) -> None:
    told = Told()
    path = written(tmp_path / "own.csv", ROW)
    own = EstimateFile(path, told)
    path.write_text("market,proba")
    assert own.at(NOON - MINUTE) == {"RAIN": 0.62}
    path.unlink()
    assert own.at(NOON - MINUTE) == {"RAIN": 0.62}
    assert own.at(NOON) == {}
    assert told.kinds == [ALERT] * 3
    written(path, "RAIN,0.4,2026-11-24T13:00:00Z")
    assert own.at(NOON) == {"RAIN": 0.4}
    assert told.kinds == []
