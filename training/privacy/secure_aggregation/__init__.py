"""Secure aggregation after Bonawitz et al. 2017 (https://eprint.iacr.org/2017/281): the server learns a sum.

A pure state machine, bytes in and bytes out, so that one protocol serves every transport. Five rounds:

    client                                         server
    advertise        two signed X25519 keys   →    relays all keys
    share_keys       encrypted Shamir shares  →    relays to each its own
    masked_input     vector + masks           →    announces who survived
    consent          signs the survivors      →    shows everybody's consent
    unmask           one share of each peer   →    opens the sum

What holds: with fewer than `threshold` colluders beside it, a server that follows or departs from the protocol
learns the sum of the survivors' vectors and nothing else of them (against a server that lies about who dropped,
take a threshold above two thirds of the cohort). What does not: a client's vector is its own word; the sum may be
of vectors that are wrong. Identity keys must have been exchanged beforehand, over a channel the server does not own.
"""
