"""Code of a user's own for tests: a module in the working folder, as a setting names one."""

from __future__ import annotations

from pathlib import Path

import pytest


def own_module(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with this code in a folder, which becomes the working folder.

    A module is imported once for its name: each folder's has another one.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    name = f"own_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(code)
    return name
