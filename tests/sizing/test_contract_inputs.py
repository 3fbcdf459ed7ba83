"""What the autoscaler is given, by callers, files and the environment: read as it is meant, or
refused in a line.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.decimals import exact_number, plain_number
from foundation.errors import InputError
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.autoscaler.rules import AutoscalingSettings, Statistics, contracts_for
from option_spreads.autoscaler.trades import ClosedTrade, csv_of, rows_of
from option_spreads.contracts import (
    autoscaling_settings,
    calculate_position_size,
    get_max_risk_for_strategy,
)
from tests.commands import run_command

COLUMNS = (
    "Timestamp_ET,Trade_ID,Strategy,Strikes,Entry_Credit,Position_Size,Exit_Time,P/L_$,Exit_Reason"
)
TRADE = ClosedTrade("a", "PUT", 1, Decimal(5), "2024-10-01 15:45", "TP")
WIN = "2024-10-01 10:00,w{k},PUT,5700/5695,2.50,1,16:00,100,TP"
LOSS = "2024-10-01 10:00,l{k},PUT,5700/5695,2.50,1,16:00,-90,SL"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOSCALING_DATA_DIR", str(tmp_path))
    return tmp_path


def account_of(root: Path, *rows: str, balance: str = "20000") -> Path:
    folder = root / "paper"
    folder.mkdir(exist_ok=True)
    (folder / "trades.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    content = f'{{"balance": {balance}, "total_trades": {len(rows)}}}'
    (folder / "account_balance.json").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("capital", "share", "line"),
    [(20_000.0, 0.56, "11200"), (25_000.0, 0.55, "13750"), (10_000.0, 0.07, "700")],
)
def test_the_halt_begins_below_the_very_share_of_the_capital_and_not_beside_it(
    capital: float, share: float, line: str
) -> None:
    """In floats 20,000 x 0.56 is 11200.000000000002, and a balance of $11,200 lies below it."""
    assert Fraction(line) != Fraction(str(capital * share))
    settings = AutoscalingSettings(STARTING_CAPITAL=capital, SAFETY_HALT_PCT=share)
    assert settings.floor == Fraction(line)
    at, below = (
        contracts_for(balance, Statistics.of([]), 0, Fraction(250), settings)
        for balance in (Fraction(line), Fraction(line) - Fraction(1, 10_000))
    )
    assert (at.number, below.number, below.halted) == (1, 0, True)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("account_balance", {"account_balance": "20000"}),
        ("account_balance", {"account_balance": True}),
        ("account_balance", {"account_balance": 10**400}),
        ("account_balance", {"account_balance": Decimal("sNaN")}),
        ("max_risk_per_contract", {"max_risk_per_contract": "250"}),
        ("max_risk_per_contract", {"max_risk_per_contract": 1e-300}),
        ("max_risk_per_contract", {"max_risk_per_contract": -5.0}),
        ("account_balance", {"account_balance": float("nan")}),
        ("mode", {"mode": 1}),
        ("verbose", {"verbose": "no"}),
    ],
)
def test_an_argument_of_another_type_or_size_is_refused_by_name_in_a_line(
    root: Path, name: str, wrong: dict[str, Any]
) -> None:
    right = {"account_balance": 20_000, "max_risk_per_contract": 250}
    with pytest.raises(InputError, match=f"^{name}: ") as refusal:
        calculate_position_size(**{**right, **wrong})
    assert len(str(refusal.value)) < 200
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("strategy", (None, 2.5)),
        ("entry_credit", ("PUT", "2.5")),
        ("entry_credit", ("PUT", float("nan"))),
        ("width", ("PUT", 2.5, "5")),
        ("width", ("PUT", 2.5, float("inf"))),
    ],
)
def test_a_spread_of_other_types_is_refused_by_name(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=f"^{name}: "):
        get_max_risk_for_strategy(*arguments)


def test_numbers_of_any_numeric_type_are_taken_for_their_digits(root: Path) -> None:
    account_of(root, *(WIN.format(k=k) for k in range(10)), *(LOSS.format(k=k) for k in range(10)))
    for risk in (250, 250.0, Decimal("250.0"), Fraction(250), np.int64(250), np.float32(250)):
        assert calculate_position_size(20_000, risk) == 2  # type: ignore[arg-type]
    assert exact_number(0.1, "x") == Fraction(1, 10)
    assert exact_number(Fraction(1, 3), "x") == Fraction(1, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"position_size": 1.5},
        {"position_size": 2_000_000},
        {"total": 5.0},
        {"total": Decimal("1e99")},
        {"trade_id": 7},
        {"trade_id": "a\rb"},
        {"trade_id": "a\nb"},
    ],
)
def test_a_trade_that_its_file_could_not_be_read_with_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(TRADE, **wrong)


@pytest.mark.parametrize("word", ["1_000", "１000", "٣", "1 000", "1,5", "NaN", "0x10", "", "1e"])
def test_only_plain_digits_are_numbers(word: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        plain_number(word)
    assert [plain_number(each) for each in ("1000", "-2.50", "+.5", "1E3")] == [
        1000,
        Decimal("-2.5"),
        Decimal("0.5"),
        1000,
    ]


@pytest.mark.parametrize("column", ["Position_Size", "P/L_$"])
@pytest.mark.parametrize("word", ["1_0", "１"])
def test_a_row_with_a_slip_in_its_number_is_unknown_state(
    root: Path, column: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    columns = COLUMNS.split(",")
    cells = WIN.format(k=0).split(",")
    cells[columns.index(column)] = word
    account_of(root, ",".join(cells))
    assert calculate_position_size(max_risk_per_contract=250) == 0
    assert f"row 1: {column} is '{word}', not a number" in caplog.text


@pytest.mark.parametrize("word", ["1_0", "３"])
def test_variables_and_flags_have_no_underscores_and_no_wide_digits(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    with pytest.raises(InputError, match="MAX_CONTRACTS"):
        autoscaling_settings(f"MAX_CONTRACTS={word}")
    monkeypatch.setenv("MAX_CONTRACTS", word)
    with pytest.raises(InputError, match=f"{word}.*environment variable .*MAX_CONTRACTS"):
        autoscaling_settings()


def test_the_earlier_name_of_the_cap_is_in_force_where_the_usual_one_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAX_CONTRACTS_PER_TRADE", "7")
    assert autoscaling_settings().MAX_CONTRACTS == 7
    monkeypatch.setenv("MAX_CONTRACTS", "5")
    assert autoscaling_settings().MAX_CONTRACTS == 5
    assert autoscaling_settings("MAX_CONTRACTS=4").MAX_CONTRACTS == 4
    with pytest.raises(InputError, match="did you mean MAX_CONTRACTS"):
        autoscaling_settings("MAX_CONTRACTS_PER_TRADE=4")


@pytest.mark.parametrize("blank", ["", " "])
def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for name in ("MAX_CONTRACTS", "STARTING_CAPITAL", "KELLY_CONFIDENCE", "ALERT_URL"):
        monkeypatch.setenv(name, blank)
    assert autoscaling_settings() == AutoscalingSettings()
    monkeypatch.setenv("MAX_CONTRACTS_PER_TRADE", "4")
    assert autoscaling_settings().MAX_CONTRACTS == 4
    monkeypatch.setenv("MAX_CONTRACTS_PER_TRADE", blank)
    assert autoscaling_settings().MAX_CONTRACTS == 3
    with pytest.raises(InputError, match="variable MAX_CONTRACTS is not set"):
        autoscaling_settings("MAX_CONTRACTS=${oc.env:MAX_CONTRACTS}")


def test_the_word_null_is_none_in_the_environment_where_that_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("KELLY_CONFIDENCE", "DRAWDOWN_HALT_PCT", "DRAWDOWN_RESUME_PCT", "ALERT_URL"):
        monkeypatch.setenv(name, "null")
    assert autoscaling_settings() == AutoscalingSettings()
    monkeypatch.setenv("MAX_CONTRACTS", "null")
    with pytest.raises(InputError, match="'null' is no whole number"):
        autoscaling_settings()


def test_an_id_has_no_line_break_and_a_carriage_return_elsewhere_comes_back(root: Path) -> None:
    with pytest.raises(ValueError, match="row 1: Trade_ID 'a\\\\rb' has a line break"):
        rows_of(f'{COLUMNS}\n2024,"a\rb",PUT,,2.5,1,16:00,5,TP\n'.encode())
    files = AccountFiles(root / "paper", 20_000)
    files.initialise()
    trade = replace(TRADE, exit_reason="stop\rthen target", more={"Note": "x\ry"})
    files.record(trade)
    state = files.record(replace(TRADE, trade_id="b"))
    assert [float(flow) for flow in state.flows] == [5, 5]
    columns, rows = rows_of((root / "paper" / "trades.csv").read_bytes())
    assert (rows[0]["Exit_Reason"], rows[0]["Note"]) == ("stop\rthen target", "x\ry")
    assert rows_of(csv_of(columns, rows).encode()) == (columns, rows)


def test_an_id_is_the_same_with_blanks_around_it(root: Path) -> None:
    account_of(root, "2024, a ,PUT,,2.5,1,16:00,5,TP", balance="20005")
    state = AccountFiles(root / "paper", 20_000).record(TRADE)
    assert [float(flow) for flow in state.flows] == [5]


@pytest.mark.parametrize("name", ["account_balance.json", ".update.json"])
def test_a_byte_order_mark_is_no_damage(root: Path, name: str) -> None:
    folder = account_of(root, WIN.format(k=0), balance="20100")
    (folder / "trades.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "trades.csv").read_bytes())
    contents = {
        "account_balance.json": (folder / "account_balance.json").read_text(),
        ".update.json": json.dumps(
            {each: (folder / each).read_text("utf-8-sig")
             for each in ("trades.csv", "account_balance.json")}
        ),
    }  # fmt: skip
    (folder / name).write_text(contents[name], "utf-8-sig")
    assert calculate_position_size(max_risk_per_contract=250) == 1
    assert not list(folder.glob("*.aside-*"))


SIZED = "from option_spreads.contracts import calculate_position_size as size\n"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("before", "shown", "logged"),
    [
        ("", 1, 0),
        ("import logging; logging.basicConfig(level=logging.INFO)\n", 0, 1),
        (
            "import logging; logging.basicConfig(level=logging.INFO)\n"
            "logging.getLogger('option_spreads').propagate = False\n",
            1, 0,
        ),
    ],
)  # fmt: skip
def test_verbose_lines_are_seen_once_whatever_logging_was_set_up(
    tmp_path: Path, before: str, shown: int, logged: int
) -> None:
    script = tmp_path / "size.py"
    script.write_text(f"{before}{SIZED}size(20_000, 250)\nsize(20_000, 250, verbose=False)\n")
    done = run_command([str(script)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("[AUTOSCALING] Account Balance: $20,000", "Position sizing: 1 contract(s)"):
        assert (done.stdout.count(text), done.stderr.count(text)) == (shown, logged)


def test_the_line_of_a_decision_says_position_sizing_balance_and_why(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        calculate_position_size(20_000.5, 250)
    assert (
        "Position sizing: 1 contract(s) at a balance of $20,000.50 and a risk of $250:"
        " bootstrap: 0 of 10 trades"
    ) in caplog.messages


def test_the_share_of_kelly_is_a_setting(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kelly 0.05 of 20,000 at a risk of 250: 2 contracts of the half, 4 of the whole, 1 of 0.25."""
    account_of(root, *(WIN.format(k=k) for k in range(10)), *(LOSS.format(k=k) for k in range(10)))
    monkeypatch.setenv("MAX_CONTRACTS", "100")
    found = []
    for fraction in ("0.5", "1", "0.25"):
        monkeypatch.setenv("KELLY_FRACTION", fraction)
        with caplog.at_level(logging.INFO):
            found.append(calculate_position_size(20_000, 250))
    assert found == [2, 4, 1]
    lines = [each for each in caplog.messages if "| " in each and "Kelly%" in each]
    assert [line.partition("| ")[2] for line in lines] == [
        "Half-Kelly%: 2.50%",
        "Full-Kelly%: 5.00%",
        "0.25-Kelly%: 1.25%",
    ]
    assert [each.rpartition(": ")[2] for each in caplog.messages if "Position sizing" in each] == [
        "half-Kelly",
        "full-Kelly",
        "0.25-Kelly",
    ]
    monkeypatch.setenv("KELLY_FRACTION", "0")
    with pytest.raises(InputError, match="KELLY_FRACTION"):
        autoscaling_settings()
