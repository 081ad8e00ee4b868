"""The study's experiments, each a list of conditions under which some arms are compared.

To study another question, add an experiment here: setups that other experiments have run are not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evaluation.experiments.study.setups import Arm, Measured, Setup
from evaluation.experiments.study.worlds import CENTRE, Population, Traits
from preparation.clients.roles import Role

_TRAITS: tuple[Traits, ...] = ("articulation", "mouth", "light", "accessories", "camera", "demo")
SEEDS = (0, 1, 2)
MORE_SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Curve:
    """What a method's name in an experiment stands for: an arm and the stage ("round 6", "personal") of its figures."""

    arm: Arm
    stage: str = "final"


FEDAVG_ARM = Arm(method="fedavg", personal=True)
LOCAL_ARM = Arm(method="local", rounds=9)
OPEN_ARM = Arm(method="privfedtalk", components=("isfa", "tdc"))
"""The full method without its privacy: no clipping, no noise."""

BACKBONE = Curve(Arm())
LOCAL = Curve(LOCAL_ARM, "round 6")
LONGER = Curve(LOCAL_ARM)
FEDAVG = Curve(FEDAVG_ARM)
PERSONAL = Curve(FEDAVG_ARM, "personal")
OPEN = Curve(OPEN_ARM)

METHODS: Mapping[str, Curve] = {
    "backbone": BACKBONE,
    "local": LOCAL,
    "local, longer": LONGER,
    "fedavg": FEDAVG,
    "fedavg, personalised": PERSONAL,
    "privfedtalk, no DP": OPEN,
    "privfedtalk, z = 0.02": Curve(Arm(method="privfedtalk")),
    "centralized": Curve(Arm(method="centralized")),
    "fedprox": Curve(Arm(method="fedprox")),
    "scaffold": Curve(Arm(method="scaffold")),
    "fedadam": Curve(Arm(method="fedadam")),
    "privfedtalk, z = 0.5": Curve(Arm(method="privfedtalk", noise_multiplier=0.5)),
}
"""`local` trains for as many steps as a client of the federation, `local, longer` for as many as a client of the
federation that then personalises."""

_EACH = {name: METHODS[name] for name in list(METHODS)[: list(METHODS).index("scaffold") + 1]}
"""The methods of every experiment's curves: all but those that are measured only in the central world."""


@dataclass(frozen=True)
class Condition:
    """One value `x` of what an experiment varies: the world, and the curves by their names."""

    x: float | str
    curves: Mapping[str, Curve]
    world: Population = CENTRE


@dataclass(frozen=True)
class Experiment:
    """A question of the study.

    `varies` names what differs between the conditions. `measured` is "generated" where clips are generated too. `role`
    says whose loss the curves show.
    """

    name: str
    varies: str
    conditions: tuple[Condition, ...]
    measured: Measured = "loss"
    seeds: tuple[int, ...] = SEEDS
    role: Role = "client"

    def setups(self) -> list[Setup]:
        """The setups of all conditions, curves and seeds, without duplicates.

        All seeds of a curve come together, so that a study that is stopped has all seeds of the curves it finished.
        """
        found = [
            self.setup(seed, condition, curve)
            for condition in self.conditions
            for curve in condition.curves.values()
            for seed in self.seeds
        ]
        return list(dict.fromkeys(found))

    def setup(self, seed: int, condition: Condition, curve: Curve) -> Setup:
        # The backbone is not trained on clients' clips, so it does not depend on how they were changed.
        world = condition.world if curve.arm.method else condition.world.rendered
        # A setup of the central experiment is requested exactly as there, so that it is run only once.
        central = world == CENTRE and curve.arm in [method.arm for method in METHODS.values()]
        return Setup(seed=seed, world=world, arm=curve.arm, measured="generated" if central else self.measured)


_PLAIN = {name: curve for name, curve in _EACH.items() if name not in ("local, longer", "fedavg, personalised")}
"""`_EACH` without the two that are another method with more steps."""


def _with(**changes: object) -> dict[str, Curve]:
    """Each method of `_PLAIN` after its last round, with the same changes to its arm."""
    arms = {name: curve.arm.model_copy(update={"personal": False, "rounds": None}) for name, curve in _PLAIN.items()}
    return {name: Curve(arm.model_copy(update=changes) if arm.method else arm) for name, arm in arms.items()}


def _with_clients(clients: int) -> dict[str, Curve]:
    """Methods whose adapter strangers can use, with so many clients of the central world, or of a larger one."""
    some = _with(clients=clients) if clients < 8 else _PLAIN if clients == 8 else _with()
    # Fewer than four clients cannot hide their updates from each other in a sum.
    left_out = {"local"} | ({"privfedtalk, z = 0.02"} if clients < 4 else set())
    return {name: curve for name, curve in some.items() if name not in left_out}


def _averaged(averaging: Literal["ffa"]) -> dict[str, Curve]:
    """The methods that average clients' adapters, with another averaging."""
    return {name: curve for name, curve in _with(averaging=averaging).items() if name not in ("local", "centralized")}


def _after(number: int) -> dict[str, Curve]:
    """The curves of the central setups after round `number`."""
    arms = {name: curve.arm for name, curve in _PLAIN.items() if curve != BACKBONE}
    return {"backbone": BACKBONE} | {
        name: Curve(arm, f"round {number}" if number < (arm.rounds or 6) else "final") for name, arm in arms.items()
    }


CENTRAL = Experiment("methods", "method", (Condition("central", METHODS),), measured="generated", seeds=MORE_SEEDS)
SHIFT = Experiment(
    "shift",
    "population shift",
    tuple(Condition(x, _EACH, Population(shift=x)) for x in (0.0, 0.5, 1.0)),
)
CLIPS = Experiment(
    "clips",
    "training clips of each client",
    tuple(Condition(x, _EACH, Population(clips=x if x < 6 else None)) for x in (1, 2, 6)),
)
CLIENTS = Experiment(
    "clients",
    "clients in the federation",
    tuple(Condition(x, _with_clients(x), Population(clients=x if x > 8 else None)) for x in (1, 2, 4, 8, 16)),
    role="unseen",
)
ROUNDS = Experiment("rounds", "rounds", tuple(Condition(x, _after(x)) for x in (1, 2, 4, 6)))
ADAPTERS = Experiment(
    "adapters",
    "adapter",
    (
        Condition("attention, rank 8", _with(targets="attention")),
        Condition("all, rank 2", _with(rank=2)),
        Condition("all, rank 8", _PLAIN),
        Condition("all, rank 32", _with(rank=32)),
        Condition("all, rank 8, ffa", _averaged("ffa")),
    ),
)
TRAITS = Experiment(
    "traits",
    "what is shifted",
    tuple(Condition(x, _PLAIN if x == CENTRE.traits else _with(), Population(traits=x)) for x in _TRAITS),
)
ISFA_ARM = Arm(method="isfa_only")
SPOILED_CLIENTS = Experiment(
    "spoiled",
    "bad clients",
    (
        Condition(
            "5 of 8 bad",
            {
                "backbone": BACKBONE,
                "fedavg": Curve(Arm(method="fedavg")),
                "isfa": Curve(ISFA_ARM),
                "isfa, speech": Curve(ISFA_ARM.model_copy(update={"score": "speech", "gamma": 5.0})),
                "fedavg, noisy and wrong left out": Curve(Arm(method="fedavg", without=(0, 1, 2, 3))),
            },
            Population(spoiled=True),
        ),
    ),
    seeds=MORE_SEEDS,
    role="unseen",
)
EXPERIMENTS = (CENTRAL, SHIFT, CLIPS, SPOILED_CLIENTS, ROUNDS, CLIENTS, ADAPTERS, TRAITS)
"""All experiments in the order in which they are run, the most important first."""
