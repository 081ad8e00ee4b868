"""What methods and gates are called in front of people, and what each is."""

from __future__ import annotations

NAMES = {
    "truth": "Truth",
    "reference": "Reference",
    "privfedtalk": "PrivFedTalk",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "scaffold": "SCAFFOLD",
    "fedadam": "FedAdam",
    "centralized": "Centralized",
    "local": "Local",
    "adapters_only": "Adapters only",
    "dp_only": "Privacy only",
    "tdc_only": "TDC only",
    "isfa_only": "ISFA only",
    "paper_literal": "Paper, literal",
    "backbone": "Frozen backbone",
    "copy_reference": "Still picture",
    "vae_ceiling": "Real video, coded",
    "noise": "Noise",
}
MEANINGS = {
    "privfedtalk": "federated adapters, weighted by reliability, clipped, noised, summed under masks",
    "fedavg": "federated adapters, weighted by clip counts",
    "fedprox": "FedAvg whose clients are held near the announced adapter",
    "scaffold": "FedAvg with control variates against client drift",
    "fedadam": "FedAvg under an adaptive server",
    "centralized": "all clients' clips in one place, as many steps: what no federation of people may compute",
    "local": "each client alone with its own clips; strangers get the frozen backbone",
    "adapters_only": "Table 2: federated adapters and nothing else, as FedAvg",
    "dp_only": "Table 2: adapters under clipping, noise and secure aggregation",
    "tdc_only": "Table 2: adapters with temporal-denoising consistency",
    "isfa_only": "Table 2: adapters weighted by reliability",
    "paper_literal": "the paper's formulas as they stand: each client's own noise, no client-level proof",
    "backbone": "trained on public speakers only, never on a client",
    "copy_reference": "the reference frame repeated: what a method must beat on the lips",
    "vae_ceiling": "the true clip through the autoencoder: what no method can beat",
    "noise": "what an untrained model gives",
}


PERSONAL = "_personal"
"""What ends the name under which a method's clients are judged with their own adapters."""


def personal_of(method: str) -> str:
    """The second row of a method after whose federation every client went on alone (`personalisation_steps`)."""
    return method + PERSONAL


def name_of(method: str) -> str:
    if method.endswith(PERSONAL):
        return f"{name_of(method.removesuffix(PERSONAL))}, personal"
    return NAMES.get(method, method.replace("_", " "))


def meaning_of(method: str) -> str:
    """What a method or gate is, in a line; empty where nothing is known of it."""
    if method.endswith(PERSONAL):
        return f"each client's own adapter: {name_of(method.removesuffix(PERSONAL))}'s, fitted to its own clips"
    return MEANINGS.get(method, "")
