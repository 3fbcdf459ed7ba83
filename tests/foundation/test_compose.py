"""Configuration on the command line: what is refused, and in which words."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation import compose
from foundation.errors import InputError, unknown_key
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
        ("backtest", "forecaster=ewna", "forecaster: 'ewna' is not one of"),
        ("backtest", "universe.window=60", "universe.window: 60 has no unit; did you mean 60d?"),
        ("backtest", "timeframe=60", "did you mean 1h?"),
        ("backtest", "launcher=ray", "it is one of forecasting.batch and marketsimulator.compare"),
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


def refusal_of(*words: str, config: str = "backtest") -> str:
    with pytest.raises(InputError) as refused:
        BacktestSettings.of(compose.composed_config(config, list(words)))
    return str(refused.value)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("star=2024-01-02", "did you mean start?"),
        ("+star=2024-01-02", "did you mean start?"),
        ("limits.symbol_capp=.3", "did you mean limits.symbol_cap?"),
        ("sizing._target_=a.b", "did you mean +sizing._target_=a.b?"),
        ("symbol_cap=.3", "did you mean limits.symbol_cap=.3?"),
        ("sizing.capital=3", "did you mean capital=3?"),
        ("strategy=vol_target", "did you mean sizing.strategy=vol_target?"),
        ("strategy=kelly_30", "did you mean sizing.strategy=kelly_30?"),
        ("strategy=rules.mine", "did you mean +sizing._target_=rules.mine?"),
        ("strategy=mine", "did you mean sizing.strategy? sizing.strategy: 'mine' is not one of"),
        ("strategy=kelly_150", "sizing.strategy: kelly_150 is 150 % of Kelly"),
        ("forecaster=ewna", "did you mean ewma?"),
        ("forecaster=base", "is not one of chronos2, ewma, file, garch, historical, mix, oracle,"),
        ("fees=kalsh", "fees: 'kalsh' is not one of alpaca"),
        ("sizing.strategy=vol_targt", "did you mean vol_target?"),
        ("timeframe=1hh", "did you mean 1h?"),
    ],
)
def test_misspelt_word_is_refused_with_nearest(word: str, hint: str) -> None:
    assert hint in refusal_of(word)


@pytest.mark.parametrize(
    "word",
    ["strategy=risk_parity", "fraction=0.3", "symbol_cap=0.2", "strategy=mine", "cache=null"],
)
def test_proposed_settings_are_accepted(word: str) -> None:
    if proposed := re.search(r"did you mean ([\w.]+=\S+)\?", refusal_of(word)):
        BacktestSettings.of(compose.composed_config("backtest", [proposed[1]]))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["start", "capital", "limits.symbol_cap", "sizing.band"]), st.data())
def test_one_wrong_letter_finds_the_setting(key: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(len(key) - 4, len(key) - 1))
    known = ["start", "end", "capital", "limits", "limits.symbol_cap", "sizing", "sizing.band"]
    assert f"did you mean {key}?" in str(unknown_key(f"{key[:place]}q{key[place + 1 :]}", known))


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
