"""The user's statements about bar files that do not state it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainingdata.file_formats import VolumeUnit

EpochUnit = Literal["s", "ms", "us", "ns"]
StampSide = Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Conventions:
    """The conventions of bar files that do not state them; None: refuse files that need them.

    adjusted: whether prices are multiplied by adjusted close over close, if a file has both.
    zone: the clock of stamps without a zone.
    epoch: the unit of stamps that are counts since 1970.
    stamps: the side of a bar that its stamp marks.
    volume_unit: the unit of crypto volume. It overrides the vendor's usual unit.
    """

    adjusted: bool = False
    zone: str | None = None
    epoch: EpochUnit | None = None
    stamps: StampSide | None = None
    volume_unit: VolumeUnit | None = None
