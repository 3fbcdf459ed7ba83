"""What is wrong with a flag is said of the flag, and not of the setting that it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.cli import FlagParser, find_used_flags, name_flags_in_errors, refuse_flag_conflicts
from foundation.errors import InputError
from tests.e2e.refused import refusal_of
from tests.support.messages import check_message, refused

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
def test_flags_are_recognised_in_every_spelling(words: list[str], typed: list[str]) -> None:
    assert list(find_used_flags(FLAGS, words)) == typed


@pytest.mark.parametrize(
    ("words", "raised", "said"),
    [
        (["--start", "2"], "start: '2' is not a date", "--start: '2' is not a date"),
        (["--start", "2"], "start, end: no bar", "--start, --end: no bar"),
        (["--start", "2"], "capital: no start of it", "capital: no start of it"),
        (["start=2"], "start: '2' is not a date", "start: '2' is not a date"),
        ([], "symbols: none; name data.dir=DIR", "symbols: none; name --data-dir DIR"),
        ([], "data.start: 2; name data.start=D", "data.start: 2; name data.start=D"),
    ],
)
def test_setting_error_names_the_flag_as_typed(words: list[str], raised: str, said: str) -> None:
    with pytest.raises(InputError) as caught, name_flags_in_errors(FLAGS, words):
        raise InputError(raised)
    assert str(caught.value) == said


def test_flag_and_override_for_one_setting_are_refused() -> None:
    refuse_flag_conflicts(FLAGS, ["--start", "2024-01-02", "end=2024-02-01"])
    with refused(InputError, "--start", "start=1"):
        refuse_flag_conflicts(FLAGS, ["--start", "2024-01-02", "start=1"])


SERVER = "practice.alpaca_server"
KALSHI = "practice.kalshi_server"
RUN = "marketsimulator.backtest_kelly_chronos2"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("module", "words", "facts"),
    [
        (SERVER, ["--start", "2", "--port", "0"], ("--start", "'2'")),
        (SERVER, ["--symbols", "FOO", "--port", "0"], ("--data-dir", "FOLDER")),
        (SERVER, ["--capital", "3", "capital=5", "--port", "0"], ("--capital", "capital=5")),
        (KALSHI, [], ("--key-file", "KEY.pem")),
        (KALSHI, ["--key-file", "k", "--markets", "A"], ("--markets",)),
        (RUN, ["--data-dir", "nowhere"], ("--data-dir",)),
        (RUN, ["--output", "there"], ("--output",)),
    ],
)
def test_invalid_flag_gives_one_line_error_without_files(
    module: str,
    words: list[str],
    facts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("a file")
    check_message(refusal_of(module, *words), *facts)
    assert [path.name for path in tmp_path.iterdir() if path.name != "logs"] == ["there"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "symbol, price"),
        (["NVDA", "much"], "price: invalid float value: 'much'"),
        (["NVDA", "1", "--prt", "5"], "--prt 5"),
        (["NVDA", "1", "port=5"], "port=5"),
    ],
)
def test_invalid_arguments_give_one_line_error(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = FlagParser()
    parser.add_argument("symbol")
    parser.add_argument("price", type=float)
    parser.add_argument("--port", type=int)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line
