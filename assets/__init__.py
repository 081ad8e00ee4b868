"""What exists, as Dagster assets and checks.

Bodies are thin: they say what decides a stage and which function makes it, and show what came of it. What takes
long to import (torch, pandas) is imported where it is needed, so that definitions load in a second and a run
whose stages are all kept ends in a few.
"""
