"""Where a Chronos-2 checkpoint lies, what it can do, and which weights it holds; known without loading it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from forecasting.forecast import LEVELS
from trainingdata.errors import InputError

SHIPPED = Path(__file__).parent / "checkpoints" / "small"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with `config.json` and safetensors.

    context: longest context in bars. patch: bars a patch. ahead: steps one forward pass answers at most. levels: rows of
    the model's quantiles that are `LEVELS`. plain: whether `forecasting.network` can stand for the library's model.
    """

    folder: Path
    name: str
    context: int
    patch: int
    ahead: int
    levels: tuple[int, ...]
    plain: bool

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration and of the weights, in hex."""
        return _digest(tuple(sorted((p, p.stat().st_mtime_ns) for p in _files(self.folder))))


@cache
def checkpoint(model: str) -> Checkpoint:
    """A folder, or a hub id such as `amazon/chronos-2` (`amazon/chronos-2@REVISION` pins it), fetched once by the library.

    Raises
    ------
    InputError
        naming what is missing or does not fit.
    """
    folder = _folder(model)
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        chronos = config["chronos_config"]
        levels = [round(float(q), 4) for q in chronos["quantiles"]]
        patch = int(chronos["input_patch_size"])
        limit, ahead = int(chronos["context_length"]), patch * int(chronos.get("max_output_patches", 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"forecaster.model: {model} cannot be loaded as Chronos-2: config.json: {reason}") from error
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"forecaster.model: {model} cannot be loaded as Chronos-2: no {WEIGHTS} in {folder}")
    missing = [q for q in LEVELS if q not in levels]
    if missing:
        raise InputError(f"forecaster.model: {model} does not forecast level {missing[0]}")
    plain = chronos.get("input_patch_stride", patch) == patch and bool(chronos.get("use_reg_token", False))
    name = folder.name if Path(model).expanduser().is_dir() else model
    return Checkpoint(folder, name, limit, patch, ahead, tuple(levels.index(q) for q in LEVELS), plain)


def _folder(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    name, _, revision = model.partition("@")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(f"forecaster.model: {model} is no folder and no hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        wanted = ["config.json", "*.safetensors", "*.safetensors.index.json"]
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=wanted))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"forecaster.model: {model} cannot be fetched: {reason}") from error


def _files(folder: Path) -> list[Path]:
    return [folder / "config.json", *folder.glob("*.safetensors")]


@cache
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
