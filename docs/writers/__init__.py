"""Programs that write the pages in docs/results: run as modules, `python -m docs.writers.NAME`."""
