"""Code of a user's own, named as `module:name` where a setting names one of the system's."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import BrokerError, DataError, InputError, in_one_line
from foundation.files import file_digest

NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@contextmanager
def own_code(key: str, name: str) -> Iterator[None]:
    """Run code of a user's own: what it raises is an error of the setting that names it.

    key: the setting; name: what it names, or that as it was called (`called`).

    Raises
    ------
    InputError
        for whatever is raised within, with the file and the line that it comes from.
    BrokerError, DataError
        as they came.
    """
    try:
        yield
    except (BrokerError, DataError):
        raise
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {in_one_line(str(error))}"
        raise InputError(f"{key}: {name} fails in {_place(error, name)}: {said}") from error


def called(name: str, arguments: Mapping[str, Any]) -> str:
    """The name, with the arguments that it is called with where there are some."""
    if not arguments:
        return name
    words = ", ".join(f"{word}={value!r}" for word, value in arguments.items())
    return f"{name}({words})"


def is_plugin(name: str) -> bool:
    """Whether a name is of the form `module:name`."""
    return NAMED.fullmatch(name) is not None


def load_plugin(key: str, name: str) -> Any:
    """What `module:name` names, from the environment or the working folder.

    key: the setting that names it, for the message.

    Raises
    ------
    InputError
        where there is no such module, where importing it fails, or where it has no such name.
    """
    module, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {in_one_line(str(error))}"
        raise InputError(
            f"{key}: {name} cannot be loaded from {folder} or the environment: {said}"
        ) from error


def plugin_digest(name: str) -> str:
    """Digest of the source of the module that `module:name` names; empty where it has none."""
    try:
        spec = importlib.util.find_spec(name.partition(":")[0])
        origin = None if spec is None else spec.origin
        return "" if origin is None else file_digest(Path(origin))
    except (ImportError, ValueError, OSError):
        return ""


def _place(error: BaseException, name: str) -> str:
    """File and line that an error comes from: the last one of the module that `name` names.

    Where that module has no line in it, it is the very last one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    home = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    own = [frame for frame in frames if frame.filename == home]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name} line {last.lineno}"
