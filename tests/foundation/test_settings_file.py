"""A user's settings file, which every command reads as config=FILE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from foundation.compose import compose_config
from foundation.errors import InputError
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused

SETTINGS = """
symbols: [SYA, 'TRUE', "O'X"]
timeframe: 1h
start: 2024-03-25
schedule: ["10:30", "15:30"]
forecaster: ewma
capital: 5e4
trials: null
limits: {symbol_cap: 0.5}
margin:
  borrow_rates: [{symbol: SYA, rate: 0.1}]
alert_url: ${oc.env:ALERT_URL,null}
guards: {daily_loss: 0.02, tiers: {0.05: 0.75}}
positions: {BRK.B: 5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """Write a settings file; return the word config=FILE."""

    def write(text: str) -> str:
        path = tmp_path / "a file, own.yaml"
        path.write_text(text)
        return f"config={path}"

    return write


def test_values_of_the_settings_file_are_applied(file: Callable[[str], str]) -> None:
    word = file(SETTINGS)
    backtest, live = (compose_config(name, [word]) for name in ("backtest", "live"))
    for config in (backtest, live):
        assert config.symbols == ["SYA", "TRUE", "O'X"]
        assert (config.timeframe, config.start) == ("1h", "2024-03-25")
        assert config.schedule == ["10:30", "15:30"]
        assert config.forecaster.kind == "ewma"
        assert (config.capital, config.trials) == (50_000.0, None)
        assert config.limits.symbol_cap == 0.5
        assert config.margin.borrow_rates == [{"symbol": "SYA", "rate": 0.1}]
    assert backtest.guards == {"tiers": {0.05: 0.75}}
    assert (live.guards.daily_loss, live.guards.tiers) == (0.02, {0.05: 0.75})
    assert OmegaConf.to_container(live.positions) == {"BRK.B": 5}
    assert live.alert_url is None


def test_command_line_overrides_settings_file_values(file: Callable[[str], str]) -> None:
    words = [file(SETTINGS), "limits.symbol_cap=0.3", "forecaster=garch", "symbols=[SYB]"]
    config = compose_config("backtest", words)
    assert config.limits.symbol_cap == 0.3
    assert config.forecaster.kind == "garch"
    assert config.symbols == ["SYB"]
    assert config.capital == 50_000.0
    changed = file("forecaster: {kind: ewma, calibrated: false}")
    config = compose_config("backtest", [changed, "forecaster=garch"])
    assert (config.forecaster.kind, config.forecaster.calibrated) == ("garch", True)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("symbls: [SYA]", ("symbls", "symbols")),
        ("limits: {symbl_cap: 1}", ("limits.symbl_cap", "limits.symbol_cap")),
        ("limits.symbol_cap: 1", ("limits.symbol_cap", "limits: {symbol_cap")),
        ("confirm_live: true", ("confirm_live", "confirm_live=true")),
        ("config: other.yaml", ("config",)),
        ("defaults: [backtest]", ("defaults", "--config-dir")),
        ("hydra: {}", ("hydra",)),
        ("a: 1\n  b: 2", ("line 2",)),
        ("- symbols", ("docs/SETTINGS.md",)),
        ("", ("docs/SETTINGS.md",)),
    ],
)
def test_invalid_settings_file_is_refused_by_name(
    text: str, facts: tuple[str, ...], file: Callable[[str], str]
) -> None:
    word = file(text)
    path = word.removeprefix("config=")
    with refused(InputError, path, *facts) as caught:
        compose_config("live", [word])
    assert str(caught.value).startswith(path)


def test_every_command_reads_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("limits: {symbol_cap: 9}\n")
    for command, *words in (
        ["marketsimulator.backtest"],
        ["marketsimulator.backtest", "-m", "seed=1,2"],
        ["marketsimulator.audit"],
        ["execution.doctor"],
        ["trade_stock_e2e", "preview"],
    ):
        line = refusal_of(command, *words, "config=own.yaml", cwd=tmp_path)
        check_message(line, "own.yaml", "limits.symbol_cap", 9, 4)
    shown = answer_of("marketsimulator.backtest", "--cfg", "job", "config=own.yaml", cwd=tmp_path)
    assert "symbol_cap: 9 " in shown[1]


def test_missing_settings_file_is_refused(tmp_path: Path) -> None:
    line = refusal_of("marketsimulator.backtest", "config=nope.yaml", cwd=tmp_path)
    check_message(line, "nope.yaml")
