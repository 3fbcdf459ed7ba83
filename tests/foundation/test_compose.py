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
    ("words", "says"),
    [
        (["limits=[1]"], "limits=[1]"),
        (["sizing={fractoin: 1}"], "sizing.fractoin: there is no such setting"),
        (["+capital=3"], "'capital'"),
        (["data.dir=/tmp/a;b"], "data.dir=/tmp/a;b"),
        (["forecaster=ewna"], "forecaster=ewna"),
        (["sizing.drawdown.depth=.2"], "sizing.drawdown.depth: there is no such setting"),
    ],
)
def test_what_hydra_refuses_is_one_line_with_the_key(words: list[str], says: str) -> None:
    with pytest.raises(InputError) as refused:
        compose.composed_config("backtest", words)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_of_a_group_that_a_command_does_not_have_is_unknown_to_it() -> None:
    for key in ("fees.commission_bps", "capital"):
        with pytest.raises(InputError, match=rf"^{key}: there is no such setting"):
            compose.composed_config("batch", [f"{key}=3"])


@pytest.mark.parametrize(
    "word", ["start=20240304", "strategy=12", "capital=100,000", "data.dir=${oc.env:NO_SUCH}/x"]
)
def test_a_value_of_another_kind_is_said_with_its_key(word: str) -> None:
    with pytest.raises(InputError, match=rf"^{word.split('=')[0]}: "):
        BacktestSettings.of(compose.composed_config("backtest", [word]))


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
