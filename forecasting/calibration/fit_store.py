"""A disk cache of calibration fits, whose keys are digests of the fits' inputs.

    FOLDER/<digest of the fitting code>/<digest of base forecasts, settings, bars>.fit

A file has a line of JSON that lists its arrays, the bytes of the arrays, and a checksum of both.
A fit whose file is unreadable or damaged is recomputed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.calibration.dispersion import DispersionModel
from forecasting.calibration.fit import CalibrationFit
from foundation.files import write_atomically

log = logging.getLogger(__name__)

_CHECKSUM_BYTES = 4  # bytes at the end of a file
_DISPERSION_FIELDS = tuple(field.name for field in fields(DispersionModel))
_FIT_FIELDS = tuple(field.name for field in fields(CalibrationFit) if field.name != "dispersion")


@dataclass(frozen=True, slots=True)
class FitStore:
    """A folder of calibration fits; if it is not writable, no fits are stored.

    folder: path of the folder.
    """

    folder: Path

    def get(self, key: str) -> CalibrationFit | None:
        """Return the fit stored under a key; None if its file is missing or damaged."""
        path = self._path(key)
        try:
            table = _decode_arrays(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s: cannot be read, fitting the calibration again: %s", path, error)
            return None
        dispersion = DispersionModel(**{name: table.pop(name) for name in _DISPERSION_FIELDS})
        return CalibrationFit(
            dispersion=dispersion,
            persistence=float(table.pop("persistence")),
            information_coefficient=float(table.pop("information_coefficient")),
            **table,
        )

    def put(self, key: str, fit: CalibrationFit) -> None:
        """Store a fit under a key, atomically; a write error is only logged."""
        table = {name: getattr(fit, name) for name in _FIT_FIELDS}
        table |= {name: getattr(fit.dispersion, name) for name in _DISPERSION_FIELDS}
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(
                path, _encode_arrays({name: np.asarray(each) for name, each in table.items()})
            )
        except OSError as error:
            log.warning("%s: calibration fit cannot be cached: %s", path, error.strerror or error)

    def _path(self, key: str) -> Path:
        return self.folder / calibration_code_digest() / f"{key}.fit"


def _encode_arrays(table: dict[str, np.ndarray]) -> bytes:
    head = json.dumps({name: (each.dtype.str, each.shape) for name, each in table.items()})
    content = b"\n".join([head.encode(), b"".join(each.tobytes() for each in table.values())])
    return content + zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")


def _decode_arrays(content: bytes) -> dict[str, Any]:
    """Return the arrays in the content of a file, by name.

    Raises ValueError if the checksum does not match.
    """
    whole = content[:-_CHECKSUM_BYTES]
    if zlib.crc32(whole).to_bytes(_CHECKSUM_BYTES, "big") != content[-_CHECKSUM_BYTES:]:
        raise ValueError("checksum does not match the content")
    head, _, values = whole.partition(b"\n")
    table, begin = {}, 0
    for name, (kind, shape) in json.loads(head).items():
        # A copy is writable. Compiled code would treat a read-only array as another type.
        table[name] = np.ndarray(shape, kind, values, begin).copy()
        begin += table[name].nbytes
    return table


@cache
def calibration_code_digest() -> str:
    """Return the digest of the source files on which a fit depends."""
    package = Path(__file__).resolve().parent
    root = package.parent.parent
    modules = ("baseline", "forecast", "moments")
    beyond = [*(f"forecasting/{name}.py" for name in modules), "trainingdata/timeframe.py"]
    digest = hashlib.sha256()
    for path in [*sorted(package.glob("*.py")), *(root / name for name in beyond)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
