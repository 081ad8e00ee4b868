"""Secure aggregation after Bonawitz et al. 2017 (https://eprint.iacr.org/2017/281): the server learns a sum.

A pure state machine, bytes in and bytes out, so that one protocol serves every transport. Five rounds:

    client                                         server
    advertise        two signed X25519 keys   →    relays all keys
    share_keys       encrypted Shamir shares  →    relays to each its own
    masked_input     vector + masks           →    announces who survived
    consent          signs the survivors      →    shows everybody's consent
    unmask           one share of each peer   →    opens the sum

What holds: with c colluders among n clients and a threshold t, c < 2t − n, a server that follows or departs from the
protocol learns the sum of the survivors' vectors, at least as many as the floor, and nothing else of them. The bound is
sharp: with c = 2t − n a server that tells half of the honest clients that a victim survived and the other half that it
dropped gets t shares of both its secrets. A server that only listens learns no more with c < t. Terms that break the
bound are refused, and each client holds the terms against a policy of its own, told beforehand: floor, noise, cap, and
a directory of identity keys, over a channel the server does not own. What does not hold: a client's vector is its own
word; the sum may be of vectors that are wrong.
"""
