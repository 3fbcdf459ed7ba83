"""Text files of bars as programs write them: read rightly, or refused in a line that says how."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundation.errors import DataError, InputError
from trainingdata import load_bars
from trainingdata.bars import CLOSE, VOLUME

HEADINGS = "timestamp,open,high,low,close,volume"
ROWS = [
    f"2024-03-0{day}T{hour}:30:00Z,100,101.5,99,100.25,{1000 + hour}"
    for day in (4, 5)
    for hour in range(14, 21)
]
YFINANCE = "Price,Close,High,Low,Open,Volume\nTicker,AAA,AAA,AAA,AAA,AAA\nDatetime,,,,,\n"


def text(rows: list[str] = ROWS, headings: str = HEADINGS) -> str:
    return "\n".join([headings, *rows, ""])


def with_row(number: int, row: str) -> str:
    """The text with another row in the place of one, from 1."""
    return text([*ROWS[: number - 1], row, *ROWS[number:]])


def with_cell(number: int, cell: str) -> str:
    """The text with another close in a row, from 1."""
    cells = ROWS[number - 1].split(",")
    return with_row(number, ",".join([*cells[:4], cell, cells[5]]))


def with_decimal_commas(delimiter: str, volume: str = "") -> str:
    rows = []
    for row in ROWS:
        cells = [cell.replace(".", ",") for cell in row.split(",")]
        cells[5] = volume or cells[5]
        rows.append(delimiter.join(f'"{cell}"' if delimiter == "," else cell for cell in cells))
    return text(rows, HEADINGS.replace(",", delimiter))


def yfinance_rows() -> list[str]:
    cells = [row.split(",") for row in ROWS]
    return [",".join([c[0], c[4], c[2], c[3], c[1], c[5]]) for c in cells]


def put(folder: Path, content: str | bytes, name: str = "AAA.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (text(), ()),
        (text().replace("\n", "\r\n"), ()),
        (text().replace("\n", "\r"), ()),
        (text().rstrip("\n"), ()),
        (text().replace("\n", "\n\n"), ()),
        ("\n\n" + text(), ()),
        (text().encode("utf-8-sig"), ()),
        (text().encode("utf-16"), ()),
        (b"\xfe\xff" + text().encode("utf-16-be"), ()),
        (text().encode("utf-16-le"), ()),
        (text().encode("utf-16-be"), ()),
        (text().encode("utf-32"), ()),
        (gzip.compress(text().encode()), ()),
        (
            text([f"{row},Börse" for row in ROWS], f"{HEADINGS},name").encode("latin-1"),
            ("the text is no UTF-8 and is read as Latin-1",),
        ),
        (text().replace(",", "|"), ()),
        (text().replace(",", "\t"), ()),
        ("sep=;\n" + text().replace(",", ";"), ()),
        (text([f"{row}," for row in ROWS]), ()),
        (text([f"{row}," for row in ROWS], f"{HEADINGS},"), ()),
        (text([f"{k},{row}" for k, row in enumerate(ROWS)], f",{HEADINGS}"), ()),
        (text([f'{row},"a, b"' for row in ROWS], f"{HEADINGS},name"), ()),
        ("\n".join(f'"{line}"' for line in text().split()).replace(",", '","'), ()),
        (text().replace(",", ", "), ()),
        (YFINANCE + "\n".join(yfinance_rows()), ()),
        ("# hours, of AAA\n" + text(), ("a comment line (#) is left out",)),
        (
            with_row(3, f"# a hole\n{ROWS[2]}") + "# end\n",
            ("2 comment lines (#) are left out",),
        ),
        (with_decimal_commas(";"), ("decimal commas are read as points",)),
        (with_decimal_commas(","), ("decimal commas are read as points",)),
    ],
)
def test_the_same_bars_are_read_from_every_text_of_them(
    tmp_path: Path, content: str | bytes, notes: tuple[str, ...]
) -> None:
    bars = load_bars(put(tmp_path, content))
    assert bars.mask.sum() == len(ROWS)
    assert bars.values[0, :, CLOSE].tolist() == [100.25] * len(ROWS)
    assert bars.values[0, :, VOLUME].tolist() == [1000.0 + hour for hour in range(14, 21)] * 2
    assert bars.times[0] == np.datetime64("2024-03-04T15:30")
    assert bars.origins[0].notes == notes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (with_cell(4, ""), r"row 4: close is nan \(empty\), not a number; leave the row out"),
        (with_cell(4, "null"), "row 4: close is 'null', not a number; leave the row out"),
        (with_cell(4, "$100.25"), r"row 4: close is '\$100.25', not a number; write plain numbers"),
        (with_cell(4, '"1,100.25"'), r"row 4: close is '1,100.25', .* nothing between thousands"),
        (with_cell(4, "True"), "row 4: close is 'True', not a number"),
        (text([row.replace("100,", "True,", 1) for row in ROWS]), "row 1: open is True, not a num"),
        (
            with_row(4, "," + ROWS[3].partition(",")[2]),
            r"row 4: timestamp nan \(empty\) is no date",
        ),
        (with_row(4, ROWS[3][:30]), r"row 4: low is nan \(empty\)"),
        (
            with_row(4, f"{ROWS[3]},7"),
            r"row 4 \(line 5\) has 7 cells under 6 headings, '7' is one too many; give every",
        ),
        (with_row(4, f"{ROWS[3]},7,8,9"), r"row 4 \(line 5\) has 9 cells under 6 headings, '7'"),
        (
            "# one\n\n" + text([f"{k},{row}" for k, row in enumerate(ROWS)]),
            r"row 1 \(line 4\) has 7 cells under 6 headings",
        ),
        (
            text([f"{row},{chr(34) * (k == 3)}x" for k, row in enumerate(ROWS)], f"{HEADINGS},n"),
            r"row 4 \(line 5\): a quotation mark is opened there and not closed in its line",
        ),
        (
            text(
                [f"{row},{chr(34) if k in (3, 8) else 'x'}" for k, row in enumerate(ROWS)],
                f"{HEADINGS},n",
            ),
            r"row 4 \(line 5\): a quotation mark is opened there and not closed in its line",
        ),
        (
            text()[:200].encode() + b"\0" * 300,
            r"line 5 holds zero bytes, as of a file that was cut",
        ),
        (b"\0" * 500, "line 1 holds zero bytes"),
        (b"PK\x03\x04\x14\0\x06\0", "the file is an Excel workbook or another zip archive and no"),
        (b"PAR1\x15\x04", r"the file is a Parquet file; call it so, \.parquet"),
        (
            with_decimal_commas(";", volume="1.000"),
            "row 1: high is '101,5', not a number; write plain numbers",
        ),
        (
            text()
            .replace(".5", ",500")
            .replace(",", ";")
            .replace(";500", ",500")
            .replace(".25", ""),
            r"row 1: high '101,500' may be a decimal comma or one between thousands",
        ),
        (text().replace(",", " "), "the first line has to hold the headings, with commas, semicol"),
        (text(ROWS[1:], ROWS[0]), "the first line has to hold the headings"),
        (text([HEADINGS, *ROWS]), "row 1: timestamp 'timestamp' is no date"),
        (text([]), "the file holds no bars"),
        ("\n \n", "the file is empty"),
        ("# nothing\n", "the file is empty"),
    ],
)
def test_a_text_that_leaves_doubt_is_refused_in_a_line_that_says_where_and_what_to_do(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    path = put(tmp_path, content)
    with pytest.raises(DataError, match=says) as refused:
        load_bars(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert "\0" not in line
    assert len(line) < len(str(path)) + 320


def test_a_quotation_mark_that_swallows_a_large_file_is_named_by_its_row(tmp_path: Path) -> None:
    rows = [*ROWS[:3], f'"{ROWS[3]}', *ROWS * 400]
    with pytest.raises(DataError, match=r"row 4 \(line 5\): a quotation mark is opened there"):
        load_bars(put(tmp_path, text(rows)))


def test_a_first_column_called_price_costs_no_rows(tmp_path: Path) -> None:
    """It is yfinance's heading only where no other column says when."""
    bars = load_bars(put(tmp_path, text([f"5,{row}" for row in ROWS], f"Price,{HEADINGS}")))
    assert bars.mask.sum() == len(ROWS)


@given(st.integers(0, len(text()) - 1), st.sampled_from('",;|#\0\n 7x-.'), st.booleans())
@example(text().index("2024-03-04T16"), '"', False)
@settings(max_examples=150, deadline=None)
def test_a_wrong_character_never_loses_a_row_in_silence(
    place: int, character: str, instead: bool
) -> None:
    changed = text()[:place] + character + text()[place + instead :]
    with tempfile.TemporaryDirectory() as folder:
        try:
            bars = load_bars(put(Path(folder), changed))
        except DataError:
            return
    assert bars.mask.sum() == len(ROWS) or bars.origins[0].notes


def test_words_in_a_column_that_is_not_read_are_left_alone(tmp_path: Path) -> None:
    rows = [f"{row},{word}" for row, word in zip(ROWS, ["n/a", "", "1", "x"] * 4, strict=False)]
    assert load_bars(put(tmp_path, text(rows, f"{HEADINGS},trades"))).mask.sum() == len(ROWS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ETHBTC", "ETHBTC is quoted in BTC; prices have to be in dollars, as those of ETHUSD are"),
        ("eth-btc_1h", "ETH-BTC is quoted in BTC; prices have to be in dollars"),
        ("SOLEUR", "SOLEUR is quoted in EUR; prices have to be in dollars"),
        ("USDJPY", "USDJPY is quoted in JPY; prices have to be in dollars$"),
        ("EURUSD", "EURUSD is an exchange rate; only stocks and coins against the dollar can be"),
    ],
)
def test_pairs_that_are_not_coins_in_dollars_are_refused_by_name(
    tmp_path: Path, name: str, reason: str
) -> None:
    """Six letters would pass for a stock, and a currency for a coin."""
    path = put(tmp_path, text(), f"{name}.csv")
    with pytest.raises(DataError, match=rf"the name of .* says no symbol: {reason}"):
        load_bars(path)
    put(tmp_path, text(), "AAA.csv")
    with pytest.raises(DataError, match="name the symbols you want, or move it"):
        load_bars(tmp_path)
    assert load_bars(tmp_path, symbols=["AAA"]).symbols == ("AAA",)
    with pytest.raises(InputError, match=f"symbols: {reason}"):
        load_bars(tmp_path, symbols=[name.removesuffix("_1h")])
