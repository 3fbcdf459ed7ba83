"""Own code is found by name where a command named it; what it raises is one line."""

# Private access: names allowed by an earlier command line would be imported.
from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation import plugin
from foundation.compose import compose_config
from foundation.errors import DataError, InputError
from foundation.plugin import (
    apply_plugin_targets,
    format_plugin_call,
    is_plugin,
    load_plugin,
    translate_plugin_errors,
)
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused
from tests.support.own_module import own_module

ROOT = Path(__file__).resolve().parents[2]


def test_only_a_dotted_name_is_a_plugin() -> None:
    assert all(is_plugin(name) for name in ("a.B", "a.b.c.name", "_x._y"))
    assert not any(
        is_plugin(n) for n in ("ewma", "a.", ".b", "a:b", "C:\\x.y", "a b.c", "kelly_2.5")
    )


def test_plugin_loads_from_working_folder_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_module("number = 3\n", tmp_path, monkeypatch)
    assert load_plugin("sizing", f"{own}.number") == 3
    (tmp_path / "own_fault.py").write_text("raise RuntimeError('no\\nlicense')\n")
    for name, said in (
        ("own_nothing.X", "ModuleNotFoundError: No module named 'own_nothing'"),
        (f"{own}.X", f"AttributeError: module '{own}' has no attribute 'X'"),
        ("own_fault.X", "RuntimeError: no license"),
    ):
        with refused(InputError, "sizing._target_", name, said):
            load_plugin("sizing", name)


def test_plugin_error_names_code_arguments_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_module("def divide():\n    1 / 0\n", tmp_path, monkeypatch)
    said = format_plugin_call(f"{own}.divide", {"w": -1})
    facts = ("sizing._target_", f"{own}.divide(w=-1)", f"{own}.py line 2", "ZeroDivisionError")
    with refused(InputError, *facts), translate_plugin_errors("sizing", said):
        load_plugin("sizing", f"{own}.divide")()
    with refused(DataError, "a.csv", "row 3"), translate_plugin_errors("sizing", "own.f"):
        raise DataError("a.csv: row 3: close is empty; fill it in")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module that leaves a mark when it is imported."""
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\n\ndef rule(s): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "trap", raising=False)  # another test's, which has sprung
    monkeypatch.setattr(plugin, "_allowed_imports", set())
    return tmp_path


@pytest.mark.parametrize(
    "values",
    [
        {"forecaster": {"_target_": "trap.rule"}},
        {"sizing": {"_target_": "trap.rule"}},
        {"correlation": {"_target_": "trap.rule"}},
        {"fees": {"_target_": "trap.rule"}},
        {"limits": {"_target_": "trap.rule"}},
        {"forecaster": {"arguments": {"inner": {"_target_": "trap.rule"}}}},
        {"margin": {"borrow_rates": [{"_target_": "trap.rule"}]}},
        {"fees": {"_partial_": True}},
        {"sizing": {"strategy": {"_args_": ["trap.rule"]}}},
        {"sizing": {"_target_": 3}},
    ],
)
def test_plugin_not_named_on_command_line_is_refused(trap: Path, values: dict[str, Any]) -> None:
    with refused(InputError):
        apply_plugin_targets(values)
    assert not (trap / "sprung").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["forecaster.kind=trap.rule"],
        ["sizing.strategy=trap.rule"],
        ["+correlation.kind=trap.rule"],
        ["+limits._target_=trap.rule"],
        ["+costs.extra={_target_: trap.rule}"],
        ["order_tag=trap.rule", "sizing._target_=${order_tag}"],
        ["forecaster.arguments.inner={_target_: trap.rule}"],
    ],
)
def test_plugin_is_accepted_only_in_target_settings(trap: Path, words: list[str]) -> None:
    with refused(InputError, "_target_"):
        BacktestSettings.from_config(compose_config("backtest", words)).check_input_files()
    assert not (trap / "sprung").exists()


def test_plugin_named_in_settings_runs_only_when_needed(trap: Path) -> None:
    settings = BacktestSettings.from_config(
        compose_config("backtest", ["sizing._target_=trap.rule"])
    )
    assert settings.order_prefix == settings.sizing.strategy == "trap.rule"
    assert not (trap / "sprung").exists()
    settings.sizing.build_strategy()
    assert (trap / "sprung").exists()


def test_commands_import_nothing_named_in_results_folders(
    trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(trap)
    for run in ("run", "other"):
        shutil.copytree(ROOT / "tests" / "fixtures" / "runs" / "backtest", trap / run)
        written = trap / run / "config.yaml"
        settings = yaml.safe_load(written.read_text())
        for group, key in (("forecaster", "kind"), ("correlation", "kind")):
            settings[group][key] = "trap.rule"
        for group in ("sizing", "fees"):
            settings[group]["_target_"] = "trap.rule"
        written.write_text(yaml.safe_dump(settings))
    code, _, said = answer_of("marketsimulator.compare", "run", "other", cwd=trap)
    assert code == 0, said
    check_message(refusal_of("marketsimulator.stress", "run", cwd=trap), "trap.rule")
    assert not (trap / "sprung").exists()


def test_custom_fees_come_from_the_plugin_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import execution.orders.fees as f\ndef dear(): return f.FeeSchedule(commission_bps=9)"
    own = own_module(code, tmp_path, monkeypatch)
    config = compose_config("backtest", [f"fees._target_={own}.dear"])
    assert BacktestSettings.from_config(config).fees.commission_bps == 9
