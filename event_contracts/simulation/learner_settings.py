"""How a network learns."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import InputError, refuse_outside

MOST_LAYERS = 8
MOST_UNITS = 4096


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """Proximal policy optimisation with masks (Schulman et al. 2017; Huang and Ontañón 2020).

    rollout: steps of each market between updates, 2 … 100,000.
    batch: steps of a gradient, 2 … 1,000,000.
    epochs: times that an update goes through its steps, 1 … 100.
    rate: of learning, 1e-7 … 0.1.
    discount: of a reward a step later, 0 … 1.
    trace: λ of the advantage estimates, 0 … 1.
    clip: of the ratio of probabilities, 0.001 … 1.
    entropy: weight of the choice's entropy, 0 … 1.
    shaping: whether a position counts at the estimate, and not at the middle of the quote, while it
        is held: a potential, which leaves the best policy as it is (Ng, Harada and Russell 1999).
    layers: units of each hidden layer, of the choosing and of the valuing network; 1 … 8 layers of
        1 … 4,096.
    """

    rollout: int = 64
    batch: int = 2048
    epochs: int = 4
    rate: float = 3e-4
    discount: float = 0.99
    trace: float = 0.8
    clip: float = 0.2
    entropy: float = 0.01
    shaping: bool = True
    layers: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            "learner",
            rollout=(2, 100_000),
            batch=(2, 1_000_000),
            epochs=(1, 100),
            rate=(1e-7, 0.1),
            discount=(0, 1),
            trace=(0, 1),
            clip=(0.001, 1),
            entropy=(0, 1),
        )
        object.__setattr__(self, "layers", tuple(self.layers))
        fits = all(1 <= units <= MOST_UNITS for units in self.layers)
        if not fits or not 1 <= len(self.layers) <= MOST_LAYERS:
            raise InputError(
                f"learner.layers: {self.layers} are not 1 … {MOST_LAYERS} layers of"
                f" 1 … {MOST_UNITS} units"
            )
