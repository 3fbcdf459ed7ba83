"""Messages of errors: a test states the class and the facts, messages.yaml has the words.

A pytest plugin. `--update-messages` writes the words of the tests that were run.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path("tests", "messages.yaml")  # below the root directory of a run
OPTION = "--update-messages"
_VARYING = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"-[0-9a-f]{16}\b"), "-DIGEST"),
    (re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):\d{4,5}\b"), r"\1:PORT"),
    (re.compile(r"\b0x[0-9a-f]{6,}"), "ADDRESS"),
    (re.compile(r"\[Errno \d+\]"), "[Errno]"),
    (re.compile(r"(\.py)(:|\"?,? line )\d+"), r"\1\2LINE"),
    (re.compile(re.escape(f"{tempfile.gettempdir()}/") + r"tmp\w{8}"), "TMP"),
    (re.compile(r"(exchange calendar \(\S+ to )[\d-]+"), r"\1END"),  # a year from today
    (re.compile(r"\b(own_)?test_\w+"), r"\1TMP"),  # the name of a temporary folder
)
_COMMAND_FOLDER = re.compile(
    rf"({re.escape(sys.prefix)}|[\w./-]*\.venv)/bin/(?=(python|pip|kelly-chronos) )"
)
_current: _TestMessages | None = None


@contextmanager
def refused(
    error: type[BaseException], *facts: object, varies: str = ""
) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Expect an error whose message names the facts, in the words of messages.yaml.

    facts: settings key, symbol, file, value.
    varies: pattern of what differs between versions of libraries or machines.
    """
    __tracebackhide__ = True
    with pytest.raises(error) as caught:
        yield caught
    check_message(str(caught.value), *facts, varies=varies)


def check_message(text: str, *facts: object, varies: str = "") -> None:
    """Compare a message with its words in messages.yaml; it has to name the facts."""
    __tracebackhide__ = True
    missing = [str(fact) for fact in facts if not _names(text, str(fact))]
    if missing:
        raise AssertionError(f"not in the message: {', '.join(missing)}\n{text}")
    assert _current is not None, "a message is checked outside of a test"
    _current.check(re.sub(varies, "VARIES", text) if varies else text)


def _names(text: str, fact: str) -> bool:
    """Whether the text has the fact as whole words: 1 is not in 10."""
    return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", text) is not None


def normalized(text: str, temporary: Path) -> str:
    """Replace folders, ports, identifiers and line numbers of code, which differ between runs.

    temporary: the folder of all temporary folders of the run.
    """
    folders = (
        (re.escape(str(temporary)) + r"/(states/\d+|[\w-]+)", "TMP"),
        (re.escape(sys.prefix), "PREFIX"),
        (re.escape(str(ROOT)), "ROOT"),
    )
    text = re.sub(_COMMAND_FOLDER, "", text)  # `foundation.shell.format_command`
    for pattern, name in folders:
        text = re.sub(pattern, name, text)
    for each, name in _VARYING:
        text = each.sub(name, text)
    return text


class _TestMessages:
    """The messages of one test, numbered in the order in which it checks them."""

    def __init__(self, test: str, run: Messages) -> None:
        self._test, self._run, self._known = test, run, run.texts
        self.found: dict[str, str] = {}

    def check(self, text: str) -> None:
        __tracebackhide__ = True
        number = len(self.found) + 1
        name = self._test if number == 1 else f"{self._test}::{number}"
        self.found[name] = found = normalized(text, self._run.temporary)
        if self._run.update:
            return
        advice = f"if the words are meant: pytest {OPTION} {file_of(name)}"
        if name not in self._known:
            raise AssertionError(f"no text of {name} in {SNAPSHOT}; {advice}\n+ {found}")
        if found != self._known[name]:
            change = f"- {self._known[name]}\n+ {found}"
            raise AssertionError(f"another text of {name}; {advice}\n{change}")

    def unchecked(self) -> list[str]:
        """Texts of this test that it did not check."""
        return [name for name in texts_of(self._test, self._known) if name not in self.found]


class Messages:
    """The texts of messages.yaml, and what a run finds: each test's messages and all tests."""

    temporary: Path  # the folder of all temporary folders of the run

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._path = config.rootpath / SNAPSHOT
        self.update = config.getoption(OPTION)
        self.texts = read_texts(self._path)
        self._found: dict[str, dict[str, str]] = {}  # test → its messages
        self.collected: list[str] = []  # every test of files that are collected whole

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note all tests before markers leave any out."""
        folder = self._config.invocation_params.dir
        part = {(folder / file_of(arg)).resolve() for arg in self._config.args if "::" in arg}
        if not self._config.getoption("lf", default=False):
            self.collected = [item.nodeid for item in items if item.path not in part]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Number the messages of a test; a text that it does not check any more is a failure."""
        global _current
        before = _current
        _current = current = _TestMessages(item.nodeid, self)
        try:
            result = yield
        finally:
            _current = before
        if not self.update:
            assert not current.unchecked(), f"not checked any more: {current.unchecked()}"
        self._found[item.nodeid] = current.found
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what the tests of a worker found."""
        output = getattr(node, "workeroutput", {})
        self._found |= output.get("messages", {})
        self.collected = output.get("collected", self.collected)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker hands its messages to the process that writes them."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["messages"] = self._found
            session.config.workeroutput["collected"] = self.collected
        elif self.update:
            write_texts(self._path, updated(self.texts, self._found, self.gone()))

    def gone(self) -> list[str]:
        """Texts whose test or file is gone."""
        files = {file_of(name) for name in self.collected}
        known = {name for test in self.collected for name in texts_of(test, self.texts)}
        return [
            name
            for name in self.texts
            if not (self._config.rootpath / file_of(name)).is_file()
            or (file_of(name) in files and name not in known)
        ]


RUN = pytest.StashKey[Messages]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes messages.yaml."""
    parser.addoption(OPTION, action="store_true", help=f"write texts of messages to {SNAPSHOT}")


def pytest_configure(config: pytest.Config) -> None:
    """Read the texts once in each process."""
    config.stash[RUN] = Messages(config)
    config.pluginmanager.register(config.stash[RUN])


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tell where the run has its temporary folders."""
    request.config.stash[RUN].temporary = tmp_path_factory.getbasetemp()


def file_of(name: str) -> str:
    """The file of a test, of a text or of an argument."""
    return name.partition("::")[0]


def texts_of(test: str, texts: Mapping[str, str]) -> list[str]:
    """Names of a test's texts: its own name, then with ::2, ::3, …"""
    names = [test] if test in texts else []
    while (following := f"{test}::{len(names) + 1}") in texts:
        names.append(following)
    return names


def updated(
    texts: Mapping[str, str], found: Mapping[str, Mapping[str, str]], gone: Iterable[str]
) -> dict[str, str]:
    """Texts with those of the tests that were run replaced, and those that are gone left out."""
    replaced = {name for test in found for name in texts_of(test, texts)}
    kept = {name: texts[name] for name in texts if name not in replaced | set(gone)}
    return kept | {name: text for each in found.values() for name, text in each.items()}


def read_texts(path: Path) -> dict[str, str]:
    """Read texts by name; there are none without the file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the faster one, where it is built
    files = yaml.load(path.read_text(), loader) if path.is_file() else None
    return {
        f"{file}::{test}": text
        for file, tests in (files or {}).items()
        for test, text in tests.items()
    }


def _place(name: str) -> tuple[str, int]:
    """Where a text is listed: by its test, then by its number."""
    test, _, number = name.rpartition("::")
    return (test, int(number)) if number.isdecimal() else (name, 1)


def write_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Write texts by file and test, one line each."""
    files: dict[str, dict[str, str]] = {}
    for name in sorted(texts, key=_place):
        file, _, test = name.partition("::")
        files.setdefault(file, {})[test] = texts[name]
    path.write_text(yaml.safe_dump(files, allow_unicode=True, sort_keys=False, width=float("inf")))
