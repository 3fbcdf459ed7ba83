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
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from option_spreads.autoscaler import account
from option_spreads.autoscaler.account import AccountFiles, UnknownAccountState
from option_spreads.autoscaler.trades import ClosedTrade
from option_spreads.contracts import (
    calculate_position_size,
    get_max_risk_for_strategy,
    load_autoscaling_settings,
    parse_arguments,
    run,
)
from tests.option_spreads.sold import HEADER, file_of, printed
from tests.support.messages import refused

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
    result = run(parse_arguments(words)[0])
    return printed((*result.tables, *result.closing_lines))


TRADE = trade("a", "5")
# Kelly 0.05: of 20,000 at a risk of 250 half of it is exactly 2 contracts.
EVEN = [row(f"w{k}", "100") for k in range(10)] + [row(f"l{k}", "-90") for k in range(10)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOSCALING_DATA_DIR", str(tmp_path))
    return tmp_path


def test_example_account_gets_one_contract_with_logged_reasons(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row(f"w{k}", "56.00") for k in range(11)] + [row(f"l{k}", "-34.62") for k in range(33)]
    rows.append(row("last", "-34.54"))  # the average that rounds to 34.62 with a Kelly of -22.26 %
    folder_of(root, rows, "19995")
    with caplog.at_level(logging.INFO):
        assert calculate_position_size(max_risk_per_contract=250) == 1
    lines = [each.message for each in caplog.records if each.message.startswith("[AUTOSCALING]")]
    assert lines == [
        "[AUTOSCALING] Account Balance: $19,995, sized from $19,439 (STARTING_CAPITAL plus trades)",
        "[AUTOSCALING] Trade History: 45 trades (11 wins, 34 losses)",
        "[AUTOSCALING] Win Rate: 24.4% | Avg Win: $56.00 | Avg Loss: $34.62",
        "[AUTOSCALING] Kelly%: -22.26% | Half-Kelly%: -11.13%",
        "[AUTOSCALING] Max Risk: $250 | Position Size: 1 contract(s)",
    ]


def test_trade_results_are_converted_to_per_contract_profits(root: Path) -> None:
    """Totals of 3 contracts read as per contract would be three times as large."""
    wins = [row(f"w{k}", "300", "3") for k in range(10)]
    folder_of(root, [*wins, *(row(f"l{k}", "-90", "") for k in range(10))])
    assert calculate_position_size(max_risk_per_contract=250) == 2


def test_account_that_does_not_exist_sizes_zero_contracts(root: Path) -> None:
    """Live and paper accounts are separate."""
    assert calculate_position_size(20_000, 250) == 1
    assert calculate_position_size(9_000, 250) == 0
    assert calculate_position_size(max_risk_per_contract=250) == 0
    AccountFiles(root / "paper", 20_000).initialise()
    assert (calculate_position_size(mode="PAPER"), calculate_position_size(mode="LIVE")) == (1, 0)
    (root / "paper" / "account_balance.json").unlink()
    assert calculate_position_size(20_000, 250) == 0, "one file without the other is not an account"


def test_contract_cap_is_read_from_either_environment_variable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTSTRAP_MODE", "prior")
    monkeypatch.setenv("MAX_CONTRACTS_PER_TRADE", "100")
    assert calculate_position_size(20_000, 150) == 27
    monkeypatch.setenv("MAX_CONTRACTS", "5")
    assert calculate_position_size(20_000, 150) == 5
    assert load_autoscaling_settings("MAX_CONTRACTS=4").MAX_CONTRACTS == 4
    monkeypatch.setenv("CONDOR_RISK", "table")
    assert get_max_risk_for_strategy("IRON_CONDOR", 2.7) == 250
    monkeypatch.setenv("MAX_CONTRACTS", "lots")
    with refused(InputError, "MAX_CONTRACTS"):
        calculate_position_size(20_000, 150)
    with refused(InputError, "MAX_CONTRACTS_PER_TRADE"):
        load_autoscaling_settings("MAX_CONTRACTS_PER_TRADE=4")


@pytest.mark.parametrize(
    ("more", "balance", "sized", "from_", "told"),
    [
        ([], "20000", True, "$14,000", "STARTING_CAPITAL plus trades is $14,000.00"),
        (["-4500"], "20000", False, "$9,500", "balance $9,500.00 according to the trades, $20"),
        ([], "14000.004", True, "$14,000", ""),
        ([], "9000", False, "$9,000", "the balance file has $9,000.00"),
    ],
)
def test_sizing_uses_the_lower_balance_and_alerts_differences(
    root: Path,
    caplog: pytest.LogCaptureFixture,
    more: list[str],
    balance: str,
    sized: bool,
    from_: str,
    told: str,
) -> None:
    """The safety halt applies below $10,000."""
    results = [*["300"] * 10, "-9000", *more]
    rows = [row(f"t{k}", result, "3" if k < 10 else "1") for k, result in enumerate(results)]
    folder_of(root, rows, balance)
    with caplog.at_level(logging.INFO):
        assert (calculate_position_size(max_risk_per_contract=250) > 0) is sized
    assert ("ALERT balance" in caplog.text) is bool(told)
    assert told in caplog.text
    assert f"[AUTOSCALING] Account Balance: ${float(balance):,.0f}" in caplog.text
    assert from_ in caplog.text


@pytest.mark.parametrize(
    ("rows", "total", "update"),
    [
        *(([row("a", word)], None, "") for word in ("nan", "much", "1e400", "", "1_0", *UNBOUNDED)),
        *(([row("a", "10", n)], None, "") for n in ("0", "1.5", "-2", "１", *UNBOUNDED)),
        ([row("a", "10"), row("a", "12")], None, ""),
        ([row("a", "10") + ",more"], None, ""),
        (["a,b"], None, ""),
        (['2024,"a,PUT'], None, ""),
        ([row('"a\nb"', "10")], None, ""),
        ([row("a", "10")], 7, ""),
        # An empty update replaces nothing.
        ([row("a", "10")], None, '{"trades.csv": null, "account_balance.json": 5}'),
        ([row("a", "10")], None, '{"trades.csv": "x", "account_balance.json": "{}"}'),
        ([row("a", "10")], None, "[" * 100_000),
    ],
)
def test_unreadable_account_file_sizes_zero_contracts_and_stays(
    root: Path, caplog: pytest.LogCaptureFixture, rows: list[str], total: int | None, update: str
) -> None:
    folder = folder_of(root, rows, total=total)
    if update:
        (folder / ".update.json").write_text(update)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert calculate_position_size(max_risk_per_contract=250) == 0
    assert "Unknown state, 0 contracts" in caplog.text
    kept = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {name: kept[name] for name in before if name != ".update.json"} == {
        name: content for name, content in before.items() if name != ".update.json"
    }


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}"),
        *(f'{{"balance": {word}, "total_trades": 2}}' for word in ("NaN", '"20000"', *UNBOUNDED)),
    ],
)
def test_corrupt_balance_file_sizes_zero_contracts_then_recovers(root: Path, content: str) -> None:
    deposit = "2024-10-02,d,DEPOSIT,,,,10:00,5000,"
    folder = folder_of(root, [row("a", "100"), row("b", "-30", "3"), deposit], total=2)
    path = folder / "account_balance.json"
    path.write_text(content)
    assert calculate_position_size(max_risk_per_contract=250) == 0
    (aside,) = folder.glob(f"{path.name}.aside-*")
    assert aside.read_text() == content
    told = json.loads(path.read_text())
    assert (told["balance"], told["total_trades"]) == (25_070, 2)
    assert calculate_position_size(max_risk_per_contract=250) == 1


def test_live_balance_without_trades_must_be_confirmed(root: Path) -> None:
    folder_of(root, []).rename(root / "live")
    damaged = '{"balance": NaN, "total_trades": 0}'
    path = root / "live" / "account_balance.json"
    path.write_text(damaged)
    before = sorted(root.rglob("*.*"))
    for _ in range(3):
        assert calculate_position_size(mode="LIVE", max_risk_per_contract=250) == 0
    with refused(UnknownAccountState, "LIVE", "STARTING_CAPITAL=USD"):
        shown("LIVE")
    assert path.read_text() == damaged
    assert [each for each in sorted(root.rglob("*.*")) if each.name != ".lock"] == before
    with refused(InputError, "STARTING_CAPITAL"):
        shown("LIVE", "recover")
    confirmed = shown("LIVE", "recover", "STARTING_CAPITAL=35000")
    assert f"Written: {path} and {path.with_name('trades.csv')}; LIVE" in confirmed
    assert "account, $35,000.00: STARTING_CAPITAL and 0 trades." in confirmed
    assert [each.read_text() for each in path.parent.glob("*.aside-*")] == [damaged]
    assert calculate_position_size(mode="LIVE", max_risk_per_contract=250) == 1


def test_trade_update_is_booked_once_preserving_extra_columns(root: Path) -> None:
    """Blanks around an id are ignored."""
    folder = folder_of(
        root,
        [row(" open ", "", exit_time="").replace("TP", "") + ",x", row("old", "5", "") + ",y"],
        "20005",
        total=1,
    )
    text = (folder / "trades.csv").read_text().replace(HEADER, HEADER + ",Note")
    (folder / "trades.csv").write_text(text)
    files = AccountFiles(folder, 20_000)
    for _ in range(2):
        state = files.record_trade(trade("open", "-12.34", 2))
    assert float(state.balance) == 19_992.66
    assert state.trade_profits == (5, Decimal("-6.17"))
    lines = (folder / "trades.csv").read_text().splitlines()
    assert [line.split(",")[-1] for line in lines] == ["Note", "y", "x"]
    with refused(InputError):
        files.record_trade(trade("open", "12.34", 2))


@given(st.data())
def test_tampered_account_files_never_give_an_incomplete_account(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes of either file are changed, cut or added: the account sizes 0 contracts or is read
    completely.
    """
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
        state = AccountFiles(folder, 20_000).read_account()
        assert len(state.trade_profits) == 12
    asides = [p.read_bytes() for p in folder.glob("*.aside-*")]
    kept = path.read_bytes() if path.exists() else None
    assert before in (kept, *asides), "nothing is overwritten"


def test_account_command_shows_initialises_and_recovers_an_account(root: Path) -> None:
    with refused(UnknownAccountState):
        shown()
    begun = shown("init")
    for text in (
        "Account Balance: $20,000",
        "IRON_CONDOR",
        "supports up to 3 contracts; MAX_CONTRACTS is 3",
        f"Written: {root / 'paper' / 'account_balance.json'} and",
        "PAPER account, $20,000.00: STARTING_CAPITAL and 0 trades.",
    ):
        assert text in begun
    (root / "paper" / "account_balance.json").unlink()
    with pytest.raises(UnknownAccountState):
        shown()
    shown("recover")
    assert shown("PAPER", "CONDOR_RISK=table").count("$250") == 3
    for wrong, facts in (
        (["init"], ()),
        (["LIVE"], ()),
        (["MAX_CONTRACTS=0"], ("MAX_CONTRACTS",)),
        (["init", "recover"], ()),
    ):
        with refused(InputError, *facts):
            shown(*wrong)
    (root / "paper" / "trades.csv").unlink()
    for task in ([], ["init"], ["recover"]):
        with refused(UnknownAccountState):
            shown(*task)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(8))
def test_killed_account_update_books_each_trade_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The kill comes while journal and files are written and replaced, and when the journal
    ends.
    """
    files = AccountFiles(tmp_path / "paper", 20_000)
    files.initialise()
    files.record_trade(trade("a", "5"))
    steps = itertools.count()

    def dying(does: Callable[..., Any]) -> Callable[..., Any]:
        def deadly(*given: Any, **more: Any) -> None:
            if next(steps) == step:
                raise Killed
            does(*given, **more)

        return deadly

    with monkeypatch.context() as patch:
        for name in ("write_atomically", "flush_to_disk"):
            patch.setattr(account, name, dying(getattr(account, name)))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(Killed):
            files.record_trade(trade("b", "-50", 2))
    state = AccountFiles(tmp_path / "paper", 20_000).read_account()
    assert (float(state.balance), len(state.trade_profits)) in {(20_005.0, 1), (19_955.0, 2)}
    state = files.record_trade(trade("b", "-50", 2))
    assert (float(state.balance), state.trade_profits) == (19_955.0, (5, -25))
    assert not (tmp_path / "paper" / ".update.json").exists()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("account_balance", wrong) for wrong in ("20000", True, 10**400, Decimal("sNaN"), nan)),
        *(("max_risk_per_contract", wrong) for wrong in ("250", 1e-300, -5.0)),
        *(("mode", wrong) for wrong in (1, "DEMO")),
        # A trade that would make the file unreadable is not booked.
        *(("position_size", wrong) for wrong in (1.5, 2_000_000)),
        *(("total_profit", wrong) for wrong in (5.0, Decimal("1e99"))),
        *(("trade_id", wrong) for wrong in (7, "a\rb", "a\nb")),
    ],
)
def test_invalid_argument_is_refused_in_one_line(root: Path, name: str, wrong: Any) -> None:
    sizing: dict[str, Any] = {"account_balance": 20_000, "max_risk_per_contract": 250}
    makes: Callable[..., object] = partial(calculate_position_size, **sizing)
    facts: tuple[str, ...] = (name,)
    if hasattr(TRADE, name):
        makes, facts = partial(replace, TRADE), ()
    with refused(InputError, *facts) as refusal:
        makes(**{name: wrong})
    assert len(str(refusal.value)) < 200
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("level", "propagate", "logged"),
    [(logging.WARNING, True, False), (logging.INFO, True, True), (logging.INFO, False, False)],
)
def test_sizing_lines_are_printed_or_logged_exactly_once(
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


def test_kelly_fraction_setting_scales_contract_count(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kelly 0.05 of 20,000 at a risk of 250: half-Kelly gives 2 contracts, full Kelly 4, a quarter
    1.
    """
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


def test_stop_loss_is_the_default_contract_risk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_CONTRACTS", "100")
    folder_of(root, EVEN)
    assert calculate_position_size() == 1, "800 USD by default"
    monkeypatch.setenv("STOP_LOSS_PER_CONTRACT", "100")
    assert calculate_position_size() == 5, "half of Kelly 0.05 of 20,000 USD is 500"
    assert calculate_position_size(max_risk_per_contract=250) == 2


@pytest.mark.parametrize("risk", ["0", "-1", "nan", "much"])
def test_impossible_stop_loss_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, risk: str
) -> None:
    monkeypatch.setenv("STOP_LOSS_PER_CONTRACT", risk)
    with refused(InputError, "STOP_LOSS_PER_CONTRACT"):
        calculate_position_size()


def test_account_balance_file_holds_the_balance(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "elsewhere" / "balance.json"
    monkeypatch.setenv("ACCOUNT_BALANCE_FILE", str(path))
    assert f"Written: {path} and" in shown("init")
    assert json.loads(path.read_text())["balance"] == 20_000
    assert not (root / "paper" / "account_balance.json").exists()
    files = AccountFiles.from_settings(load_autoscaling_settings(), "PAPER")
    assert files.record_trade(trade("a", "55.25")).balance == Decimal("20055.25")
    assert json.loads(path.read_text())["balance"] == 20_055.25
    path.unlink()
    with refused(UnknownAccountState, path):
        shown()
    shown("recover")
    assert json.loads(path.read_text())["balance"] == 20_055.25


def test_paper_balance_file_is_never_read_for_live(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "balance.json"
    monkeypatch.setenv("ACCOUNT_BALANCE_FILE", str(path))
    shown("init")
    (root / "live").mkdir()
    file_of(root / "live")
    assert calculate_position_size(mode="LIVE") == 0
    with refused(UnknownAccountState, "PAPER", "LIVE"):
        shown("LIVE")
    assert json.loads(path.read_text())["account"] == "PAPER"


@pytest.mark.parametrize(
    "words", [("init", "LIVE"), ("recover", "LIVE", "STARTING_CAPITAL=5000"), ("LIVE",)]
)
def test_paper_balance_file_cannot_initialise_live_account(
    root: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    path = root / "b" / "bal.json"
    monkeypatch.setenv("ACCOUNT_BALANCE_FILE", str(path))
    shown("init")
    before = path.read_bytes()
    with refused(InputError, path, "PAPER", "LIVE"):
        shown(*words)
    assert not (root / "live").exists()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
