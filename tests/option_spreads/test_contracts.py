"""The account that contracts are sized from: whole after every crash, and no order where it is
not known.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.decimals import plain_number
from foundation.errors import InputError
from option_spreads.autoscaler import account
from option_spreads.autoscaler.account import AccountFiles, UnknownState
from option_spreads.autoscaler.trades import ClosedTrade
from option_spreads.contracts import (
    autoscaling_settings,
    calculate_position_size,
    get_max_risk_for_strategy,
    read,
    run,
)
from tests.option_spreads.sold import HEADER, file_of, printed

UNBOUNDED = ("1e9999999", "-1e9999999", "1e-9999999", "1e16", "sNaN")  # no amounts and no sizes


def trade(name: str, total: str, size: int = 1) -> ClosedTrade:
    return ClosedTrade(name, "PUT", size, Decimal(total), "2024-10-01 15:45", "TP")


def folder_of(
    root: Path, rows: list[str], balance: str = "20000", total: int | None = None
) -> Path:
    folder = root / "paper"
    folder.mkdir(parents=True, exist_ok=True)
    file_of(folder, *rows)
    count = len(rows) if total is None else total
    told = f'{{"balance": {balance}, "trades": [], "total_trades": {count}}}'
    (folder / "account_balance.json").write_text(told)
    return folder


def row(name: str, total: str, size: str = "1", exit_time: str = "16:00") -> str:
    return f"2024-10-01 10:00,{name},PUT,5700/5695,2.50,{size},{exit_time},{total},TP"


def shown(*words: str) -> str:
    """What the command prints."""
    result = run(read(words)[0])
    return printed((*result.tables, *result.sentences))


TRADE = trade("a", "5")
# Kelly 0.05: of 20,000 at a risk of 250 half of it is exactly 2 contracts.
EVEN = [row(f"w{k}", "100") for k in range(10)] + [row(f"l{k}", "-90") for k in range(10)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOSCALING_DATA_DIR", str(tmp_path))
    return tmp_path


def test_the_account_of_the_specification_is_one_contract_and_says_why(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row(f"w{k}", "56.00") for k in range(11)] + [row(f"l{k}", "-34.62") for k in range(33)]
    rows.append(row("last", "-34.54"))  # the average that rounds to 34.62 with a Kelly of -22.26 %
    folder_of(root, rows, "19995")
    with caplog.at_level(logging.INFO):
        assert calculate_position_size(max_risk_per_contract=250) == 1
    lines = [each.message for each in caplog.records if each.message.startswith("[AUTOSCALING]")]
    assert lines == [
        "[AUTOSCALING] Account Balance: $19,995, sized from the trades' $19,439",
        "[AUTOSCALING] Trade History: 45 trades (11 wins, 34 losses)",
        "[AUTOSCALING] Win Rate: 24.4% | Avg Win: $56.00 | Avg Loss: $34.62",
        "[AUTOSCALING] Kelly%: -22.26% | Half-Kelly%: -11.13%",
        "[AUTOSCALING] Max Risk: $250 | Position Size: 1 contract(s)",
    ]


def test_results_are_per_contract_whatever_the_size(root: Path) -> None:
    """Totals of 3 contracts read as per contract would be three times as large."""
    rows = [row(f"w{k}", "300", "3") for k in range(10)] + [
        row(f"l{k}", "-90", "") for k in range(10)
    ]
    folder_of(root, rows)
    assert calculate_position_size(max_risk_per_contract=250) == 2


def test_a_balance_given_without_files_has_no_history_and_without_a_balance_nothing_is_known(
    root: Path,
) -> None:
    assert calculate_position_size(20_000, 250) == 1
    assert calculate_position_size(9_000, 250) == 0
    assert calculate_position_size(max_risk_per_contract=250) == 0
    (root / "paper").mkdir()
    (root / "paper" / "trades.csv").write_text(HEADER + "\n")
    assert calculate_position_size(20_000, 250) == 0, "one file without the other is no account"


def test_the_lower_of_balance_and_trades_is_sized_from_and_a_difference_is_told(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row(f"w{k}", "300", "3") for k in range(10)] + [row("l", "-9000")]
    folder_of(root, rows, "20000")
    with caplog.at_level(logging.INFO):
        assert calculate_position_size(max_risk_per_contract=250) > 0
    assert "ALERT balance" in caplog.text
    assert "the balance is $20,000.00, STARTING_CAPITAL and the trades add up to $14,000.00" in (
        caplog.text
    )
    folder_of(root, [*rows, row("m", "-4500")], "20000")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert calculate_position_size(max_risk_per_contract=250) == 0, "9,500 is in the halt"
    assert "balance $9,500.00 by the trades, the file says $20,000.00" in caplog.text
    caplog.clear()
    folder_of(root, rows, "14000.004")
    with caplog.at_level(logging.INFO):
        calculate_position_size(max_risk_per_contract=250)
    assert "ALERT balance" not in caplog.text
    folder_of(root, rows, "9000")
    with caplog.at_level(logging.INFO):
        calculate_position_size(max_risk_per_contract=250)
    assert "[AUTOSCALING] Account Balance: $14,000" in caplog.messages
    assert "[AUTOSCALING] Account Balance: $9,000" in caplog.messages, "the lower one is the file's"


@pytest.mark.parametrize(
    "content",
    [
        '{"trades.csv": null, "account_balance.json": 5}',
        '{"trades.csv": "x", "account_balance.json": "{}"}',
        "[" * 100_000,
        "[]",
    ],
)
def test_an_update_that_says_nothing_replaces_nothing(root: Path, content: str) -> None:
    folder = folder_of(root, [row("w", "5")], "20005")
    before = (folder / "trades.csv").read_text()
    (folder / ".update.json").write_text(content)
    assert calculate_position_size(max_risk_per_contract=250) == 0
    assert (folder / "trades.csv").read_text() == before


def test_live_and_paper_are_two_accounts(root: Path) -> None:
    AccountFiles(root / "paper", 20_000).initialise()
    assert (calculate_position_size(mode="PAPER"), calculate_position_size(mode="LIVE")) == (1, 0)
    with pytest.raises(InputError, match="neither PAPER nor LIVE"):
        calculate_position_size(mode="DEMO")


def test_environment_variables_are_in_force(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTSTRAP_MODE", "prior")
    monkeypatch.setenv("MAX_CONTRACTS", "100")
    assert calculate_position_size(20_000, 150) == 27
    monkeypatch.setenv("CONDOR_RISK", "table")
    assert get_max_risk_for_strategy("IRON_CONDOR", 2.7) == 250
    monkeypatch.setenv("MAX_CONTRACTS", "lots")
    with pytest.raises(InputError, match="environment variable MAX_CONTRACTS"):
        calculate_position_size(20_000, 150)


@pytest.mark.parametrize(
    ("rows", "total"),
    [
        *(([row("a", word)], None) for word in ("nan", "much", "1e400", "", "1_0", *UNBOUNDED)),
        *(([row("a", "10", n)], None) for n in ("0", "1.5", "-2", "１", *UNBOUNDED)),
        ([row("a", "10"), row("a", "12")], None),
        ([row("a", "10") + ",more"], None),
        (["a,b"], None),
        (['2024,"a,PUT'], None),
        ([row('"a\nb"', "10")], None),
        ([row("a", "10")], 7),
    ],
)
def test_a_row_that_cannot_be_read_stops_trading(
    root: Path, caplog: pytest.LogCaptureFixture, rows: list[str], total: int | None
) -> None:
    folder = folder_of(root, rows, total=total)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert calculate_position_size(max_risk_per_contract=250) == 0
    assert "Unknown state, 0 contracts" in caplog.text
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name in before} == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        *(f'{{"balance": {word}, "total_trades": 2}}' for word in ("NaN", '"20000"', *UNBOUNDED)),
    ],
)
def test_a_corrupt_balance_is_set_aside_and_rebuilt_and_the_call_that_finds_it_orders_nothing(
    root: Path, content: str
) -> None:
    folder = folder_of(
        root,
        [row("a", "100"), row("b", "-30", "3"), "2024-10-02,d,DEPOSIT,,,,10:00,5000,"],
        total=2,
    )
    (folder / "account_balance.json").write_text(content)
    assert calculate_position_size(max_risk_per_contract=250) == 0
    (aside,) = folder.glob("account_balance.json.aside-*")
    assert aside.read_text() == content
    told = json.loads((folder / "account_balance.json").read_text())
    assert (told["balance"], told["total_trades"]) == (25_070, 2)
    assert calculate_position_size(max_risk_per_contract=250) == 1


def test_real_money_without_a_trade_is_sized_only_once_a_person_has_confirmed_its_balance(
    root: Path,
) -> None:
    folder_of(root, []).rename(root / "live")
    damaged = '{"balance": NaN, "total_trades": 0}'
    path = root / "live" / "account_balance.json"
    path.write_text(damaged)
    before = sorted(root.rglob("*.*"))
    for _ in range(3):
        assert calculate_position_size(mode="LIVE", max_risk_per_contract=250) == 0
    with pytest.raises(UnknownState, match="contracts recover LIVE STARTING_CAPITAL=USD"):
        shown("LIVE")
    assert path.read_text() == damaged
    assert [each for each in sorted(root.rglob("*.*")) if each.name != ".lock"] == before
    with pytest.raises(InputError, match=r"^STARTING_CAPITAL: "):
        shown("LIVE", "recover")
    confirmed = shown("LIVE", "recover", "STARTING_CAPITAL=35000")
    assert f"Written: {path} and {path.with_name('trades.csv')}; LIVE" in confirmed
    assert "account, $35,000.00: STARTING_CAPITAL and 0 trades." in confirmed
    assert [each.read_text() for each in path.parent.glob("*.aside-*")] == [damaged]
    assert calculate_position_size(mode="LIVE", max_risk_per_contract=250) == 1


def test_an_update_is_booked_once_and_keeps_further_columns(root: Path) -> None:
    folder = folder_of(
        root,
        [row("open", "", exit_time="").replace("TP", "") + ",x", row("old", "5", "") + ",y"],
        "20005",
        total=1,
    )
    text = (folder / "trades.csv").read_text().replace(HEADER, HEADER + ",Note")
    (folder / "trades.csv").write_text(text)
    files = AccountFiles(folder, 20_000)
    for _ in range(2):
        state = files.record(trade("open", "-12.34", 2))
    assert (float(state.balance), len(state.results), state.results[-1]) == (
        19_992.66,
        2,
        Decimal("-6.17"),
    )
    assert [line.split(",")[-1] for line in (folder / "trades.csv").read_text().splitlines()] == [
        "Note",
        "y",
        "x",
    ]
    with pytest.raises(InputError, match="booked already"):
        files.record(trade("open", "12.34", 2))


@given(st.data())
def test_files_that_were_tampered_with_crash_nothing_and_size_nothing_unknown(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes of either file changed, cut or added: 0 contracts, or an account that reads whole."""
    root = tmp_path_factory.mktemp("account")
    folder = folder_of(root, [row(f"t{k}", str(100 - 40 * (k % 3))) for k in range(12)], "20720")
    path = folder / data.draw(st.sampled_from(["trades.csv", "account_balance.json"]))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "replace"]))
    if how == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del content[at:]
    elif how == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    elif how == "replace":
        content = bytearray(data.draw(st.binary(max_size=200)))
    path.unlink() if how == "remove" else path.write_bytes(bytes(content))
    before = path.read_bytes() if path.exists() else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOSCALING_DATA_DIR", str(root))
        size = calculate_position_size(max_risk_per_contract=250)
    assert size in (0, 1, 2, 3)
    if size:
        state = AccountFiles(folder, 20_000).read()
        assert len(state.results) == 12
    asides = [p.read_bytes() for p in folder.glob("*.aside-*")]
    kept = path.read_bytes() if path.exists() else None
    assert before in (kept, *asides), "nothing is overwritten"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(8))
def test_an_update_killed_at_any_step_loses_and_doubles_no_trade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """While journal and files are written and put in place, and as the journal ends."""
    files = AccountFiles(tmp_path / "paper", 20_000)
    files.initialise()
    files.record(trade("a", "5"))
    steps = itertools.count()

    def dying(does: Callable[..., Any]) -> Callable[..., Any]:
        def deadly(*given: Any, **more: Any) -> None:
            if next(steps) == step:
                raise Killed
            does(*given, **more)

        return deadly

    with monkeypatch.context() as patch:
        for name in ("put_whole", "flush_to_disk"):
            patch.setattr(account, name, dying(getattr(account, name)))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(Killed):
            files.record(trade("b", "-50", 2))
    state = AccountFiles(tmp_path / "paper", 20_000).read()
    assert (float(state.balance), len(state.results)) in {(20_005.0, 1), (19_955.0, 2)}
    state = files.record(trade("b", "-50", 2))
    assert (float(state.balance), state.results) == (19_955.0, (5, -25))
    assert not (tmp_path / "paper" / ".update.json").exists()


def test_the_command_shows_begins_and_recovers_an_account(root: Path) -> None:
    with pytest.raises(UnknownState, match="init` begins one"):
        shown()
    begun = shown("init")
    for text in (
        "Account Balance: $20,000",
        "IRON_CONDOR",
        "$230",
        "$900",
        "may well carry 3 contracts; MAX_CONTRACTS is 3",
        f"Written: {root / 'paper' / 'account_balance.json'} and",
        "PAPER account, $20,000.00: STARTING_CAPITAL and 0 trades.",
    ):
        assert text in begun
    (root / "paper" / "account_balance.json").unlink()
    with pytest.raises(UnknownState):
        shown()
    shown("recover")
    assert shown("PAPER", "CONDOR_RISK=table").count("$250") == 3
    assert "PAPER account, " in shown()
    for wrong, says in (
        (["init"], "there is an account already"),
        (["LIVE"], "init LIVE` begins one"),
        (["DEMO"], "DEMO: neither"),
        (["MAX_CONTRACTS=0"], "MAX_CONTRACTS"),
        (["init", "recover"], "one task at a time"),
    ):
        with pytest.raises(InputError, match=says):
            shown(*wrong)


@pytest.mark.parametrize("task", [[], ["init"], ["recover"]])
def test_where_the_trades_are_missing_every_task_says_the_one_thing_to_do(
    root: Path, task: list[str]
) -> None:
    (folder_of(root, [row("a", "5")]) / "trades.csv").unlink()
    with pytest.raises(UnknownState, match=r"put it back$"):
        shown(*task)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("account_balance", wrong) for wrong in ("20000", True, 10**400, Decimal("sNaN"), nan)),
        *(("max_risk_per_contract", wrong) for wrong in ("250", 1e-300, -5.0)),
        ("mode", 1),
    ],
)
def test_an_argument_of_another_type_or_size_is_refused_by_name_in_a_line(
    root: Path, name: str, wrong: Any
) -> None:
    right = {"account_balance": 20_000, "max_risk_per_contract": 250}
    with pytest.raises(InputError, match=f"^{name}: ") as refusal:
        calculate_position_size(**{**right, name: wrong})
    assert len(str(refusal.value)) < 200
    assert "\n" not in str(refusal.value)


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


def test_the_earlier_name_of_the_cap_is_in_force_where_the_usual_one_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAX_CONTRACTS_PER_TRADE", "7")
    assert autoscaling_settings().MAX_CONTRACTS == 7
    monkeypatch.setenv("MAX_CONTRACTS", "5")
    assert autoscaling_settings().MAX_CONTRACTS == 5
    assert autoscaling_settings("MAX_CONTRACTS=4").MAX_CONTRACTS == 4
    with pytest.raises(InputError, match=r"^MAX_CONTRACTS_PER_TRADE: there is no such setting"):
        autoscaling_settings("MAX_CONTRACTS_PER_TRADE=4")


def test_an_id_is_the_same_with_blanks_around_it(root: Path) -> None:
    folder_of(root, ["2024, a ,PUT,,2.5,1,16:00,5,TP"], "20005")
    state = AccountFiles(root / "paper", 20_000).record(TRADE)
    assert [float(result) for result in state.results] == [5]


@pytest.mark.parametrize(
    ("level", "propagate", "logged"),
    [(logging.WARNING, True, False), (logging.INFO, True, True), (logging.INFO, False, False)],
)
def test_verbose_lines_are_seen_once_whatever_logging_was_set_up(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    level: int,
    propagate: bool,
    logged: bool,
) -> None:
    monkeypatch.setattr(logging.getLogger("option_spreads"), "propagate", propagate)
    with caplog.at_level(level):
        calculate_position_size(20_000, 250)
        calculate_position_size(20_000, 250, verbose=False)
    shown = capsys.readouterr().out
    for text in ("[AUTOSCALING] Account Balance: $20,000", "Position sizing: 1 contract(s)"):
        assert (shown.count(text), caplog.text.count(text)) == (not logged, logged)


def test_the_share_of_kelly_is_a_setting(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kelly 0.05 of 20,000 at a risk of 250: 2 contracts of the half, 4 of the whole, 1 of 0.25."""
    folder_of(root, EVEN)
    monkeypatch.setenv("MAX_CONTRACTS", "100")
    for fraction, size, line, why in (
        ("0.5", 2, "Half-Kelly%: 2.50%", "half-Kelly"),
        ("1", 4, "Full-Kelly%: 5.00%", "full-Kelly"),
        ("0.25", 1, "0.25-Kelly%: 1.25%", "0.25-Kelly"),
    ):
        monkeypatch.setenv("KELLY_FRACTION", fraction)
        with caplog.at_level(logging.INFO):
            assert calculate_position_size(20_000, 250) == size
        assert f"[AUTOSCALING] Kelly%: 5.00% | {line}" in caplog.messages
        assert caplog.messages[-1].endswith(f": {why}")
