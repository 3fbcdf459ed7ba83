"""Code from outside this project: entry points of installed packages, and `_target_` of settings.

    [project.entry-points."kelly_chronos.brokers"]
    mine = "my_package.broker:Connection"

products     packages with commands or settings. The table `COMMANDS` of a package has a `Command`
             for each subcommand of `kelly-chronos`; its table `SETTINGS` has the settings class,
             as `module:Class`, of each file in `configs`, and its table `MODES` the function, as
             `module:function`, of each mode that it adds to the live command
jobs         names for `jobs=[…]` of the live loop. Each is a function like `open_job`, whose
             context is a `PluginJob` (`execution/live/runner.py`) with a section of the status
             page
brokers      names for `broker.name=…`. Each is a function of settings and keys that returns a
             `BrokerConnection` (`execution/brokers.py`); `BrokerContract` of `execution.testing`
             tests it
launchers    names for `launcher=…`, each a function like `run_tasks` (`forecasting/ray_tasks.py`)
forecasters, strategies, correlations, ranks, fees
             names for `GROUP._target_=…` that stand for a `module.Name`

An entry point is imported when it is used. The project's own entry points are read from its
pyproject.toml in a source tree, whose installed metadata may be missing or old. Installed packages
are not searched for them.

Code that `_target_` names is imported only if the name is in the command line, or in a settings
file that the command line names. A name in a results folder, in a journal or in an interpolated
value is never imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import (
    BrokerError,
    DataError,
    InputError,
    closest_choices,
    format_choices,
    format_suggestion,
    invalid_choice_error,
    to_one_line,
)
from foundation.files import file_digest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

HYDRA_TARGET_KEY = "_target_"
# Settings groups that accept custom code, and the key of each group that names the code.
PLUGIN_KEYS = {
    "forecaster": "kind",
    "sizing": "strategy",
    "correlation": "kind",
    "universe": "rank",
    "fees": "",
}
# Kind of the entry points whose names are accepted in place of `module.Name`, by settings group.
ENTRY_POINT_KINDS = {
    "forecaster": "forecasters",
    "sizing": "strategies",
    "correlation": "correlations",
    "universe": "ranks",
    "fees": "fees",
}
_HYDRA_KEYS = (HYDRA_TARGET_KEY, "_partial_", "_args_", "_recursive_", "_convert_")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
ENTRY_POINT_PREFIX = "kelly_chronos."
_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_allowed_imports: set[str] = set()
# Kinds of parameters that settings cannot name.
_UNNAMEABLE_PARAMETERS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
# Accepted types of an argument, with their name in messages, by the type of its default.
_ACCEPTED_TYPES: Mapping[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
    str: ("text", (str,)),
}


def is_plugin(name: str) -> bool:
    """Return whether a name has the form of custom code, `module.name`."""
    return _DOTTED.fullmatch(name) is not None


def allow_plugin_import(name: str) -> None:
    _allowed_imports.add(name)


def allow_configured_plugins(values: Any) -> None:
    """Allow imports of the custom code that a command line's settings name with `_target_`.

    A varied setting, `GROUP._target_`, names a list of them.

    values: settings as nested mappings and lists, with interpolations unresolved.
    """
    if isinstance(values, Mapping):
        for key, given in values.items():
            if str(key).rpartition(".")[2] == HYDRA_TARGET_KEY:
                for name in given if isinstance(given, list) else [given]:
                    if isinstance(name, str):
                        allow_plugin_import(name)
    for part in child_values(values).values():
        allow_configured_plugins(part)


def apply_plugin_targets(values: dict[str, Any]) -> None:
    """Move each settings group's `_target_` to the group's key for custom code, in place.

    For fees, `_target_` names a function without arguments; its result replaces the group.

    values: settings as nested plain mappings.
    """
    for group, key in PLUGIN_KEYS.items():
        part = values.get(group)
        if not isinstance(part, dict) or (name := part.pop(HYDRA_TARGET_KEY, None)) is None:
            continue
        name = _target_name(group, name)
        if key:
            part[key] = name
        else:
            make = load_plugin(group, name)
            with translate_plugin_errors(group, name):
                values[group] = make()
    _refuse_targets_elsewhere(values, "")


def resolve_varied_targets(vary: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each `GROUP._target_` among varied settings by the group's key for custom code.

    Names of the built-in choices, such as `ewma`, stay as they are.

    vary: values of each varied setting, by dotted key.
    """
    resolved = dict(vary)
    for group, key in PLUGIN_KEYS.items():
        place = f"{group}.{HYDRA_TARGET_KEY}"
        values = vary.get(place)
        if not key or not isinstance(values, list) or not values:
            continue
        if f"{group}.{key}" in vary:
            raise InputError(f"vary.{place}: vary.{group}.{key} sets it too; remove one of them")
        installed = entry_point_names(ENTRY_POINT_KINDS[group])
        del resolved[place]
        resolved[f"{group}.{key}"] = [
            _target_name(group, name) if is_plugin(str(name)) or name in installed else name
            for name in values
        ]
    return resolved


def child_values(values: Any) -> dict[str, Any]:
    """Return the children of a mapping by key, or of a list by index; empty for other values."""
    if isinstance(values, Mapping):
        return {str(name): part for name, part in values.items()}
    return {str(k): part for k, part in enumerate(values)} if isinstance(values, list) else {}


def _refuse_targets_elsewhere(values: Any, place: str) -> None:
    for name, part in child_values(values).items():
        if name in _HYDRA_KEYS:
            raise InputError(
                f"{place}{name}: not allowed here; name custom code with {HYDRA_TARGET_KEY} in one"
                f" of {', '.join(PLUGIN_KEYS)}"
            )
        _refuse_targets_elsewhere(part, f"{place}{name}.")


def _target_name(group: str, name: object) -> str:
    """Return the `module.name` of a `_target_`, which may be an entry point's name.

    Raises InputError if the command line does not name the code, or no installed package offers it.
    """
    if not isinstance(name, str) or is_plugin(name) or name not in _allowed_imports:
        _refuse_unlisted_target(group, name)
        return str(name)
    if (place := entry_point_target(ENTRY_POINT_KINDS[group], name)) is None:
        names = entry_point_names(ENTRY_POINT_KINDS[group])
        which = f"; installed: {format_choices(names)}" if names else ""
        hint = format_suggestion(closest_choices(name, names))
        raise InputError(
            f"{group}.{HYDRA_TARGET_KEY}: {name!r} is neither module.name nor"
            f" installed{which}{hint}"
        )
    dotted = place.replace(":", ".")
    allow_plugin_import(dotted)
    return dotted


def _refuse_unlisted_target(group: str, name: object) -> None:
    if not (isinstance(name, str) and is_plugin(name)):
        raise InputError(
            f"{group}.{HYDRA_TARGET_KEY}: {name!r} is not of the form module.name, such as"
            " my_code.function"
        )
    if name not in _allowed_imports:
        raise InputError(
            f"{group}.{HYDRA_TARGET_KEY}: {name} is not run, because the command line does not name"
            f" it; add {group}.{HYDRA_TARGET_KEY}={name}"
        )


def load_plugin(group: str, name: str) -> Any:
    """Import and return the object `module.name` from the environment or the working folder.

    group: settings group whose `_target_` names the code.

    Raises InputError if the command line does not name the code, or the import fails.
    """
    _refuse_unlisted_target(group, name)
    module, _, attribute = name.rpartition(".")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {to_one_line(str(error))}"
        raise InputError(
            f"{group}.{HYDRA_TARGET_KEY}: {name} cannot be imported from {folder} or the"
            f" environment: {cause}"
        ) from error


@contextmanager
def translate_plugin_errors(group: str, name: str) -> Iterator[None]:
    """Convert exceptions of custom code in the block to an `InputError` that names the code.

    group: settings group whose `_target_` names the code.
    name: `_target_` of the group, or its call as text (`format_plugin_call`).

    Raises InputError for any exception, with its file and line; BrokerError and DataError are
    passed on.
    """
    try:
        yield
    except (BrokerError, DataError):
        raise
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {to_one_line(str(error))}"
        place = _error_location(error, name)
        raise InputError(
            f"{group}.{HYDRA_TARGET_KEY}: {name} failed in {place}: {cause}"
        ) from error


def check_plugin_arguments(
    group: str, name: str, target: Callable[..., Any], arguments: Mapping[str, Any], given: int = 0
) -> None:
    """Check that custom code accepts its settings `arguments`.

    group, name: settings group whose `_target_` names the code, and that name.
    target: function or class that `name` refers to.
    arguments: arguments by name.
    given: number of leading parameters that the caller passes.

    Raises InputError for an unknown name, a missing one, or a value of another type than the
    parameter's default.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())[given:]
    except ValueError:  # compiled code without a signature
        return
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    known = {each.name: each for each in parameters if each.kind not in _UNNAMEABLE_PARAMETERS}
    for word, value in arguments.items():
        key = f"{group}.arguments.{word}"
        if word not in known:
            if not known:
                raise InputError(f"{key}: {name} accepts no arguments; remove it")
            raise invalid_choice_error(f"{group}.arguments", word, known)
        expected, types = _ACCEPTED_TYPES.get(type(known[word].default), ("", ()))
        if types and type(value) not in types:
            raise InputError(f"{key}: {value!r} is not {expected}")
    for word, each in known.items():
        if each.default is inspect.Parameter.empty and word not in arguments:
            key = f"{group}.arguments.{word}"
            raise InputError(f"{key}: not set, but {name} requires it; set {key}=…")


def create_plugin(
    group: str, name: str, target: Callable[..., Any], arguments: Mapping[str, Any]
) -> Any:
    """Check the settings `arguments` of custom code, call it with them, and return its result.

    target: class or function that `name` refers to.

    Raises InputError for arguments that it does not accept, and for an error in its code.
    """
    check_plugin_arguments(group, name, target, arguments)
    with translate_plugin_errors(group, format_plugin_call(name, arguments)):
        return target(**arguments)


def format_plugin_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the call of custom code as text: `module.Name(window=60)`, or the name alone."""
    if not arguments:
        return name
    words = ", ".join(f"{word}={value!r}" for word, value in arguments.items())
    return f"{name}({words})"


def plugin_digest(name: str) -> str:
    """Return the SHA-256 of the source file of a plugin's module; empty without a source.

    The digest is also empty for code that may not be imported, because finding a module imports its
    package.
    """
    if name not in _allowed_imports:
        return ""
    try:
        spec = importlib.util.find_spec(name.rpartition(".")[0])
        origin = None if spec is None else spec.origin
        return "" if origin is None else file_digest(Path(origin))
    except (ImportError, ValueError, OSError):
        return ""


def _error_location(error: BaseException, name: str) -> str:
    """Return file and line of an error: the last line of its traceback in the plugin's module.

    If no line is in that module, return the last line of the traceback.
    """
    import traceback  # not needed for help

    frames = traceback.extract_tb(error.__traceback__)
    module = name.partition("(")[0].rpartition(".")[0]
    home = getattr(sys.modules.get(module), "__file__", None)
    own = [frame for frame in frames if frame.filename == home]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name} line {last.lineno}"


@cache
def _project_entry_points() -> Mapping[str, Mapping[str, str]]:
    """Return the entry points in pyproject.toml, `module:attribute` by group and name.

    The result is empty if the project is installed without its source tree.
    """
    import tomllib

    if not _PROJECT.is_file():
        return {}
    groups: Mapping[str, Mapping[str, str]] = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))[
        "project"
    ]["entry-points"]
    return groups


@cache
def _installed_entry_points(kind: str) -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_PREFIX + kind)}


def entry_point_names(kind: str) -> list[str]:
    """Return the names of all entry points of a kind, those of the project first."""
    return list(
        dict.fromkeys(
            [
                *_project_entry_points().get(ENTRY_POINT_PREFIX + kind, ()),
                *_installed_entry_points(kind),
            ]
        )
    )


def entry_point_target(kind: str, name: str) -> str | None:
    """Return the `module:attribute` of an entry point; None for an unknown name."""
    if (own := _project_entry_points().get(ENTRY_POINT_PREFIX + kind, {}).get(name)) is not None:
        return own
    point = _installed_entry_points(kind).get(name)
    return None if point is None else point.value


def load_entry_point(kind: str, name: str) -> Any:
    """Import and return the object of an entry point."""
    from importlib import import_module

    module, _, attribute = (entry_point_target(kind, name) or "").partition(":")
    value: Any = import_module(module)
    return getattr(value, attribute) if attribute else value


def iterate_product_tables(table: str) -> Iterator[Mapping[str, Any]]:
    """Yield a table of each product, those of this project first.

    Installed packages are searched only after the project's own products.

    table: name of the table, `COMMANDS` or `SETTINGS`.
    """
    for name in _project_entry_points().get(f"{ENTRY_POINT_PREFIX}products", ()):
        yield getattr(load_entry_point("products", name), table, {})
    for name in _installed_entry_points("products"):
        if name not in _project_entry_points().get(f"{ENTRY_POINT_PREFIX}products", ()):
            yield getattr(load_entry_point("products", name), table, {})


def find_product_entry(table: str, key: str) -> Any:
    """Return the entry of a key in one table of the products; None if no product has the key.

    table: name of the table, `COMMANDS` or `SETTINGS`.
    key: key of the entry.
    """
    return next((each[key] for each in iterate_product_tables(table) if key in each), None)


def load_product_object(table: str, key: str) -> Any:
    """Import and return the object of a key in one table of the products.

    table: name of the table, `SETTINGS` or `MODES`.
    key: key of the object, which a product has.
    """
    module, _, name = find_product_entry(table, key).partition(":")
    return getattr(importlib.import_module(module), name)


def merge_product_tables(table: str) -> dict[str, Any]:
    """Return one table of all products, merged into a dictionary.

    table: name of the table, `COMMANDS` or `SETTINGS`.
    """
    return {word: value for each in iterate_product_tables(table) for word, value in each.items()}
