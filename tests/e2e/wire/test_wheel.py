"""What is installed from a wheel runs anywhere: configurations, checkpoint and commands come
with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest

from foundation import PACKAGES
from foundation.cli import read_module_docstring
from kelly_chronos import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]
SMALL = (
    *("symbols=[SYA,SYB]", "data.start=2024-01-02", "data.end=2024-03-28"),
    *("start=2024-03-25", "output=found"),
)
PACKED = (".py", ".yaml", ".json", ".safetensors", ".j2", ".css", ".js", ".LICENSE")
LEFT_OUT = (".*", "*.egg-info", "__pycache__", "build", "outputs", "logs")


def test_kelly_chronos_lists_commands_and_suggests_close_matches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kelly-chronos"])
    main()
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        [n, read_module_docstring(m).splitlines()[0]] for n, m in COMMANDS.items()
    ]
    monkeypatch.setattr(sys, "argv", ["kelly-chronos", "bakctest", "symbols=[SYA]"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: command: 'bakctest' is not one of download, ")
    assert line.endswith("; did you mean backtest?")


@pytest.mark.slow
def test_installed_wheel_runs_from_another_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wheels = tmp_path / "wheels"
    elsewhere = tmp_path / "elsewhere"
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    # As `pip install git+URL` takes it: what is committed, from a clone.
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "all")):
        subprocess.run(["git", "-C", str(source), *words], check=True, env=alone)
    pip = ("-m", "pip", "--quiet")
    place = f"git+file://{source}"
    build = (sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), place)
    subprocess.run(build, check=True, cwd=tmp_path, env=alone)
    (wheel,) = wheels.glob("*.whl")
    with ZipFile(wheel) as held:
        names = set(held.namelist())
    files = (path for room in (*PACKAGES, "configs") for path in (ROOT / room).rglob("*"))
    needed = {str(path.relative_to(ROOT)) for path in files if path.suffix in PACKED}
    assert {"configs/backtest.yaml", "forecasting/checkpoints/small/model.safetensors"} <= needed
    assert {*needed, "sizing/py.typed", "kelly_chronos.py", "trade_stock_e2e.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "outputs/"))]
    venv.create(tmp_path / "empty", with_pip=True)
    python = str(tmp_path / "empty" / "bin" / "python")
    subprocess.run([python, *pip, "install", "--no-deps", str(wheel)], check=True, env=alone)
    site = next((tmp_path / "empty" / "lib").glob("python*/site-packages"))
    # The libraries, not this checkout.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    elsewhere.mkdir()
    program = str(tmp_path / "empty" / "bin" / "kelly-chronos")
    alone_there = partial(
        subprocess.run, cwd=elsewhere, env=alone, capture_output=True, text=True, check=False
    )
    listed = alone_there([program])
    assert {line.split()[0] for line in listed.stdout.splitlines()} == {*COMMANDS}
    assert "kelly-chronos init [FOLDER]" in alone_there([program, "init", "--help"]).stdout
    run = alone_there([program, "evaluate", *SMALL])
    assert run.returncode == 0, run.stderr
    assert "chronos2" in (elsewhere / "found" / "evaluation.json").read_text()
    assert (elsewhere / "found" / "evaluation.html").is_file()
    written = alone_there([program, "init", "mine", *SMALL[:-1]])
    assert written.returncode == 0, written.stderr
    first = alone_there([program, "backtest", "config=mine/kelly.yaml", "output=first"])
    assert first.returncode == 0, first.stderr
    assert (elsewhere / "first" / "report.html").stat().st_size > 100_000
    where = alone_there([python, "-c", "import sizing.kelly; print(sizing.kelly.__file__)"])
    assert Path(where.stdout.strip()).is_relative_to(site)
