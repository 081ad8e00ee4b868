"""What methods and gates are called in front of people, and what each is."""

from __future__ import annotations

NAMES = {
    "truth": "Truth",
    "reference": "Reference",
    "privfedtalk": "PrivFedTalk",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "scaffold": "SCAFFOLD",
    "centralized": "Centralized",
    "backbone": "Frozen backbone",
    "copy_reference": "Still picture",
    "vae_ceiling": "Real video, coded",
    "noise": "Noise",
}
MEANINGS = {
    "privfedtalk": "federated adapters, weighted by reliability, clipped, noised, summed under masks",
    "fedavg": "federated adapters, weighted by clip counts",
    "backbone": "trained on public speakers only, never on a client",
    "copy_reference": "the reference frame repeated: what a method must beat on the lips",
    "vae_ceiling": "the true clip through the autoencoder: what no method can beat",
    "noise": "what an untrained model gives",
}


def name_of(method: str) -> str:
    return NAMES.get(method, method.replace("_", " "))
