"""Alerts that a test keeps."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Alerts:
    """Every alert and all-clear, by kind and text; `Notifier.add_recorder` takes it."""

    told: list[tuple[str, str]] = field(default_factory=list)

    def record_alert(self, kind: str, text: str) -> None:
        self.told.append((kind, text))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.told]
