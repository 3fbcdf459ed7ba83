"""Shell completion of commands, flags, settings and their values.

    eval "$(kelly-chronos --completion bash)"            # in ~/.bashrc
    eval "$(kelly-chronos --completion zsh)"             # in ~/.zshrc, after compinit
    kelly-chronos --completion fish | source             # in ~/.config/fish/config.fish

A shell asks `kelly-chronos --complete WORD …` for the candidates of the last word, one per line;
where there is none it completes file names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from foundation.cli import JSON_FLAG, Command, module_docstring
from foundation.errors import invalid_choice
from foundation.schemas import read_settings

COMPLETION_FLAG = "--completion"
COMPLETE_FLAG = "--complete"  # used by the scripts alone
OWN_FLAGS = ("--help", "--version", COMPLETION_FLAG)

_BASH = r"""_kelly_chronos() {
    local line="${COMP_LINE:0:COMP_POINT}" words IFS=$' \t\n'
    read -r -a words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local word="${words[${#words[@]}-1]}"
    IFS=$'\n'
    COMPREPLY=($("${words[0]}" --complete "${words[@]:1}" 2>/dev/null))
    # Readline begins a new word after `=`, which it keeps.
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
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

# Lower-case words after a command's name in the usage of its docstring.
_USAGE = re.compile(
    r"(?:kelly-chronos [\w-]+|python (?:-m )?[\w.]+) ([a-z]+(?:\|[a-z]+)*)(?![\w=./])"
)
_DOCUMENTED_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def completion_script(shell: str) -> str:
    """Return the script of a shell. Raises InputError for another shell."""
    if shell not in SCRIPTS:
        raise invalid_choice(COMPLETION_FLAG, shell, SCRIPTS)
    return SCRIPTS[shell]


def candidates(words: Sequence[str], commands: Mapping[str, Command]) -> list[str]:
    """Return what may replace the last of the words after the program's name.

    commands: listed commands by word.
    """
    last = words[-1] if words else ""
    if len(words) < 2:
        names = [name.replace("_", "-") for name in commands]
        return _beginning(last, [*names, *(OWN_FLAGS if last.startswith("-") else ())])
    if words[0] == COMPLETION_FLAG:
        return _beginning(last, SCRIPTS)
    command = commands.get(words[0].replace("-", "_"))
    if command is None:
        return []
    if "=" in last:
        return _beginning(last, _values(command, last.partition("=")[0]))
    if last.startswith("-"):
        return _beginning(last, _flags(command))
    usage = [
        word
        for found in _USAGE.findall(module_docstring(command.module))
        for word in found.split("|")
    ]
    plain = _beginning(last, dict.fromkeys(usage)) if len(words) == 2 else []
    return [*plain, *dict.fromkeys(_keys(command, last))]


def _beginning(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _flags(command: Command) -> list[str]:
    """Return the flags that a command's help names."""
    found = _DOCUMENTED_FLAG.findall(module_docstring(command.module))
    shared = ["--help", *(["--cfg"] if command.config else [])]
    hydra = ["--multirun", "--config-dir", "--config-name"] if command.takes_hydra_flags else []
    json = [JSON_FLAG] if command.json is not None else []
    return [*dict.fromkeys([*found, *shared, *hydra, *json])]


def _keys(command: Command, start: str) -> Iterator[str]:
    """Yield the settings that begin with a text, each up to its next group."""
    if command.config is None:
        return
    for key, entry in read_settings(command.config).items():
        if not key.startswith(start):
            continue
        head, dot, _ = key[len(start) :].partition(".")
        if dot:
            yield f"{start}{head}."
        elif entry.is_group:
            yield f"{key}."
            yield from [f"{key}="] if entry.choices else []
        else:
            yield f"{key}="
    yield from _beginning(start, ["config="])


def _values(command: Command, key: str) -> list[str]:
    """Return the accepted words of a setting, as key=value; empty if it takes others."""
    entry = read_settings(command.config or "").get(key)
    return [f"{key}={choice}" for choice in entry.choices] if entry else []
