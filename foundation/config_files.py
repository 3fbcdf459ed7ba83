"""YAML files of a user's own: what is wrong with one is one line with file, line and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foundation.errors import InputError, in_one_line


def check_config_file(path: Path, group: str, examples: str = "") -> None:
    """Refuse a YAML file that holds no settings by name.

    path: of the file; group: of settings that it is for, the folder below `configs`. examples:
    where such files are shown; none: in that folder.
    """
    here = Path.cwd()
    place = path.relative_to(here) if path.is_relative_to(here) else path
    examples = examples or f"see those in {Path('configs', group)}"
    try:
        content = plain_yaml(path)
        if isinstance(content, dict):
            OmegaConf.load(path)  # it refuses more, as a key that stands twice
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" line {error.problem_mark.line + 1}"
        raise InputError(f"{place}{where}: it is no YAML: {error.problem}") from error
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{place}: it cannot be read: {in_one_line(str(error))}") from error
    if content is None:
        raise InputError(f"{place}: it holds no {group or 'settings'}; {examples}")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "one value"
        raise InputError(f"{place}: it holds {kind}, and lines key: value are needed; {examples}")


def refuse_aliases(text: str) -> None:
    """Refuse a YAML text in which a node refers to another: a few lines can stand for billions.

    Raises yaml.MarkedYAMLError naming the line.
    """
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor} refers to another place; write out what stands there"
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def plain_yaml(path: Path) -> Any:
    """What a YAML file without aliases holds.

    Raises OSError, ValueError, yaml.YAMLError for a file that cannot be read, or is none.
    """
    text = path.read_text(encoding="utf-8")
    refuse_aliases(text)
    return yaml.safe_load(text)
