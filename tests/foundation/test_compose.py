"""Configuration on the command line: what is refused, and in which words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from foundation import compose
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings


def test_hydra_starts_where_argparse_looks_at_every_help_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Python 3.14 does; Hydra's own words for shell completion are no text before they are
    printed.
    """
    add = argparse._ActionsContainer.add_argument

    def check(parser: Any, action: argparse.Action) -> None:
        if action.help is not None and "%" not in action.help:
            return

    def added(self: Any, *names: Any, **fields: Any) -> argparse.Action:
        action = add(self, *names, **fields)
        if isinstance(self, argparse.ArgumentParser):
            self._check_help(action)  # type: ignore[attr-defined]
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", added, raising=False)
    monkeypatch.setattr(sys, "argv", ["backtest", "symbols=[SYA]"])
    seen: list[Any] = []
    compose.hydra_command("backtest", lambda config, _: seen.append(config.symbols))
    assert seen == [["SYA"]]


@pytest.mark.parametrize(
    ("config", "word", "says"),
    [
        ("backtest", "limits=[1]", "limits=[1]"),
        ("backtest", "sizing={fractoin: 1}", "sizing.fractoin: there is no such setting"),
        ("backtest", "sizing.drawdown.depth=.2", "sizing.drawdown.depth: there is no such setting"),
        ("backtest", "+capital=3", "'capital'"),
        ("backtest", "data.dir=/tmp/a;b", "data.dir=/tmp/a;b"),
        ("backtest", "forecaster=ewna", "forecaster=ewna"),
        # of a group that the command does not have
        ("batch", "fees.commission_bps=3", "fees.commission_bps: there is no such setting"),
        # of another kind
        ("backtest", "start=20240304", "start: "),
        ("backtest", "capital=100,000", "capital: "),
        ("backtest", "data.dir=${oc.env:NO_SUCH}/x", "data.dir: "),
    ],
)
def test_what_is_no_setting_or_no_value_of_one_is_one_line_with_the_key(
    config: str, word: str, says: str
) -> None:
    with pytest.raises(InputError) as refused:
        BacktestSettings.of(compose.composed_config(config, [word]))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_no_run_of_a_multirun_begins_before_the_settings_of_all_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def commanded(*words: str) -> list[Any]:
        begun: list[Any] = []
        monkeypatch.setattr(sys, "argv", ["backtest", "-m", "forecaster=ewma", *words])
        compose.hydra_command(
            "backtest", lambda config, _: begun.append(config.sizing.fraction), BacktestSettings.of
        )
        return begun

    monkeypatch.chdir(tmp_path)
    # That a run begins shows in the folder that Hydra makes for it.
    for words in (["sizing.fraction=0.1,7"], ["sizing.fraction=0.1", "seed=1,-1"]):
        with pytest.raises(SystemExit) as ended:
            commanded(*words)
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert said.count("\n") == 1
        assert said.startswith(("error: sizing.fraction: 7", "error: seed: -1 is below 0"))
        assert not list(tmp_path.iterdir())
    assert commanded("sizing.fraction=0.1,0.2") == [0.1, 0.2]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes").write_text("mine")
    with pytest.raises(SystemExit):
        commanded("sizing.fraction=0.1,7", "hydra.sweep.dir=kept")
    assert (tmp_path / "kept" / "notes").read_text() == "mine"
