"""Where a Chronos-2 checkpoint lies, what it can do, and which weights it holds; known without
loading it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from forecasting.forecast import HORIZON, LEVELS
from foundation.errors import InputError

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints" / "small"
WEIGHTS = "model.safetensors"
# seconds after which another change of a file shows in its stamps: the clocks of file systems are
# coarse
SETTLED = 2.0

Stamp = tuple[Path, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with `config.json` and safetensors.

    context: longest context in bars. patch: bars a patch. ahead: steps one forward pass answers at
    most. levels: rows of the model's quantiles that are `LEVELS`. plain: whether its layers are
    those of `forecasting.chronos2.network`.
    """

    folder: Path
    name: str
    context: int
    patch: int
    ahead: int
    levels: tuple[int, ...]
    plain: bool

    @property
    def rebuilt(self) -> bool:
        """Whether `network` stands for the library's model; else the library answers, unrolled
        where need be.
        """
        return self.plain and self.ahead >= HORIZON

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration and of the weights that lie there now, in hex.

        Kept by what the file system says of the files; not while they are so new that another
        change may not show in it.
        """
        try:
            stamps = tuple(_stamp(path) for path in _files(self.folder))
            newest = max(changed for *_, changed in stamps)
            if time.time() - newest / 1e9 > SETTLED:
                return _kept_digest(stamps)
            return hashed([path for path, *_ in stamps])
        except OSError as error:
            raise _unreadable(self.folder, error) from error

    @contextmanager
    def frozen(self) -> Iterator[Checkpoint]:
        """A copy of it that nobody else writes over, for as long as the context lasts.

        The library maps weights from their file into memory: what is written into the file later is
        computed with. What has been loaded from the copy stays as it was also when the copy has
        gone.
        """
        with TemporaryDirectory(prefix="checkpoint-", ignore_cleanup_errors=True) as place:
            try:
                copied(self.folder, Path(place))
            except OSError as error:
                raise _unreadable(self.folder, error) from error
            yield replace(checkpoint(place), name=self.name)


def checkpoint(model: str) -> Checkpoint:
    """A folder, or a hub id such as `amazon/chronos-2` (`amazon/chronos-2@REVISION` pins it),
    fetched once by the library.

    What it can do is read again with every call: a configuration can be written over.

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
        limit = int(chronos["context_length"])
        ahead = patch * int(chronos.get("max_output_patches", 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"forecaster.model: {model} cannot be loaded as Chronos-2: config.json: {reason}"
        ) from error
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"forecaster.model: {model} cannot be loaded as Chronos-2: no {WEIGHTS} in {folder}"
        )
    missing = [q for q in LEVELS if q not in levels]
    if missing:
        raise InputError(f"forecaster.model: {model} does not forecast level {missing[0]}")
    plain = chronos.get("input_patch_stride", patch) == patch and bool(
        chronos.get("use_reg_token", False)
    )
    name = folder.name if Path(model).expanduser().is_dir() else model
    return Checkpoint(
        folder, name, limit, patch, ahead, tuple(levels.index(q) for q in LEVELS), plain
    )


def copied(folder: Path, place: Path) -> None:
    """Copy what a checkpoint is loaded from."""
    for path in _files(folder):
        shutil.copyfile(path, place / path.name)


def hashed(files: list[Path]) -> str:
    """SHA-256 of the files' names and contents, in hex."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _folder(model: str) -> Path:
    path = Path(model).expanduser()
    return path if path.is_dir() else _fetched(model)


@cache
def _fetched(model: str) -> Path:
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
    """What a checkpoint is loaded from, in the order of the names."""
    return sorted(
        [
            folder / "config.json",
            *folder.glob("*.safetensors"),
            *folder.glob("*.safetensors.index.json"),
        ]
    )


def _stamp(path: Path) -> Stamp:
    """What tells a file from what it was before: who writes can set the second last, nobody the
    last.
    """
    state = path.stat()
    return path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@lru_cache(maxsize=64)
def _kept_digest(stamps: tuple[Stamp, ...]) -> str:
    return hashed([path for path, *_ in stamps])


def _unreadable(folder: Path, error: OSError) -> InputError:
    return InputError(f"forecaster.model: {folder} cannot be read: {error.strerror or error}")
