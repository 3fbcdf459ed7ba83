"""Apply tables of renames to the tree: `python tools/rename.py TABLE.csv ...`.

A table has the columns `old, new, where, public, meaning`. `old` is an identifier, `Class.member`
or the path of a module. `where` lists files and folders, separated by spaces; if it is empty, the
row applies to the whole tree. A row whose `where` begins with `BY HAND` is left to a person.
"""

from __future__ import annotations

import ast
import csv
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = ".py"
TEXT = {".md", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".sh", ".json", ""}
BACKTICKS = re.compile(r"`[^`\n]+`")
FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"[A-Za-z_]\w*")
OWNER = re.compile(r"(\w+)\.$")


@dataclass(frozen=True)
class Rename:
    """A row of a table."""

    old: str
    new: str
    where: tuple[str, ...]

    @property
    def is_module(self) -> bool:
        return "/" in self.old

    @property
    def owner(self) -> str | None:
        return self.old.rpartition(".")[0] or None

    @property
    def member(self) -> str:
        return self.old.rpartition(".")[2]

    @property
    def replacement(self) -> str:
        return self.new.rpartition(".")[2]

    def applies_to(self, path: str) -> bool:
        return not self.where or any(
            path == place or path.startswith(place.rstrip("/") + "/") for place in self.where
        )


class Words:
    """Renames of words in text: plain ones, and members written after their class."""

    def __init__(self, renames: Iterable[Rename]) -> None:
        renames = list(renames)
        self.plain = {r.member: r.replacement for r in renames if r.owner is None}
        self.owned = {(r.owner, r.member): r.replacement for r in renames if r.owner is not None}

    def of(self, word: str, owner: str | None) -> str:
        return self.owned.get((owner or "", word), self.plain.get(word, word))

    def in_text(self, text: str) -> str:
        def rename(match: re.Match[str]) -> str:
            owner = OWNER.search(text, max(0, match.start() - 80), match.start())
            return self.of(match[0], owner and owner[1])

        return WORD.sub(rename, text)

    def in_backticks(self, text: str) -> str:
        return BACKTICKS.sub(lambda match: self.in_text(match[0]), text)

    def in_markdown(self, text: str, surely: Words) -> str:
        """Rename what stands between backticks, and what is surely a name in blocks of code."""
        pieces = FENCED.split(text)
        return "".join(
            surely.in_text(piece) if piece.startswith("```") else self.in_backticks(piece)
            for piece in pieces
        )


def read_table(path: str) -> Iterator[Rename]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not row["where"].startswith("BY HAND"):
                yield Rename(row["old"], row["new"], tuple(row["where"].split()))


def renamed_python(source: str, renames: list[Rename]) -> str:
    """Return source code in which names, whole strings and words in backticks are renamed."""
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, int, str]] = []
    words = Words(renames)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for k, token in enumerate(tokens):
        text = None
        if token.type == tokenize.NAME:
            owner = tokens[k - 2].string if k >= 2 and tokens[k - 1].string == "." else None
            text = words.of(token.string, owner)
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            text = renamed_words(token.string, words)
        if text is None or text == token.string:
            continue
        (row, begin), (last, end) = token.start, token.end
        if row == last:
            edits.append((row, begin, end, text))
        else:
            first, *others = text.split("\n")
            for offset, piece in enumerate([first, *others]):
                start = begin if offset == 0 else 0
                stop = end if row + offset == last else len(lines[row + offset - 1].rstrip("\n"))
                edits.append((row + offset, start, stop, piece))
    for row, begin, end, text in sorted(edits, reverse=True):
        line = lines[row - 1]
        lines[row - 1] = line[:begin] + text + line[end:]
    return "".join(lines)


def renamed_words(text: str, words: Words) -> str:
    """Return a string or a comment renamed: whole, if it is a name, or what is in backticks."""
    if not text.startswith("#"):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = None
        if isinstance(value, str) and value in words.plain:
            return text.replace(value, words.plain[value])
    return words.in_backticks(text)


def renamed_text(text: str, renames: list[Rename], path: str) -> str:
    """Return a document or configuration in which words are renamed.

    In a Markdown file words in backticks; elsewhere every word of a row that names the file, or
    that cannot be an English word.
    """
    surely = Words(r for r in renames if path in r.where or "_" in r.old or not r.old.islower())
    if path.endswith(".md"):
        return Words(renames).in_markdown(text, surely)
    return surely.in_text(text)


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def move_modules(moves: Iterable[Rename], files: list[Path]) -> None:
    moves = list(moves)
    for move in moves:
        subprocess.run(["git", "mv", move.old, move.new], check=True)
    for path in files:
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        after = text
        for move in moves:
            old, new = dotted(move.old), dotted(move.new)
            after = re.sub(rf"(?<![\w.]){re.escape(old)}(?!\w)", new, after)
            after = re.sub(rf"(?<![\w/]){re.escape(move.old)}(?!\w)", move.new, after)
            package, _, name = old.rpartition(".")
            new_name = new.rpartition(".")[2]
            after = re.sub(
                rf"(from {re.escape(package)} import (?:[\w, ]+, )?){name}\b(?! as)",
                rf"\1{new_name}",
                after,
            )
        if after != text:
            path.write_text(after, encoding="utf-8")


def tree() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout
    return [Path(line) for line in listed.splitlines()]


def apply(tables: list[str]) -> None:
    renames = [row for table in tables for row in read_table(table)]
    skip = {Path(table).resolve() for table in tables} | {Path(__file__).resolve()}
    for path in tree():
        if path.resolve() in skip or path.suffix not in {PYTHON, *TEXT} or path.is_symlink():
            continue
        here = [r for r in renames if not r.is_module and r.applies_to(str(path))]
        if not here:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.suffix == PYTHON:
            after = renamed_python(text, here)
        else:
            after = renamed_text(text, here, str(path))
        if after != text:
            path.write_text(after, encoding="utf-8")
    move_modules(
        (r for r in renames if r.is_module), [p for p in tree() if p.suffix in {PYTHON, *TEXT}]
    )


if __name__ == "__main__":
    apply(sys.argv[1:])
