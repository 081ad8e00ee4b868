"""The primitives of Flower's SecAgg+ on vectors like those of `benchmarks/secure_aggregation.py`, which runs this file
in an environment of its own (`flwr` and nothing of this project):

    python benchmarks/secure_aggregation_flower.py 10 1000000 2 3    # clients, length, dropouts, repeats

The steps are those of `secaggplus_mod` and `secaggplus_workflow`, every client with every other, without quantising:
the seed's and the key's shares, one mask of its own and one for each other client, the server's removal of the masks.
Prints JSON: CPU milliseconds and bytes. From 20 clients on, only three mask, because all take the same time; the result
is then not the sum, and is not compared with the plain one.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import flwr
import numpy as np
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

MODULUS = 2**32
ALL_MASK_BELOW = 20


def measure(clients: int, length: int, dropouts: int) -> dict[str, float]:
    """One round; the last `dropouts` clients fall silent after sharing their keys."""
    threshold, shape = 2 * clients // 3 + 1, [(length,)]
    masks, channels = [generate_key_pairs() for _ in range(clients)], [generate_key_pairs() for _ in range(clients)]
    secrets = [private_key_to_bytes(private) for private, _ in masks]
    seeds = [os.urandom(32) for _ in range(clients)]
    took: dict[str, list[float]] = {"share": [], "mask": []}

    # One client shares; the shares of the others, which open the sum, are made off the clock.
    began = time.process_time()
    shares = [create_shares(secret, threshold, clients) for secret in (seeds[0], secrets[0])]
    sent = [
        encrypt(
            generate_shared_key(channels[0][0], channels[other][1]),
            share_keys_plaintext_concat(0, other, shares[0][other], shares[1][other]),
        )
        for other in range(1, clients)
    ]
    took["share"].append(time.process_time() - began)
    of_seeds = [create_shares(seed, threshold, clients) for seed in seeds]
    of_secrets = [create_shares(secret, threshold, clients) for secret in secrets]

    vector = np.random.default_rng(0).integers(0, MODULUS, length, dtype=np.int64)
    alive = range(clients - dropouts)
    total = [np.zeros(length, np.int64)]
    for client in alive if clients < ALL_MASK_BELOW else range(3):
        began = time.process_time()
        masked = parameters_addition([vector], pseudo_rand_gen(seeds[client], MODULUS, shape))
        for other in range(clients):
            if other != client:
                mask = pseudo_rand_gen(generate_shared_key(masks[client][0], masks[other][1]), MODULUS, shape)
                apply = parameters_addition if client > other else parameters_subtraction
                masked = apply(masked, mask)
        masked = parameters_mod(masked, MODULUS)
        took["mask"].append(time.process_time() - began)
        total = parameters_addition(total, masked)

    began = time.process_time()
    for client in range(clients):
        if client in alive:
            seed = combine_shares(of_seeds[client][:threshold])
            total = parameters_subtraction(total, pseudo_rand_gen(seed, MODULUS, shape))
            continue
        private = bytes_to_private_key(combine_shares(of_secrets[client][:threshold]))
        for other in range(clients):
            if other != client:
                mask = pseudo_rand_gen(generate_shared_key(private, masks[other][1]), MODULUS, shape)
                apply = parameters_addition if client > other else parameters_subtraction
                total = apply(total, mask)
    total = parameters_mod(total, MODULUS)
    unmask = time.process_time() - began
    if clients < ALL_MASK_BELOW:
        assert np.array_equal(total[0], vector * len(alive) % MODULUS), "the opened sum is not the plain sum"
    keys = sum(len(public_key_to_bytes(pair[0][1])) for pair in (masks, channels))
    up = keys + sum(map(len, sent)) + len(ndarray_to_bytes(masked[0]))
    return {name: 1e3 * statistics.median(times) for name, times in took.items()} | {"unmask": 1e3 * unmask, "up": up}


if __name__ == "__main__":
    clients, length, dropouts, repeats = map(int, sys.argv[1:5])
    runs = [measure(clients, length, dropouts) for _ in range(repeats)]
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    sys.stdout.write(json.dumps({"version": flwr.__version__, **figures}) + "\n")
