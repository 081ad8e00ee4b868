"""Secure aggregation after Bonawitz et al. 2017 (https://eprint.iacr.org/2017/281): the server learns a sum.

A pure state machine, bytes in and bytes out, so that one protocol serves every transport. Five rounds:

    client                                         server
    advertise        two signed X25519 keys   →    relays all keys
    share_keys       encrypted Shamir shares  →    relays to each its own
    masked_input     vector + masks           →    announces who survived
    consent          signs the survivors      →    shows everybody's consent
    unmask           one share of each peer   →    opens the sum

What is guaranteed: with c colluders among n clients and a threshold t, where c < 2t − n, the server learns the sum of
the survivors' vectors, of at least as many as the floor, and nothing else of them, whether or not it follows the
protocol. The bound is sharp: with c = 2t − n a server that tells half of the honest clients that a victim survived, and
the other half that it dropped out, gets t shares of both secrets of the victim. Against a server that follows the
protocol, c < t is enough. Terms that break the bound are refused. Each client also checks the terms against its own
policy: floor, noise, cap, and a directory of identity keys, which it got beforehand over a channel that the server does
not control.

What is not guaranteed: that a client's vector is honest. The sum may contain vectors that are wrong.
"""
