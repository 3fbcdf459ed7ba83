"""Shell completion of commands, flags, settings and their values.

    eval "$(kelly-chronos --completion bash)"            # in ~/.bashrc
    eval "$(kelly-chronos --completion zsh)"             # in ~/.zshrc, after compinit
    kelly-chronos --completion fish | source             # in ~/.config/fish/config.fish

The shell calls `kelly-chronos --complete WORD …`, which prints the candidates of the last word, one
per line. Without candidates the shell completes file names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from foundation.cli import JSON_FLAG, Command, read_module_docstring
from foundation.errors import invalid_choice_error
from foundation.schemas import read_settings_schema

COMPLETION_SCRIPT_FLAG = "--completion"
LIST_CANDIDATES_FLAG = "--complete"  # only the scripts use it
_PROGRAM_FLAGS = ("--help", "--version", COMPLETION_SCRIPT_FLAG)

_BASH = r"""_kelly_chronos() {
    local line="${COMP_LINE:0:COMP_POINT}" words IFS=$' \t\n'
    read -r -a words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local word="${words[${#words[@]}-1]}"
    IFS=$'\n'
    COMPREPLY=($("${words[0]}" --complete "${words[@]:1}" 2>/dev/null))
    # Readline starts a new word after `=`: return only the part behind it.
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ "${COMPREPLY[*]}" == *[=.] ]] && compopt -o nospace
}
complete -o default -F _kelly_chronos kelly-chronos
"""
_ZSH = r"""_kelly_chronos() {
    local -a found
    found=(${(f)"$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then
        compadd -Q -S '' -- ${(M)found:#*[=.]}
        compadd -Q -- ${found:#*[=.]}
    else
        compset -P '*='
        _files
    fi
}
compdef _kelly_chronos kelly-chronos
"""
_FISH = r"""function __kelly_chronos
    set -l words (commandline -opc) (commandline -ct)
    $words[1] --complete $words[2..-1] 2>/dev/null
end
complete -c kelly-chronos -a '(__kelly_chronos)'
"""
COMPLETION_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

# Plain arguments, such as `status`, after a command's name in the usage lines of its docstring.
_USAGE = re.compile(
    r"(?:kelly-chronos [\w-]+|python (?:-m )?[\w.]+) ([a-z]+(?:\|[a-z]+)*)(?![\w=./])"
)
_DOCUMENTED_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def completion_script(shell: str) -> str:
    """Return the completion script of a shell. Raises InputError for an unknown shell."""
    if shell not in COMPLETION_SCRIPTS:
        raise invalid_choice_error(COMPLETION_SCRIPT_FLAG, shell, COMPLETION_SCRIPTS)
    return COMPLETION_SCRIPTS[shell]


def list_candidates(words: Sequence[str], commands: Mapping[str, Command]) -> list[str]:
    """Return the completions of the last word of a command line.

    words: words after the program's name.
    commands: listed commands by name.
    """
    last = words[-1] if words else ""
    if len(words) < 2:
        names = [name.replace("_", "-") for name in commands]
        return _with_prefix(last, [*names, *(_PROGRAM_FLAGS if last.startswith("-") else ())])
    if words[0] == COMPLETION_SCRIPT_FLAG:
        return _with_prefix(last, COMPLETION_SCRIPTS)
    command = commands.get(words[0].replace("-", "_"))
    if command is None:
        return []
    if "=" in last:
        return _with_prefix(last, _setting_values(command, last.partition("=")[0]))
    if last.startswith("-"):
        return _with_prefix(last, _documented_flags(command))
    usages = _USAGE.findall(read_module_docstring(command.module)) if len(words) == 2 else []
    arguments = [argument for usage in usages for argument in usage.split("|")]
    return [
        *dict.fromkeys([*_with_prefix(last, arguments), *_matching_setting_keys(command, last)])
    ]


def _with_prefix(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


def _documented_flags(command: Command) -> list[str]:
    """Return the flags of a command: those of its docstring and those of all commands."""
    flags = [*_DOCUMENTED_FLAG.findall(read_module_docstring(command.module)), "--help"]
    if command.config is not None:
        flags.append("--cfg")
    if command.takes_hydra_flags:
        flags += ["--multirun", "--config-dir", "--config-name"]
    if command.json_argument is not None:
        flags.append(JSON_FLAG)
    return [*dict.fromkeys(flags)]


def _matching_setting_keys(command: Command, prefix: str) -> Iterator[str]:
    """Yield the settings with a prefix, each up to its next group."""
    if command.config is None:
        return
    for key, entry in read_settings_schema(command.config).items():
        if not key.startswith(prefix):
            continue
        head, dot, _ = key[len(prefix) :].partition(".")
        if dot:
            yield f"{prefix}{head}."
        elif entry.is_group:
            yield f"{key}."
            yield from [f"{key}="] if entry.choices else []
        else:
            yield f"{key}="
    yield from _with_prefix(prefix, ["config="])


def _setting_values(command: Command, key: str) -> list[str]:
    """Return the choices of a setting as key=value words; empty without a list of choices."""
    entry = read_settings_schema(command.config or "").get(key)
    return [f"{key}={choice}" for choice in entry.choices] if entry else []
