from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from foundation import PACKAGES

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = (
    "execution.decision.trader",
    "forecasting.chronos2.forecaster",
    "marketsimulator.account.settlement",
)
SOURCES = [p for room in PACKAGES for p in (ROOT / room).rglob("*.py")] + [
    ROOT / "trade_stock_e2e.py"
]


MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
CALLS = {"eval", "exec", "torch.load", "yaml.load", "np.fromfile"}
# Files without these words contain no such call.
NAMED = re.compile(r"pickle|dill|joblib|shelve|\b(eval|exec)\(|\.load\b|fromfile")

OWN = {"self", "cls", "super()"}  # objects whose private names are a class's own
TUPLES = {"_replace", "_asdict", "_fields", "_make"}  # public names of named tuples
PATCHES = {"setattr", "delattr", "getattr", "patch"}
# Files without these words neither reach private names nor import tests.
REACHES = re.compile(
    r"(?<!self)(?<!cls)\._[A-Za-z]|(import|attr|patch)\b[^\n]*\W_[A-Za-z]|^ +_\w+,?$"
    r"|^\s*(from|import)[^\n]*\btest_",
    re.MULTILINE,
)
REASON = re.compile(r"^# Private access: \S", re.MULTILINE)


def loads(tree: ast.AST) -> set[str]:
    """Imports of modules and calls of functions that execute what they read; words in a message
    are neither.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found |= {name for name in names if name.split(".")[0] in MODULES}
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            pickles = [ast.unparse(k.value) for k in node.keywords if k.arg == "allow_pickle"]
            unsafe = name in CALLS or name.endswith("read_pickle") or name == "np.load"
            if (unsafe and pickles != ["False"]) or pickles not in ([], ["False"]):
                found.add(name)
    return found


def test_source_uses_no_pickle_eval_or_unsafe_loading() -> None:
    """No pickle, no torch.load, no eval, no unsafe YAML anywhere."""
    assert loads(ast.parse("import pickle; np.load(f); torch.load(f); pd.read_pickle(f)")) != set()
    assert {
        str(p.relative_to(ROOT)): what
        for p in SOURCES
        if NAMED.search(text := p.read_text()) and (what := loads(ast.parse(text)))
    } == {}


def test_imports_load_no_model_library_or_simulator() -> None:
    simulators = [name for name in (*PACKAGES, *HEAVY) if name.startswith("marketsimulator")]
    others = [name for name in (*PACKAGES, *HEAVY) if name not in simulators]
    heavy = ["torch", "transformers", "chronos", "sklearn", "scipy.stats", "alpaca", "hydra"]
    code = "import sys\n"
    for names, banned in ((others, [*heavy, "marketsimulator"]), (simulators, heavy)):
        for name in names:
            code += f"import {name}\nprint('{name}', [m for m in {banned} if m in sys.modules])\n"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines() == [f"{name} []" for name in (*others, *simulators)]


def test_environment_variables_are_read_only_by_configuration() -> None:
    """Exceptions: the account's keys, which no configuration may hold, and the supervisor's socket.
    Variables that a library reads may be written.
    """
    allowed = r"(?<!Keys\.from_environment\()(?<!Supervisor\.from_environment\()"
    read = re.compile(allowed + r"os\.environ(?!\[\"HYDRA_FULL_ERROR\"\] = |\.update\()|getenv")
    found = [str(p.relative_to(ROOT)) for p in SOURCES if read.search(p.read_text())]
    assert found == []


def test_import_linter_layers_ignore_no_imports() -> None:
    linted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert "ignore_imports" not in linted["contracts"][0]


def test_source_files_have_at_most_700_lines() -> None:
    """A similar trading system had a script of 4,866 lines."""
    assert {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 700
    } == {}


def test_git_tracks_no_large_or_cache_files() -> None:
    """Only the bundled checkpoint exceeds 5 MB; outputs of runs belong in the user's own
    folders.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    tracked = [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    assert tracked
    shipped = ("forecasting", "checkpoints")
    large = [p for p in tracked if (ROOT / p).stat().st_size > 5e6 and p.parts[:2] != shipped]
    caches = [p for p in tracked if "cache" in str(p) and p.suffix != ".py"]
    assert (large, caches) == ([], [])


def imported_by(tree: ast.AST) -> set[str]:
    """Dotted names of the modules that code imports, and of all that it imports from them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def is_private(name: str) -> bool:
    """Whether a name has a leading underscore, unless it is of a named tuple or `_target_`."""
    return re.fullmatch(r"_[A-Za-z]\w*(?<!_)", name) is not None and name not in TUPLES


def private_names(tree: ast.AST) -> set[str]:
    """Private names that code reaches outside its own class: imported, of an object, or patched."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            found |= {node.attr} if ast.unparse(node.value) not in OWN else set()
        called = getattr(node, "func", None)
        if getattr(called, "attr", getattr(called, "id", None)) in PATCHES:
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            found |= {word.split(".")[-1] for word in words if isinstance(word, str)}
    return {name for name in found if is_private(name)}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from a import _b", {"_b"}),
        ("a.b()._c", {"_c"}),
        ("patch.setattr(a, '_b', 1); patch.delattr('a.b._c')", {"_b", "_c"}),
        ("self._a; cls._b; super()._c; a.__doc__; a._replace(b=1); a._target_", set()),
    ],
)
def test_private_name_detector_finds_every_access_form(code: str, names: set[str]) -> None:
    assert private_names(ast.parse(code)) == names


@dataclass(frozen=True)
class ModuleFacts:
    """What a module of tests or studies imports, and which private names it reaches."""

    imports: set[str]
    private: set[str]
    gives_reason: bool


@pytest.fixture(scope="module")
def code_of_tests() -> dict[Path, ModuleFacts]:
    """Every module of tests and studies, parsed once."""
    found = {}
    for path in (path for folder in ("tests", "studies") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text if REACHES.search(text) else "")
        found[path.relative_to(ROOT)] = ModuleFacts(
            imported_by(tree), private_names(tree), bool(REASON.search(text))
        )
    return found


def test_no_test_module_imports_a_test_module(code_of_tests: dict[Path, ModuleFacts]) -> None:
    """Code that several test files share is in `tests/support/`."""
    modules = {path.stem for path in code_of_tests if path.stem.startswith("test_")}
    found = [
        f"{path}: {name}"
        for path, code in code_of_tests.items()
        for name in sorted(code.imports)
        if modules & set(name.split("."))
    ]
    assert modules
    assert found == []


def test_private_access_in_a_test_states_its_reason(code_of_tests: dict[Path, ModuleFacts]) -> None:
    """A comment says why no public name shows the behaviour; unneeded comments are removed."""
    tests = {path: code for path, code in code_of_tests.items() if path.parts[0] == "tests"}
    assert any(code.private for code in tests.values())
    assert {
        str(path): sorted(code.private)
        for path, code in tests.items()
        if bool(code.private) != code.gives_reason
    } == {}


def test_every_documented_mistake_names_existing_tests() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "MISTAKES.md").read_text().splitlines()
        if line.startswith("| ")
    ][2:]
    there = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert not set(named) - there, row
