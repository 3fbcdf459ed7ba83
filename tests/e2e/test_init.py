"""Writing a settings file: its content, and arguments that are refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from execution.live.settings import LiveSettings
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message

INIT = "marketsimulator.init"


def test_generated_settings_file_works_for_backtest_and_live(tmp_path: Path) -> None:
    words = ["data.dir=[bars]", "symbols=[ACME,TOYUSD]", "forecaster=ewma", "timeframe=1h"]
    code, printed, _ = answer_of(INIT, "mine", *words, "limits.symbol_cap=0.4", cwd=tmp_path)
    file = tmp_path / "mine" / "kelly.yaml"
    assert code == 0
    assert "backtest config=mine/kelly.yaml" in printed
    assert yaml.safe_load(file.read_text()) == {
        "data": {"dir": ["bars"]},
        "symbols": ["ACME", "TOYUSD"],
        "forecaster": "ewma",
        "timeframe": "1h",
        "limits": {"symbol_cap": 0.4},
    }
    backtest = BacktestSettings.from_config(compose_config("backtest", [f"config={file}"]))
    live = LiveSettings.from_config(compose_config("live", [f"config={file}"]))
    for settings in (backtest, live):
        assert settings.symbols == ("ACME", "TOYUSD")
        assert settings.forecaster.kind == "ewma"
        assert settings.limits.symbol_cap == 0.4
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_init_writes_forecaster_kind_and_overrides_together(tmp_path: Path) -> None:
    words = ["mine", "forecaster=ewma", "forecaster.calibrated=false"]
    assert answer_of(INIT, *words, cwd=tmp_path)[0] == 0
    written = yaml.safe_load((tmp_path / "mine" / "kelly.yaml").read_text())
    assert written["forecaster"] == {"kind": "ewma", "calibrated": False}


BAD = [
    (["limits.symbl_cap=1"], ("limits.symbl_cap", "limits.symbol_cap")),
    (["limits.symbol_cap=9"], ("limits.symbol_cap", "9", "4")),
    (["confirm_live=true"], ("confirm_live",)),
    (["config=x.yaml"], ("config",)),
    (["seed=1", "seed=2"], ("seed",)),
    (["one", "two"], ("two", "one")),
    (["notes.txt"], ("notes.txt",)),
    (["--brs"], ("--brs",)),
    (["taken"], ("taken/kelly.yaml",)),
    ([""], ("FOLDER",)),
    (["a\nb"], ("FOLDER",)),
]


@pytest.mark.parametrize(("words", "facts"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_invalid_init_input_gives_one_line_error_only(
    words: list[str], facts: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "kelly.yaml").write_text("symbols: [SYA]\n")
    (tmp_path / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    check_message(refusal_of(INIT, *words, cwd=tmp_path), *facts)
    assert sorted(tmp_path.rglob("*")) == before
