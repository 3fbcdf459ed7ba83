"""Configuration on the command line: what is refused, and in which words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation import compose
from foundation.compose import quoted_value
from foundation.errors import InputError, unknown_key
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import refusal_of as refusal_of_command


@pytest.mark.parametrize(
    ("config", "word", "says"),
    [
        ("backtest", "limits=[1]", "limits=[1]"),
        ("backtest", "sizing={fractoin: 1}", "sizing.fractoin: there is no such setting"),
        ("backtest", "sizing.drawdown.depth=.2", "sizing.drawdown.depth: there is no such setting"),
        ("backtest", "+capital=3", "capital: it is a setting; did you mean capital=3?"),
        ("backtest", "data.dir=/tmp/a;b", "data.dir=/tmp/a;b"),
        ("backtest", "forecaster=ewna", "forecaster: 'ewna' is not one of"),
        ("backtest", "universe.window=60", "universe.window: 60 has no unit; did you mean 60d?"),
        ("backtest", "universe.window=[60]", "universe.window: [60] is not a word"),
        ("backtest", "universe.window=true", "universe.window: True is not a word"),
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
def test_invalid_setting_is_one_line_with_its_key(config: str, word: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        BacktestSettings.from_config(compose.compose_config(config, [word]))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def refusal_of(*words: str, config: str = "backtest") -> str:
    with pytest.raises(InputError) as refused:
        BacktestSettings.from_config(compose.compose_config(config, list(words)))
    return str(refused.value)


@given(st.text("ab'\"\\é (,;[", min_size=1))
def test_quoted_values_are_read_literally(value: str) -> None:
    read = OverridesParser.create().parse_override(f"key={quoted_value(value)}").value()
    assert str(read) == value


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("data.dir=cases/été", "\"data.dir='cases/été'\""),
        ("data.dir=cases/p (1)", "\"data.dir='cases/p (1)'\""),
        ("data.dir=[cases/été,b]", "\"data.dir=['cases/été',b]\""),
        ("data.dir=cases/été,b", "\"data.dir=['cases/été',b]\""),
        ("data.dir=it's", "\"data.dir='it\\'s'\""),
        ("data.dir='open", "\"data.dir='open'\""),
        ("data.dir=p(1)", "\"data.dir='p(1)'\""),
        ("data.dir=a=b", "\"data.dir='a=b'\""),
        ("data.actions=a#b.csv", "\"data.actions='a#b.csv'\""),
        ("forecaster.path=a;b", "\"forecaster.path='a;b'\""),
        ("data.dir=a!b", "a!b"),
        ("data.dir=C:\\é", "é"),
    ],
)
def test_unreadable_words_are_told_what_to_type(word: str, typed: str) -> None:
    said = refusal_of(word)
    assert "Exception" not in said
    assert "input" not in said
    key, value = word.split("=", 1)
    assert said.startswith(f"{key}=")
    (proposed,) = shlex.split(re.search(r"; write (.*) \(see", said)[1])  # type: ignore[index]
    assert typed in said
    composed = OverridesParser.create().parse_override(proposed).value()
    texts = composed if isinstance(composed, list) else [composed]
    assert [str(getattr(each, "text", each)) for each in texts] == value.strip("'[]").split(",")


@pytest.mark.parametrize(
    "word", ["data.dir=${oc.env:X", "sizing={fraction 1", "data.dir=[a b (1)", "data.dir=[a,[b"]
)
def test_open_brackets_are_named(word: str) -> None:
    said = refusal_of(word)
    assert said.startswith(f"{word}: close each bracket, and put text in quotes")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("star=2024-01-02", "did you mean start?"),
        ("+star=2024-01-02", "did you mean start?"),
        ("limits.symbol_capp=.3", "did you mean limits.symbol_cap?"),
        ("symbol_cap=.3", "did you mean limits.symbol_cap=.3?"),
        ("sizing.capital=3", "did you mean capital=3?"),
        ("strategy=vol_target", "did you mean sizing.strategy=vol_target?"),
        ("strategy=kelly_30", "did you mean sizing.strategy=kelly_30?"),
        ("strategy=rules.mine", "did you mean sizing._target_=rules.mine?"),
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


@pytest.mark.parametrize("word", ["++sizing.foo=1", "+foo=1", "foo=1"])
def test_key_like_no_other_gets_no_proposal(word: str) -> None:
    assert "did you mean" not in refusal_of(word)


@pytest.mark.parametrize(
    "word",
    ["strategy=risk_parity", "fraction=0.3", "symbol_cap=0.2", "strategy=mine", "cache=null"],
)
def test_proposed_settings_are_accepted(word: str) -> None:
    if proposed := re.search(r"did you mean ([\w.]+=\S+)\?", refusal_of(word)):
        BacktestSettings.from_config(compose.compose_config("backtest", [proposed[1]]))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["start", "capital", "limits.symbol_cap", "sizing.band"]), st.data())
def test_one_wrong_letter_finds_the_setting(key: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(len(key) - 4, len(key) - 1))
    known = ["start", "end", "capital", "limits", "limits.symbol_cap", "sizing", "sizing.band"]
    assert f"did you mean {key}?" in str(unknown_key(f"{key[:place]}q{key[place + 1 :]}", known))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sizing.fraction=0.1,7"], "error: sizing.fraction: 7"),
        (["sizing.fraction=0.1", "seed=1,-1"], "error: seed: -1 is below 0"),
        (["forecaster=ewma,ewna"], "error: forecaster: 'ewna' is not one of"),
        (["limits.cap=1,2"], "error: limits.cap: there is no such setting"),
    ],
)
def test_multirun_refuses_a_wrong_job_before_any_runs(
    words: list[str], says: str, tmp_path: Path
) -> None:
    line = refusal_of_command("marketsimulator.backtest", "-m", *words, cwd=tmp_path)
    assert line.startswith(says)
    assert not list(tmp_path.iterdir())


def test_multirun_composes_every_combination() -> None:
    words = ["sizing.fraction=0.1,0.2", "seed=range(1,3)", "forecaster=ewma", "symbols=[SYA,SYB]"]
    job_configs = list(compose.job_configs(compose.CommandLine("backtest", words, multirun=True)))
    found = [(job.sizing.fraction, job.seed, job.forecaster.kind) for job in job_configs]
    assert found == [(0.1, 1, "ewma"), (0.1, 2, "ewma"), (0.2, 1, "ewma"), (0.2, 2, "ewma")]
    assert {tuple(job.symbols) for job in job_configs} == {("SYA", "SYB")}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--multirn"], "error: unrecognized arguments: --multirn; did you mean --multirun?"),
        (["fraction"], "error: fraction: not a setting of the form key=value"),
        (["--config-name", "bactest"], "error: --config-name: 'bactest' is not one of"),
        (["--config-dir", "nowhere"], "error: --config-dir: nowhere is not a folder"),
        (["hydra.run.dir=out"], "error: hydra.run.dir=out: it is a multirun's"),
        (["hydra.searchpath=[a]"], "error: hydra.searchpath=[a]: a folder of your own files is"),
        (["-m", "hydra/launcher=jobli"], "error: hydra/launcher: 'jobli' is not one of"),
    ],
)
def test_flags_that_do_not_exist_are_refused(words: list[str], says: str, tmp_path: Path) -> None:
    line = refusal_of_command("marketsimulator.backtest", *words, cwd=tmp_path)
    assert line.startswith(says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["forecaster._target_=my.Class", "forecaster.arguments.x=1"],
        ["forecaster=ewma", "forecaster._target_=my.Class", "forecaster.arguments={x: 1}"],
        ["correlation._target_=my.Class", "correlation.arguments.x.y=1"],
    ],
)
def test_custom_class_overrides_need_no_plus(words: list[str]) -> None:
    config = compose.compose_config("backtest", words)
    group = words[-1].partition(".")[0]
    assert config[group]._target_ == "my.Class"
    assert config[group].arguments.x in (1, {"y": 1})


def test_position_overrides_need_no_plus() -> None:
    """`positions` is in `configs/live.yaml` and in no settings class."""
    config = compose.compose_config("live", ["positions.ACME=100"])
    assert config.positions == {"ACME": 100}
