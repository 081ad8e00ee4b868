"""The paper's tables over several seeds: what lies where, rows of all seeds, comparisons, sweeps, files."""
