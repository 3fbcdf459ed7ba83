from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import DataError, InputError
from foundation.plugin import build_plugin, check_plugin, is_plugin, load_plugin, own_code


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one's own code in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [])
    (tmp_path / "own_code.py").write_text(
        "class Thing:\n    def __init__(self, size=1): self.size = 1 / size\nnumber = 3\n"
        "class Plain:\n    pass\n"
        "from foundation.errors import DataError, InputError\n"
        "def refuse(): raise InputError('forecaster.context_length: -1 is below 3')\n"
        "def spoil(): raise DataError('a.csv: row 3')\n"
        "def Choosy(window): refuse()\n"
    )
    (tmp_path / "own_fault.py").write_text("import own_code\nraise RuntimeError('no license')\n")
    (tmp_path / "own_need.py").write_text("import nobody_has_this\n")
    return tmp_path


def test_module_and_name_are_a_plugin_and_nothing_else_is() -> None:
    assert all(is_plugin(name) for name in ("a:B", "a.b.c:name", "_x:_y"))
    assert not any(
        is_plugin(n) for n in ("ewma", "a:", ":b", "a:b:c", "C:\\x", "a b:c", "kelly_50")
    )


def test_own_code_is_found_in_the_working_folder(home: Path) -> None:
    assert (
        build_plugin(
            "key", "own_code:Thing", load_plugin("key", "own_code:Thing"), {"size": 2}, ()
        ).size
        == 0.5
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("own_nothing:X", "key: there is no module 'own_nothing' in .* or in the environment"),
        ("own_code:X", r"key: module 'own_code' \(.*own_code.py\) has no 'X'$"),
        ("own_code:Thng", "has no 'Thng'; did you mean Thing.$"),
        ("own_fault:X", "key: importing own_fault failed: RuntimeError: no license"),
        ("own_need:X", "key: importing own_need failed: No module named 'nobody_has_this'"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_that_names_the_setting(
    home: Path, name: str, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        load_plugin("key", name)


@pytest.mark.parametrize(
    ("name", "arguments", "needs", "line"),
    [
        ("own_code:number", {}, (), "key: own_code:number is no class or function, but int"),
        ("own_code:Thing", {"width": 1}, (), r"own_code:Thing\(width=1\) fails: TypeError"),
        ("own_code:Thing", {"size": 0}, (), r"own_code:Thing\(size=0\) fails: ZeroDivisionError"),
        ("own_code:Thing", {"sise": 2}, (), "'sise'; did you mean size.$"),
        ("own_code:Thing", {"width": 1}, (), "'width'; here are size$"),
        ("own_code:Plain", {"width": 1}, (), "'width'; it takes none$"),
        (
            "own_code:Choosy",
            {"window": -1},
            (),
            r"^key: own_code:Choosy\(window=-1\) fails: forecaster.context_length: -1 is below 3$",
        ),
        ("own_code:Thing", {}, ("size", "allocate"), "what own_code:Thing makes has no allocate"),
    ],
)
def test_what_it_makes_has_what_is_needed_of_it(
    home: Path, name: str, arguments: dict[str, int], needs: tuple[str, ...], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        build_plugin("key", name, load_plugin("key", name), arguments, needs)


def test_what_own_code_is_called_with_is_looked_at_without_a_call(home: Path) -> None:
    thing = load_plugin("key", "own_code:Thing")
    check_plugin("key", "own_code:Thing", thing, {"size": 0})
    with pytest.raises(InputError, match=r"own_code:Thing\(width=0\) fails: TypeError"):
        check_plugin("key", "own_code:Thing", thing, {"width": 0})


def test_a_refusal_that_comes_out_of_own_code_names_the_code_and_where_it_is(home: Path) -> None:
    refuse = load_plugin("key", "own_code:refuse")
    with (
        pytest.raises(
            InputError,
            match=r"^key: own_code:Drift\(w=-1\) fails in own_code.py line \d+: forecaster.context",
        ),
        own_code("key", "own_code:Drift(w=-1)"),
        own_code("key", "own_code:Drift(w=-1)"),
    ):
        refuse()
    with pytest.raises(DataError, match=r"^a.csv: row 3$"), own_code("key", "own_code:Drift"):
        load_plugin("key", "own_code:spoil")()
