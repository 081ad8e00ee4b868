"""The paper's tables and figures over several seeds: folders, rows of all seeds, comparisons, sweeps, files."""
