"""Code of a user's own for tests: a module in the working folder, as a setting names one."""

# Private access: custom code is importable as if a command line had named it.
from __future__ import annotations

from pathlib import Path

import pytest

from foundation import plugin


class Everything(set[str]):
    """Names that are all allowed."""

    def __contains__(self, name: object) -> bool:
        return True


def own_module(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with this code in a folder, which becomes the working folder.

    A module is imported once for its name: each folder's has another one. What it holds may be
    imported as if a command's words had named it.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(plugin, "_allowed_imports", Everything())
    name = f"own_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(code)
    return name
