"""What is wrong with a flag is said of the flag, and not of the setting that it stands for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from event_contracts import practice_server
from foundation.errors import InputError
from marketsimulator import alpaca_server, backtest_kelly_chronos2
from marketsimulator.flags import named_by_flags, refuse_both, typed_flags

FLAGS = {"data.dir": "--data-dir", "start": "--start", "end": "--end"}


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ([], []),
        (["start=2024-01-02"], []),
        (["--start", "2024-01-02"], ["start"]),
        (["--start=2024-01-02", "--data", "a"], ["data.dir", "start"]),
        (["--"], []),
    ],
)
def test_a_flag_is_typed_whole_cut_short_or_with_an_equals_sign(
    words: list[str], typed: list[str]
) -> None:
    assert list(typed_flags(FLAGS, words)) == typed


@pytest.mark.parametrize(
    ("words", "raised", "said"),
    [
        (["--start", "2"], "start: '2' is no date", "--start: '2' is no date"),
        (["--start", "2"], "start, end: no bar", "--start, --end: no bar"),
        (["--start", "2"], "capital: no start of it", "capital: no start of it"),
        (["start=2"], "start: '2' is no date", "start: '2' is no date"),
        ([], "symbols: none; name data.dir=DIR", "symbols: none; name --data-dir DIR"),
        ([], "no place in it", "no place in it"),
        ([], "data.start: 2; name data.start=D", "data.start: 2; name data.start=D"),
    ],
)
def test_an_error_names_what_was_typed(words: list[str], raised: str, said: str) -> None:
    with pytest.raises(InputError) as caught, named_by_flags(FLAGS, words):
        raise InputError(raised)
    assert str(caught.value) == said


def test_a_flag_and_a_word_for_the_same_setting_are_refused() -> None:
    refuse_both(FLAGS, ["--start", "2024-01-02", "end=2024-02-01"])
    with pytest.raises(InputError, match=r"^--start and start=1 give the same setting; leave one"):
        refuse_both(FLAGS, ["--start", "2024-01-02", "start=1"])


SERVER = alpaca_server.main
KALSHI = practice_server.main
RUN = backtest_kelly_chronos2.main


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("main", "words", "says"),
    [
        (SERVER, ["--start", "2"], "--start: '2' is no date"),
        (SERVER, ["--symbols", "FOO"], "bars of your own: --data-dir FOLDER"),
        (SERVER, ["--capital", "3", "capital=5"], "--capital and capital=5 give the same setting"),
        (KALSHI, [], "--key-file is missing; name a new file, --key-file KEY.pem"),
        (KALSHI, ["--key-file", "k", "--markets", "A"], "--markets: tickers are of recorded"),
        (KALSHI, ["--key-file", "k", "fees=alpaca"], "event contracts are traded for fees=kalshi"),
        (RUN, ["--data-dir", "nowhere"], "--data-dir: nowhere is no folder and no file"),
        (RUN, ["--output", "there"], "--output: there cannot be written"),
        (RUN, ["fees=kalshi"], "stocks and coins are traded for fees=alpaca"),
    ],
)
def test_a_refusal_is_one_line_that_names_what_was_typed_and_leaves_nothing(
    main: Callable[[], None],
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["command", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert says in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "logs"] == ["there"]
