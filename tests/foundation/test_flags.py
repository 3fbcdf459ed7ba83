"""Flags of a command line: what is wrong with one, or with its setting, is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.flags import Parser
from tests.e2e.refused import refusal_of

SERVER = "marketsimulator.alpaca_server"
KALSHI = "event_contracts.practice_server"
RUN = "marketsimulator.backtest_kelly_chronos2"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("module", "words", "says"),
    [
        (SERVER, ["--start", "2", "--port", "0"], "start: '2' is no date"),
        (SERVER, ["--capital", "3", "capital=5", "--port", "0"], "capital was given twice"),
        (KALSHI, [], "--key-file is missing; name a new file, --key-file KEY.pem"),
        (RUN, ["--data-dir", "nowhere"], "data.dir: nowhere is no folder and no file"),
        (RUN, ["--output", "there"], "output: there cannot be written"),
    ],
)
def test_a_refusal_is_one_line_that_names_what_was_typed_and_leaves_nothing(
    module: str, words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("a file")
    assert says in refusal_of(module, *words)
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
def test_flags_that_do_not_fit_are_one_line(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser()
    parser.add_argument("symbol")
    parser.add_argument("price", type=float)
    parser.add_argument("--port", type=int)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert named in line
