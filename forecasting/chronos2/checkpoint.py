"""Location, dimensions and digest of a Chronos-2 checkpoint, without loading its weights."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from forecasting.forecast import HORIZON, LEVELS
from foundation.errors import InputError
from foundation.formatting import format_count

BUNDLED_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "small"
WEIGHTS_FILE = "model.safetensors"
ARCHITECTURE = "Chronos2Model"
CHANGE_TIME_RESOLUTION_SECONDS = (
    2.0  # seconds until a file's change is reliably visible: file systems' clocks are coarse
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A Chronos-2 checkpoint: a folder with `config.json` and safetensors.

    folder: path of the folder.
    name: name in reports.
    max_context: maximum context length, in bars.
    patch_bars: number of bars in a patch.
    model_width: width of a token's state (`d_model`).
    feed_forward_width: hidden width of a layer's feed-forward network (`d_ff`).
    attention_width: total width of all attention heads.
    quantile_level_indices: [Q] index of each of `LEVELS` among the model's own quantile levels.
    """

    folder: Path
    name: str
    max_context: int
    patch_bars: int
    model_width: int
    feed_forward_width: int
    attention_width: int
    quantile_level_indices: tuple[int, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the current configuration and weights, in hex.

        Raises InputError if a file cannot be read.
        """
        try:
            # A program can set a file's modification time, but not its change time.
            stamped = tuple((path, path.stat().st_ctime_ns) for path in _files(self.folder))
            # A file that changed just now may change again within the same time stamp: its digest
            # is not cached. Otherwise old forecasts could get the cache folder of new weights.
            settled = (
                time.time() - max(at for _, at in stamped) / 1e9 > CHANGE_TIME_RESOLUTION_SECONDS
            )
            return (_cached_files_digest if settled else _cached_files_digest.__wrapped__)(stamped)
        except OSError as error:
            raise _unreadable_error(self.folder, error) from error

    def read_contents(self) -> CheckpointContents:
        """Read the current contents of the checkpoint's files.

        Raises InputError if a file cannot be read.
        """
        try:
            files = {path.name: path.read_bytes() for path in _files(self.folder)}
        except OSError as error:
            raise _unreadable_error(self.folder, error) from error
        described = _parse_checkpoint(self.folder, self.name, files["config.json"])
        return CheckpointContents(described, files, files_digest(files))


@dataclass(frozen=True, eq=False, slots=True)
class CheckpointContents:
    """A checkpoint's files, read into memory so that the loaded weights match the digest.

    The library would map a weights file into memory, and see later writes to it. These bytes do not
    change.

    checkpoint: checkpoint with the dimensions in the configuration.
    files: bytes of each file, by file name.
    digest: SHA-256 of the files, in hex.
    """

    checkpoint: Checkpoint
    files: Mapping[str, bytes]
    digest: str


def find_checkpoint(model: str) -> Checkpoint:
    """Return the checkpoint in a local folder or with a Hugging Face hub id.

    A hub id has the form `amazon/chronos-2`; `amazon/chronos-2@REVISION` pins it. A hub checkpoint
    is downloaded once. The configuration is read at every call, because the file may be
    overwritten.

    Raises InputError for a checkpoint that is not a usable Chronos-2.
    """
    folder = _folder(model)
    name = folder.name if Path(model).expanduser().is_dir() else model
    try:
        written = (folder / "config.json").read_bytes()
    except OSError as error:
        raise _not_chronos_error(name, error) from error
    found = _parse_checkpoint(folder, name, written)
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"forecaster.model: {name} cannot be loaded as Chronos-2: {WEIGHTS_FILE} not found in"
            f" {folder}"
        )
    return found


def _parse_checkpoint(folder: Path, name: str, written: bytes) -> Checkpoint:
    """Return the checkpoint that a configuration describes.

    written: content of `config.json`.
    """
    try:
        config: dict[str, Any] = json.loads(written)
        architectures = config["architectures"]
        chronos = config["chronos_config"]
        levels = [round(float(q), 4) for q in chronos["quantiles"]]
        patch = int(chronos["input_patch_size"])
        context = int(chronos["context_length"])
        width = int(config["d_model"])
        inner = int(config["d_ff"])
        attention = int(config["num_heads"]) * int(config["d_kv"])
        max_steps = patch * int(chronos.get("max_output_patches", 1))
    except (ValueError, KeyError, TypeError) as error:
        raise _not_chronos_error(name, error) from error
    if architectures != [ARCHITECTURE]:
        raise InputError(
            f"forecaster.model: {name} cannot be loaded as Chronos-2: config.json: architectures"
            f" is {architectures!r}, but must be the list [{ARCHITECTURE!r}]; choose a Chronos-2"
            " checkpoint"
        )
    missing = [q for q in LEVELS if q not in levels]
    if missing:
        raise InputError(
            f"forecaster.model: {name} does not forecast the quantile level {missing[0]}; choose a"
            " Chronos-2 checkpoint with all 21 levels"
        )
    if chronos.get("input_patch_stride", patch) != patch:
        raise _unsupported_error(name, "has overlapping patches", "without overlaps")
    if not chronos.get("use_reg_token"):
        raise _unsupported_error(name, "has no register token", "with one")
    if max_steps < HORIZON:
        steps = f"forecasts only {format_count(max_steps, 'step')} per pass"
        raise _unsupported_error(name, steps, f"with at least {HORIZON}")
    return Checkpoint(
        folder=folder,
        name=name,
        max_context=context,
        patch_bars=patch,
        model_width=width,
        feed_forward_width=inner,
        attention_width=attention,
        quantile_level_indices=tuple(levels.index(q) for q in LEVELS),
    )


def _not_chronos_error(name: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return InputError(
        f"forecaster.model: {name} cannot be loaded as Chronos-2: config.json: {reason}"
    )


def _unsupported_error(name: str, fault: str, alternative: str) -> InputError:
    return InputError(
        f"forecaster.model: {name} {fault}; choose a Chronos-2 checkpoint {alternative}"
    )


def files_digest(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of the files' names and contents, in hex.

    files: bytes of each file, by file name.
    """
    total = hashlib.sha256()
    for name, content in files.items():
        total.update(name.encode() + hashlib.sha256(content).digest())
    return total.hexdigest()


def _folder(model: str) -> Path:
    path = Path(model).expanduser()
    return path if path.is_dir() else _download(model)


@cache
def _download(model: str) -> Path:
    name, _, revision = model.partition("@")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"forecaster.model: {model} is neither a folder nor a hub id, such as amazon/chronos-2"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # Weights are read from safetensors alone, which cannot execute code: no other file is fetched.
    patterns = ["config.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        text = str(error).strip()
        reason = text.splitlines()[0] if text else type(error).__name__
        raise InputError(f"forecaster.model: {model} cannot be downloaded: {reason}") from error


def _files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint, sorted by name."""
    weights = folder.glob("*.safetensors")
    indexes = folder.glob("*.safetensors.index.json")
    return sorted([folder / "config.json", *weights, *indexes])


@lru_cache(maxsize=64)
def _cached_files_digest(stamped: tuple[tuple[Path, int], ...]) -> str:
    """Return the digest of files, cached by path and change time."""
    return files_digest({path.name: path.read_bytes() for path, _ in stamped})


def _unreadable_error(folder: Path, error: OSError) -> InputError:
    return InputError(f"forecaster.model: {folder} cannot be read: {error.strerror or error}")
