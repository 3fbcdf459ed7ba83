"""Configuration on the command line: what is refused, and in which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation import compose
from foundation.compose import quote_value
from foundation.errors import InputError, unknown_key_error
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import refusal_of as refusal_of_command
from tests.support.messages import check_message, refused


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("config", "word", "facts"),
    [
        ("backtest", "limits=[1]", ("limits: [1]", "limits.NAME=value")),
        ("backtest", "sizing={fractoin: 1}", ("sizing.fractoin",)),
        ("backtest", "trials.depth=.2", ("trials.depth",)),
        ("backtest", "+capital=3", ("capital", "capital=3")),
        ("backtest", "data.dir=/tmp/a;b", ("data.dir=/tmp/a;b",)),
        ("backtest", "forecaster=ewna", ("forecaster", "'ewna'")),
        ("backtest", "universe.window=60", ("universe.window", "60", "60d")),
        ("backtest", "universe.window=[60]", ("universe.window", "[60]")),
        ("backtest", "universe.window=true", ("universe.window", "True")),
        ("backtest", "timeframe=60", ("1h",)),
        ("backtest", "launcher=ray", ("forecasting.batch", "marketsimulator.compare")),
        # of a group that the command does not have
        ("batch", "fees.commission_bps=3", ("fees.commission_bps",)),
        # of another kind
        ("backtest", "start=20240304", ("start",)),
        ("backtest", "capital=100,000", ("capital",)),
        ("backtest", "data.dir=${oc.env:NO_SUCH}/x", ("data.dir",)),
    ],
)
def test_invalid_setting_gives_one_line_error_with_key(
    config: str, word: str, facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts) as caught:
        BacktestSettings.from_config(compose.compose_config(config, [word]))
    assert "\n" not in str(caught.value)


def refusal_of(*words: str, config: str = "backtest") -> str:
    with pytest.raises(InputError) as refused:
        BacktestSettings.from_config(compose.compose_config(config, list(words)))
    return str(refused.value)


@given(st.text("ab'\"\\é (,;[", min_size=1))
def test_quoted_override_values_are_parsed_literally(value: str) -> None:
    read = OverridesParser.create().parse_override(f"key={quote_value(value)}").value()
    assert str(read) == value


@pytest.mark.parametrize(
    "word",
    [
        *("data.dir=cases/été", "data.dir=[cases/p (1),b]", "data.dir='open", "data.dir=a=b"),
        *("data.dir=C:\\é", "data.dir=${oc.env:X", "sizing={fraction 1", "data.dir=[a,[b"),
    ],
)
def test_unparsable_override_error_shows_the_correct_quoting(word: str) -> None:
    check_message(refusal_of(word), word, f"\"{word.partition('=')[0]}='text'\"")


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("word", "facts"),
    [
        ("star=2024-01-02", ("start",)),
        ("+star=2024-01-02", ("start",)),
        ("limits.symbol_capp=.3", ("limits.symbol_cap",)),
        ("symbol_cap=.3", ("limits.symbol_cap=.3",)),
        ("sizing.capital=3", ("capital=3",)),
        ("strategy=vol_target", ("sizing.strategy=vol_target",)),
        ("strategy=kelly_30", ("sizing.strategy=kelly_30",)),
        ("strategy=rules.mine", ("sizing._target_=rules.mine",)),
        ("strategy=mine", ("sizing.strategy=mine",)),
        ("sizing.strategy=kelly_150", ("sizing.strategy", "kelly_150", "150")),
        ("forecaster=ewna", ("ewma",)),
        ("forecaster=base", ("chronos2", "ewma", "file", "garch", "historical", "mix", "oracle")),
        ("fees=kalsh", ("fees", "'kalsh'", "alpaca")),
        ("sizing.strategy=vol_targt", ("vol_target",)),
        ("timeframe=1hh", ("1h",)),
    ],
)
def test_misspelt_override_is_refused_with_nearest_match(word: str, facts: tuple[str, ...]) -> None:
    check_message(refusal_of(word), *facts)


@pytest.mark.first_example
@pytest.mark.parametrize("word", ["++sizing.foo=1", "+foo=1", "foo=1"])
def test_key_without_close_match_gets_no_suggestion(word: str) -> None:
    assert "did you mean" not in refusal_of(word)


@pytest.mark.first_example
@pytest.mark.parametrize(
    "word", ["strategy=risk_parity", "fraction=0.3", "symbol_cap=0.2", "cache=null"]
)
def test_suggested_setting_corrections_are_accepted(word: str) -> None:
    if proposed := re.search(r"did you mean ([\w.]+=\S+)\?", refusal_of(word)):
        BacktestSettings.from_config(compose.compose_config("backtest", [proposed[1]]))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["start", "capital", "limits.symbol_cap", "sizing.band"]), st.data())
def test_one_letter_typo_suggests_the_intended_setting(key: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(len(key) - 4, len(key) - 1))
    known = ["start", "end", "capital", "limits", "limits.symbol_cap", "sizing", "sizing.band"]
    assert f"did you mean {key}?" in str(
        unknown_key_error(f"{key[:place]}q{key[place + 1 :]}", known)
    )


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sizing.fraction=0.1,7"], "error: sizing.fraction: 7"),
        (["sizing.fraction=0.1", "seed=1,-1"], "error: seed: -1 is below 0"),
        (["forecaster=ewma,ewna"], "error: forecaster: 'ewna' is not one of"),
        (["limits.cap=1,2"], "error: limits.cap: unknown setting"),
    ],
)
def test_multirun_with_one_invalid_job_runs_nothing(
    words: list[str], says: str, tmp_path: Path
) -> None:
    line = refusal_of_command("marketsimulator.backtest", "-m", *words, cwd=tmp_path)
    assert line.startswith(says)
    assert not list(tmp_path.iterdir())


def test_multirun_composes_every_combination() -> None:
    words = ["sizing.fraction=0.1,0.2", "seed=range(1,3)", "forecaster=ewma", "symbols=[SYA,SYB]"]
    job_configs = list(
        compose.iterate_job_configs(compose.CommandLine("backtest", words, multirun=True))
    )
    found = [(job.sizing.fraction, job.seed, job.forecaster.kind) for job in job_configs]
    assert found == [(0.1, 1, "ewma"), (0.1, 2, "ewma"), (0.2, 1, "ewma"), (0.2, 2, "ewma")]
    assert {tuple(job.symbols) for job in job_configs} == {("SYA", "SYB")}


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--multirn"], "error: unrecognized arguments: --multirn; did you mean --multirun?"),
        (["fraction"], "error: fraction: not a setting; write key=value"),
        (["--config-name", "bactest"], "error: --config-name: 'bactest' is not one of"),
        (["--config-dir", "nowhere"], "error: --config-dir: nowhere is not a folder"),
        (["hydra.run.dir=out"], "error: hydra.run.dir=out: applies only to multiruns"),
        (["hydra.searchpath=[a]"], "error: hydra.searchpath=[a]: not supported; use --config-dir"),
        (["-m", "hydra/launcher=jobli"], "error: hydra/launcher: 'jobli' is not one of"),
    ],
)
def test_flags_that_do_not_exist_are_refused(words: list[str], says: str, tmp_path: Path) -> None:
    line = refusal_of_command("marketsimulator.backtest", *words, cwd=tmp_path)
    assert line.startswith(says)
    assert not list(tmp_path.iterdir())


@pytest.mark.first_example
@pytest.mark.parametrize(
    "words",
    [
        ["forecaster._target_=my.Class", "forecaster.arguments.x=1"],
        ["forecaster=ewma", "forecaster._target_=my.Class", "forecaster.arguments={x: 1}"],
        ["correlation._target_=my.Class", "correlation.arguments.x.y=1"],
    ],
)
def test_custom_class_overrides_need_no_plus_prefix(words: list[str]) -> None:
    config = compose.compose_config("backtest", words)
    group = words[-1].partition(".")[0]
    assert config[group]._target_ == "my.Class"
    assert config[group].arguments.x in (1, {"y": 1})


def test_position_overrides_need_no_plus_prefix() -> None:
    """`positions` is a key of `configs/live.yaml` but of no settings class."""
    config = compose.compose_config("live", ["positions.ACME=100"])
    assert config.positions == {"ACME": 100}
