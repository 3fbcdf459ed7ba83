"""What the user says about bar files that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainingdata.heads import VolumeUnit

EpochUnit = Literal["s", "ms", "us", "ns"]
Side = Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Conventions:
    """How to read bar files where they leave it open; None: refuse what depends on it.

    adjusted: whether prices are multiplied by adjusted close over close, where a file has both.
    zone: the clock of stamps without a zone.
    epoch: the unit of stamps that are counts since 1970.
    stamps: the side of a bar that its stamp marks.
    volume_unit: the unit of crypto volume. It overrides the vendor's usual unit.
    """

    adjusted: bool = False
    zone: str | None = None
    epoch: EpochUnit | None = None
    stamps: Side | None = None
    volume_unit: VolumeUnit | None = None
