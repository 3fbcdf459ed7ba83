"""An unknown word is refused with the valid choices and the nearest match."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kelly_chronos
from foundation.cli import FlagParser
from foundation.errors import InputError, invalid_choice_error, not_installed_error
from tests.e2e.refused import refusal_of
from tests.support.messages import check_message, refused
from trainingdata.bar_files import find_bar_files
from trainingdata.source import DataSettings

WORDS = ("alpaca", "ewma", "buy_and_hold", "vol_target", "5m")


@given(st.sampled_from(WORDS[:-1]), st.data())
def test_missing_letter_suggests_the_intended_word(word: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(word) - 1))
    typed = word[:place] + word[place + 1 :]
    text = str(invalid_choice_error("key", typed.upper(), WORDS))
    assert text == f"key: {typed.upper()!r} is not one of {', '.join(WORDS)}; did you mean {word}?"


def test_word_without_close_match_gets_no_suggestion() -> None:
    assert "did you mean" not in str(invalid_choice_error("key", "zzz", WORDS))


def test_prefix_typo_suggests_every_matching_choice() -> None:
    known = ("delay", "drop_before", "drop_after", "status")
    assert str(invalid_choice_error("kind", "dropp", known)).endswith(
        "mean drop_before or drop_after?"
    )


def test_misspelt_custom_config_file_gets_nearest_suggestion(tmp_path: Path) -> None:
    (tmp_path / "fees").mkdir()
    (tmp_path / "fees" / "flat.yaml").write_text("commission_bps: 1.0\n")
    check_message(
        refusal_of("marketsimulator.backtest", "--config-dir", str(tmp_path), "fees=flatt"),
        "fees",
        "'flatt'",
        "alpaca",
        "flat",
    )


def test_misspelt_stress_instant_gets_nearest_suggestion(tmp_path: Path) -> None:
    check_message(
        refusal_of("marketsimulator.stress", str(tmp_path), "at=wurst"), "at", "'wurst'", "worst"
    )


def test_long_choice_list_is_truncated_with_a_count() -> None:
    names = [f"S{number:03}" for number in range(400)]
    text = str(invalid_choice_error("symbols", "S4O1", names))
    assert "S023 and 376 more; did you mean S" in text


@pytest.mark.parametrize(
    ("word", "hint"), [("backtst", "backtest"), ("comprae", "compare"), ("evalute", "evaluate")]
)
def test_misspelt_command_is_refused_with_nearest_match(
    word: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kelly-chronos", word])
    with pytest.raises(SystemExit) as ended:
        kelly_chronos.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    check_message(said.rstrip("\n"), repr(word), hint)


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--symbls", "A"], ("--symbols",)),
        (["--kind", "fastt"], ("--kind", "'fastt'", "fast", "slow")),
    ],
)
def test_misspelt_flag_is_refused_with_nearest_match(
    words: list[str], facts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = FlagParser()
    parser.add_argument("--symbols")
    parser.add_argument("--kind", choices=("fast", "slow"))
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
    check_message(capsys.readouterr().err.splitlines()[-1], *facts)


def test_unknown_symbol_error_lists_files_and_nearest_match(tmp_path: Path) -> None:
    for name in ("TSL", "NVDA", "notes-of-mine"):
        (tmp_path / f"{name}.csv").write_text("timestamp,open,high,low,close,volume\n")
    with refused(InputError, "NVDA", "TSL"):
        find_bar_files([tmp_path], ["TSLA"])


def test_unknown_synthetic_symbol_gets_nearest_suggestion() -> None:
    with refused(InputError, "SYXUSD"):
        DataSettings().load_panel(("SYXXUSD",), None, None)


def test_missing_extra_error_shows_its_install_command() -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for extra in ("rl", "ray", "pictures", "yahoo", "joblib"):
        assert f"pip install -e '.[{extra}]'" in str(
            not_installed_error("library", "command", extra)
        )
        assert f"\n{extra} = [" in declared
