"""The template of a strategy trades, its test passes, and no file is replaced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.refused import answer_of, refusal_of
from tests.support.commands import run_command
from tests.support.messages import check_message

NEW = "marketsimulator.new_strategy"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    code, printed, said = answer_of(NEW, "my_rule", cwd=folder)
    assert (code, said) == (0, "")
    assert printed.splitlines()[0] == "Written: my_rule.py, test_my_rule.py"
    return folder


def test_generated_strategy_test_passes(folder: Path) -> None:
    words = [sys.executable, "-m", "unittest", "test_my_rule"]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 3 tests" in done.stderr


@pytest.mark.slow
def test_generated_strategy_runs_in_a_backtest(folder: Path) -> None:
    words = ["-m", "marketsimulator.backtest", "sizing._target_=my_rule.my_rule"]
    settings = ["forecaster=ewma", "symbols=[SYA,SYB,SYC]", "data.end=2024-03-28", "trials=null"]
    done = run_command(
        [*words, *settings, "data.start=2024-01-02", "start=2024-03-04", "output=out"], cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "report.html").is_file()


def test_new_strategy_never_overwrites_an_existing_file(folder: Path, tmp_path: Path) -> None:
    before = (folder / "my_rule.py").read_text()
    line = refusal_of(NEW, "my_rule", cwd=folder)
    check_message(line, "my_rule.py")
    assert (folder / "my_rule.py").read_text() == before
    (tmp_path / "test_other.py").write_text("mine")
    check_message(refusal_of(NEW, "other", cwd=tmp_path), "test_other.py")
    assert [path.name for path in tmp_path.iterdir()] == ["test_other.py"]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("My-Rule", ("My-Rule", "my_rule?")),
        ("class", ("class",)),
        ("9x", ("9x",)),
        ("../x", ("../x", "x?")),
        ("", ("''",)),
        ("numpy", ("numpy",)),
        ("sizing", ("sizing",)),
        ("é", ("é",)),
        ("a" * 65, ("a" * 65, 64)),
    ],
)
def test_new_strategy_refuses_an_invalid_module_name(
    name: str, facts: tuple[object, ...], tmp_path: Path
) -> None:
    check_message(refusal_of(NEW, name, cwd=tmp_path), "NAME", *facts)
    assert list(tmp_path.iterdir()) == []
