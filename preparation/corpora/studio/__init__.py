"""A procedural studio of talking heads: identities, voices and moving mouths from a seed, in LRS3 layout."""
