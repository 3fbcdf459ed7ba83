"""Setup of a folder: each flag is checked, and all files are written or none."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from examples.make_bars import main as make_bars
from execution.live.settings import LiveSettings
from foundation.compose import compose_config
from foundation.files import unlock_output_folders
from marketsimulator.init import parse_arguments, write_setup
from marketsimulator.settings import BacktestSettings
from tests.e2e.practice import KEYS, OPENING, practising
from tests.e2e.refused import answer_of, refusal_of
from tests.support.commands import run_command
from tests.support.messages import check_message

INIT = "marketsimulator.init"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bar files of three stocks and a cryptocurrency."""
    folder = tmp_path_factory.mktemp("market") / "bars"
    make_bars(folder)
    return folder


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write the files of a setup with flags; return the folder."""
    monkeypatch.setenv("APCA_API_KEY_ID", "PKABCDEF")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "se/cr+et=1")

    def write(*words: str) -> Path:
        with chdir(tmp_path):
            setup, _ = parse_arguments(["mine", *words])
            write_setup(setup)
        return tmp_path / "mine"

    yield write
    unlock_output_folders()


@pytest.mark.slow
def test_generated_settings_file_works_for_backtest_and_live(
    set_up: Callable[..., Path], bars: Path
) -> None:
    words = ["--symbols", "ACME", "TOYUSD", "forecaster=ewma", "limits.symbol_cap=0.4"]
    folder = set_up("--bars", str(bars), *words)
    file = folder / "kelly.yaml"
    assert yaml.safe_load(file.read_text()) == {
        "symbols": ["ACME", "TOYUSD"],
        "timeframe": "1h",
        "data": {"dir": [str(bars)]},
        "forecaster": "ewma",
        "limits": {"symbol_cap": 0.4},
    }
    backtest = BacktestSettings.from_config(compose_config("backtest", [f"config={file}"]))
    live = LiveSettings.from_config(compose_config("live", [f"config={file}"]))
    for settings in (backtest, live):
        assert settings.symbols == ("ACME", "TOYUSD")
        assert settings.forecaster.kind == "ewma"
        assert settings.limits.symbol_cap == 0.4
    assert backtest.load_bars().symbols == ("ACME", "TOYUSD")
    schema = json.loads(Path(file.read_text().splitlines()[0].partition("$schema=")[2]).read_text())
    assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(file.read_text()))) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.slow
def test_first_backtest_has_the_settings_of_the_file(tmp_path: Path) -> None:
    """It is composed once, when the answers are checked."""
    words = ["mine", "--bars", "synthetic", "forecaster=ewma", "limits.symbol_cap=0.4"]
    with chdir(tmp_path):
        setup, _ = parse_arguments(words)
        write_setup(setup)
        again = [f"config={setup.settings_file}", *setup.first_run_words()]
        assert setup.first_run == BacktestSettings.from_config(compose_config("backtest", again))
    unlock_output_folders()


@pytest.mark.slow
def test_init_writes_forecaster_kind_and_overrides_together(set_up: Callable[..., Path]) -> None:
    folder = set_up("--bars", "synthetic", "forecaster=ewma", "forecaster.calibrated=false")
    file = folder / "kelly.yaml"
    changed = {"kind": "ewma", "calibrated": False}
    assert yaml.safe_load(file.read_text())["forecaster"] == changed
    forecaster = LiveSettings.from_config(compose_config("live", [f"config={file}"])).forecaster
    assert (forecaster.kind, forecaster.calibrated) == ("ewma", False)


def test_init_with_synthetic_market_requires_no_bar_files(set_up: Callable[..., Path]) -> None:
    settings = yaml.safe_load((set_up("--bars", "synthetic") / "kelly.yaml").read_text())
    assert settings == {"timeframe": "1h"}


BAD = [
    ([], ("--bars", "download", "synthetic")),
    (["--bars", "nope"], ("--bars", "nope")),
    (["--bars", "empty"], ("empty", ".csv")),
    (["--bars", "damaged"], ("SYA.csv",)),
    (["--bars", "synthetic", "--symbols", "NVDA"], ("--symbols", "'NVDA'")),
    (["--bars", "synthetic", "--timeframe", "2h"], ("--timeframe", "'2h'", "1h")),
    (["--bars", "synthetic", "--keys", "mine"], ("--keys", "'mine'", "environment")),
    (["--bars", "synthetic", "--keys", "environment"], ("APCA_API_KEY_ID",)),
    (["--bars", "download"], ("--symbols", "NVDA")),
    (["--bars", "download", "--symbols", "NVDA"], ("--keys", "NVDA")),
    (["--bars", "download", "--symbols", "ETHBTC"], ("ETHBTC",)),
    (["--bars", "synthetic", "--start", "2199-01-01"], ("--start", "2199-01-01")),
    (["--bars", "synthetic", "--start", "monday"], ("--start", "'monday'")),
    (["--bars", "synthetic", "limits.symbl_cap=1"], ("limits.symbl_cap", "limits.symbol_cap")),
    (["--bars", "synthetic", "limits.symbol_cap=9"], ("limits.symbol_cap", "9", "4")),
    (["--bars", "synthetic", "confirm_live=true"], ("confirm_live",)),
    (["--bars", "synthetic", "config=x.yaml"], ("config",)),
    (["--bars", "synthetic", "seed=1", "seed=2"], ("seed",)),
    (["one", "two", "--bars", "synthetic"], ("two", "one")),
    (["notes.txt", "--bars", "synthetic"], ("notes.txt",)),
    (["--brs", "synthetic"], ("--brs", "--bars")),
    (["taken", "--bars", "synthetic"], ("taken/kelly.yaml",)),
    (["", "--bars", "synthetic"], ("FOLDER",)),
    (["a\nb", "--bars", "synthetic"], ("FOLDER",)),
    # The first backtest would fail.
    (["--bars", "synthetic", "days=0"], ("days", "0")),
    (["--bars", "synthetic", "benchmark=NOPE"], ("benchmark", "NOPE")),
    (["--bars", "synthetic", "benchmark=nope.csv"], ("benchmark", "nope.csv")),
    (["--bars", "synthetic", "trials=notes.txt/x"], ("trials", "notes.txt")),
    (["--bars", "synthetic", "broker.name=nope"], ("broker.name", "nope")),
]


@pytest.mark.first_example
@pytest.mark.parametrize(("words", "facts"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_invalid_init_input_gives_one_line_error_only(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("empty", "damaged", "taken"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged" / "SYA.csv").write_bytes(b"\xff\x00")
    (tmp_path / "taken" / "kelly.yaml").write_text("symbols: [SYA]\n")
    (tmp_path / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    check_message(refusal_of(INIT, *words, cwd=tmp_path), *facts)
    assert sorted(tmp_path.rglob("*")) == before


def test_init_refuses_keys_of_a_live_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "AKLIVE")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "secret")
    line = refusal_of(INIT, "--bars", "synthetic", "--keys", "environment", cwd=tmp_path)
    check_message(line, "APCA_API_KEY_ID")
    assert "AKLIVE" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_init_produces_first_backtest_report_within_five_minutes(
    bars: Path, tmp_path: Path
) -> None:
    words = ["-m", INIT, "mine", "--bars", str(bars), "--symbols", "ACME", "forecaster=ewma"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    began = time.monotonic()
    done = run_command(words, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 300
    assert "ok      checkpoint: ewma, calibrated" in done.stdout
    assert (tmp_path / "mine" / "first" / "report.html").is_file()
    again = "kelly-chronos backtest config=mine/kelly.yaml days=365"
    assert again in " ".join(done.stdout.split())
    code, shown, _ = answer_of(
        "marketsimulator.backtest", "--cfg", "job", "config=mine/kelly.yaml", cwd=tmp_path
    )
    assert code == 0
    assert yaml.safe_load(shown)["symbols"] == ["ACME"]


@pytest.mark.slow
def test_environment_keys_work_for_download_and_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("APCA_API_KEY_ID", KEYS.key)
    monkeypatch.setenv("APCA_API_SECRET_KEY", KEYS.secret)
    with practising() as start:
        here = start("symbols=[SYA]")
        here.advance(OPENING)
        words = ("mine", "--bars", "download", "--symbols", "SYA", "--start", "2024-01-02")
        more = ("--keys", "environment", "forecaster=ewma", f"broker.url_override={here.url}")
        code, printed, said = answer_of(INIT, *words, *more, cwd=tmp_path)
        assert here.posts == []
    assert code == 0, said
    assert "ok      keys: set, and accepted by the venue" in printed
    assert KEYS.secret not in printed + said
    assert (tmp_path / "mine" / "bars" / "SYA.parquet").is_file()
    assert (tmp_path / "mine" / "first" / "report.html").is_file()
