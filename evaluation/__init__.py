"""Measures models and reports on a run: metrics, protocol, results, tables, figures, experiments, attacks, pages."""
