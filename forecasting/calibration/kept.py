"""Lessons that are learned once: files addressed by what they come from.

    FOLDER/<digest of the code that learns>/<digest of base, settings, bars>.npz

The archive has a checksum of each array. A file that cannot be read, or is not what was written, is
no reason to stop: its fit is learned again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from forecasting.calibration.dispersion import Dispersion
from forecasting.calibration.fit import CalibrationFit
from foundation.files import put_whole

log = logging.getLogger(__name__)

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError)
_DISPERSION = tuple(field.name for field in fields(Dispersion))
_FIT = tuple(field.name for field in fields(CalibrationFit) if field.name != "dispersion")


@dataclass(frozen=True, slots=True)
class KeptFits:
    """The fits of a folder; one that cannot be written keeps nothing."""

    folder: Path

    def get(self, key: str) -> CalibrationFit | None:
        """The fit that was kept under this key; none where it was not."""
        path = self._path(key)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
                table = dict(held)
            dispersion = Dispersion(**{name: table.pop(name) for name in _DISPERSION})
            persistence, skill = (float(table.pop(name)) for name in ("persistence", "skill"))
            return CalibrationFit(
                dispersion=dispersion, persistence=persistence, skill=skill, **table
            )
        except FileNotFoundError:
            return None
        # Of a changed archive `zipfile` says as well that it is encrypted, or of another version.
        except (*_UNREADABLE, BadZipFile, zlib.error) as error:
            log.warning("%s: learned again, it cannot be read: %s", path, error)
            return None

    def put(self, key: str, fit: CalibrationFit) -> None:
        """Keep a fit, whole or not at all."""
        content = io.BytesIO()
        table = {name: getattr(fit, name) for name in _FIT}
        table |= {name: getattr(fit.dispersion, name) for name in _DISPERSION}
        np.savez(content, **table)
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            put_whole(path, content.getvalue())
        except OSError as error:
            log.warning("%s: not kept: %s", path, error.strerror or error)

    def _path(self, key: str) -> Path:
        return self.folder / folder_of_code() / f"{key}.npz"


@cache
def folder_of_code() -> str:
    """Digest of the code that a fit is a result of, beside its bars and forecasts."""
    room = Path(__file__).resolve().parent
    root = room.parent.parent
    beyond = ("forecasting/forecast.py", "forecasting/moments.py", "trainingdata/timeframe.py")
    digest = hashlib.sha256()
    for path in [*sorted(room.glob("*.py")), *(root / name for name in beyond)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
