"""What a method may change: the settings, how a client trains, and how the server moves theta.

A method is one `Method` with at most two rules, a local one and a server one. Everything else (data, seeds, cohorts,
batches, noise draws, steps) is shared, so that results differ only by the method. All state consists of named float32
vectors: the server's is part of the checkpoint, a client's stays in the client's own folder.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from training.federation.methods.components import with_components
from training.privacy.mechanisms.release import server_step
from training.settings import Component, TrainingSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Theta = npt.NDArray[np.float32]
State = dict[str, Theta]


Table = Literal["main", "ablations"]


class LocalRule:
    """How one client trains in one round; a new object for each. The base class is AdamW on the local objective.

    `shared` is what the server announced beside theta. `state` is what this client kept after the last of its rounds
    that counted, empty at first; `end` replaces it. `extra` is what `end` gives to the server beside the update.
    """

    def __init__(self, settings: TrainingSettings, shared: State, state: State) -> None:
        self.settings, self.shared, self.state = settings, shared, state
        self.extra: State = {}

    def start(self, theta: Theta) -> Theta:
        """The theta at which training starts; here the announced one."""
        return theta

    def begin(self, parameters: Sequence[nn.Parameter]) -> Optimizer:
        """The optimiser; the parameters hold what `start` returned."""
        from torch.optim import AdamW

        rate = self.settings.federation.learning_rate
        return AdamW(parameters, lr=rate, weight_decay=0.0, fused=True)

    def correct(self, parameters: Sequence[nn.Parameter]) -> None:
        """Change the gradients of a step, before they are clipped."""

    def after_step(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        """Change the parameters after the optimiser's step."""

    def end(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        """After the last step: set `state` and `extra`."""


@dataclass(frozen=True)
class Released:
    """What the server's step may use: the released sum and public numbers.

    `total` float64 [d] is the weighted sum of updates, noise included, and `denominator` its divisor D. `extra` holds
    the weighted means of what clients sent beside their updates; `share` is the cohort's share of all clients. `each`
    holds the terms of the sum, (a_k, a_k times the update) a client; it is empty if updates are hidden.
    """

    total: npt.NDArray[np.float64]
    denominator: float
    extra: State = field(default_factory=dict)
    share: float = 1.0
    each: Sequence[tuple[float, npt.NDArray[np.floating]]] = ()


class ServerRule:
    """How the released sum becomes the next theta. The base class is theta + eta * sum / D."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings

    def initial(self, theta: Theta) -> State:
        """The server's state before the first round."""
        return {}

    def announce(self, state: State) -> State:
        """What the server sends to the clients beside theta."""
        return {}

    def step(self, theta: Theta, released: Released, state: State) -> tuple[Theta, State]:
        """The next theta and state."""
        rate = self.settings.federation.server_rate
        return server_step(theta, released.total, rate, released.denominator).astype(np.float32), state


class Method:
    """One way to adapt to the clients' clips. Subclasses say in their docstring what it is and when to use it.

    `label`, `description` and `tables` are what tables, figures and pages show (`evaluation.catalogue` reads them).
    """

    label: ClassVar[str]
    """Name shown to people."""
    description: ClassVar[str]
    """The method in one line."""
    tables: ClassVar[tuple[Table, ...]] = ("main",)
    """The paper's tables with a row for the method: `main` (Table 1, methods) and `ablations` (Table 2)."""
    components: ClassVar[tuple[Component, ...]] = ()
    """The components of the full method that this method has (see `components.py`)."""
    own_settings: ClassVar[str | None] = None
    """The group of `TrainingSettings` that belongs to this method; it ignores the groups of other methods."""
    local_rule: ClassVar[type[LocalRule]] = LocalRule
    server_rule: ClassVar[type[ServerRule]] = ServerRule
    averages: ClassVar[bool] = True
    """Whether the server's step is theta + eta * mean of the updates."""
    pooled: ClassVar[bool] = False
    """Whether one trainer holds all clips; then it is not a federation."""
    sends: ClassVar[bool] = True
    """Whether clients send anything. If not, each client has its own adapter and no shared one is trained."""
    no_promise: ClassVar[str] = ""
    """Why the method gives its clients no guarantee under any settings; empty if it can give one."""

    @property
    def federates(self) -> bool:
        """Whether a server gets updates of clients: a pooled trainer holds all clips, and others may send nothing."""
        return self.sends and not self.pooled

    def configure(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings under which the method runs; its components are already applied."""
        return settings

    def check(self, settings: TrainingSettings) -> None:
        """Raise PrivFedTalkError if the settings ask for something that this method cannot do."""


def resolve(method: Method, name: str, settings: TrainingSettings, own_groups: Collection[str]) -> TrainingSettings:
    """The settings under which `method` runs; those that concern only other methods get their defaults.

    `own_groups` are the groups of settings that belong to one method each.
    """
    chosen = settings.components.get(name, method.components)
    default = TrainingSettings()
    foreign = {group: getattr(default, group) for group in own_groups if group != method.own_settings}
    resolved = with_components(settings, chosen).model_copy(
        # `execution` is reset: where clients train does not change what they learn.
        update={
            **foreign,
            "methods": default.methods,
            "components": default.components,
            "execution": default.execution,
        }
    )
    resolved = method.configure(resolved)
    method.check(resolved)
    return resolved
