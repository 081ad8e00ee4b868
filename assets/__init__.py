"""What exists, as Dagster assets and checks.

Bodies are thin: they ask whether a stage is due, call the floors below, and show what came of it. What takes
long to import (torch, pandas) is imported where it is needed, so that definitions load in a second and a run
whose stages are all kept ends in a few.
"""
