"""Code of a user's own, named as `module:name` where a setting names one of the system's."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import (
    BrokerError,
    DataError,
    InputError,
    did_you_mean,
    in_one_line,
    nearest_or_all,
)
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
    except InputError as error:
        # What it says of a setting is said of one that own code made, and nobody typed.
        if str(error).startswith(f"{key}: "):
            raise
        raise InputError(f"{key}: {name} fails in {place(error, name)}: {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{key}: {name} fails in {place(error, name)}: {_said(error)}") from error


def place(error: BaseException, name: str) -> str:
    """File and line that an error comes from: the last one of the module that `name` names.

    Where that module has no line in it, it is the very last one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    home = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    own = [frame for frame in frames if frame.filename == home]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name} line {last.lineno}"


def name_of(thing: object) -> str:
    """`module:Name` of the class of a thing."""
    return f"{type(thing).__module__}:{type(thing).__qualname__}"


def called(name: str, arguments: Mapping[str, Any]) -> str:
    """The name with the arguments that it is called with."""
    words = ", ".join(f"{word}={value!r}" for word, value in arguments.items())
    return f"{name}({words})"


def _said(error: BaseException) -> str:
    said = f"{type(error).__name__}: {in_one_line(str(error))}"
    if isinstance(error, ValueError) and "read-only" in said:
        return f"{said}; what own code is given stays as it is, write into a copy"
    return said


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
        home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"{key}: importing {module} failed: {error}") from error
        raise InputError(
            f"{key}: there is no module {module!r} in {folder} or in the environment"
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{key}: importing {module} failed: {_said(error)}") from error
    if not hasattr(home, attribute):
        place = getattr(home, "__file__", None)
        where = f" ({place})" if place else ""
        hint = did_you_mean(attribute, (each for each in dir(home) if not each.startswith("_")))
        raise InputError(f"{key}: module {module!r}{where} has no {attribute!r}{hint}")
    return getattr(home, attribute)


def plugin_digest(name: str) -> str:
    """Digest of the source of the module that `module:name` names; empty where it has none."""
    try:
        spec = importlib.util.find_spec(name.partition(":")[0])
        origin = None if spec is None else spec.origin
        return "" if origin is None else file_digest(Path(origin))
    except (ImportError, ValueError, OSError):
        return ""


def check_plugin(key: str, name: str, make: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse what `module:name` named where it cannot be called so; nothing is called.

    Raises
    ------
    InputError
        where it is no class or function, and where it does not take the arguments.
    """
    if not callable(make):
        raise InputError(f"{key}: {name} is no class or function, but {type(make).__name__}")
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        # Some of what is not written in Python says nothing of its arguments.
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        strange = [word for word in arguments if word not in signature.parameters]
        hint = nearest_or_all(strange[0], signature.parameters) if strange else ""
        if strange and not signature.parameters:
            hint = "; it takes none"
        raise InputError(f"{key}: {called(name, arguments)} fails: {_said(error)}{hint}") from error


def build_plugin(
    key: str, name: str, make: Any, arguments: Mapping[str, Any], needs: tuple[str, ...]
) -> Any:
    """What `make`, which `module:name` named, makes of these arguments.

    needs: the attributes it has to have.

    Raises
    ------
    InputError
        where it does not take the arguments, and where what it makes lacks something.
    """
    check_plugin(key, name, make, arguments)
    try:
        thing = make(**arguments)
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, InputError) else _said(error)
        raise InputError(f"{key}: {called(name, arguments)} fails: {said}") from error
    missing = [attribute for attribute in needs if not hasattr(thing, attribute)]
    if missing:
        raise InputError(f"{key}: what {name} makes has no {', '.join(missing)}")
    return thing
