"""Own code is found by name; what it raises is one line of the setting that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import DataError, InputError
from foundation.plugin import called, is_plugin, load_plugin, own_code
from tests.own_module import own_module


def test_module_and_name_are_a_plugin_and_nothing_else_is() -> None:
    assert all(is_plugin(name) for name in ("a:B", "a.b.c:name", "_x:_y"))
    assert not any(
        is_plugin(n) for n in ("ewma", "a:", ":b", "a:b:c", "C:\\x", "a b:c", "kelly_50")
    )


def test_own_code_is_found_in_the_working_folder_and_what_cannot_be_loaded_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_module("number = 3\n", tmp_path, monkeypatch)
    assert load_plugin("key", f"{own}:number") == 3
    (tmp_path / "own_fault.py").write_text("raise RuntimeError('no\\nlicense')\n")
    for name, said in (
        ("own_nothing:X", "ModuleNotFoundError: No module named 'own_nothing'"),
        (f"{own}:X", f"AttributeError: module '{own}' has no attribute 'X'"),
        ("own_fault:X", "RuntimeError: no license"),
    ):
        line = f"^key: {name} cannot be loaded from .* or the environment: {said}$"
        with pytest.raises(InputError, match=line):
            load_plugin("key", name)


def test_what_own_code_raises_names_the_code_its_arguments_and_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_module("def divide():\n    1 / 0\n", tmp_path, monkeypatch)
    line = rf"^key: {own}:divide\(w=-1\) fails in {own}.py line 2: ZeroDivisionError: division"
    with pytest.raises(InputError, match=line), own_code("key", called(f"{own}:divide", {"w": -1})):
        load_plugin("key", f"{own}:divide")()
    with pytest.raises(DataError, match=r"^a.csv: row 3$"), own_code("key", called("own:f", {})):
        raise DataError("a.csv: row 3")
