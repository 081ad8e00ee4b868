"""What exists, as Dagster assets and checks.

Bodies are thin: each names what decides a stage and the function that makes it, and shows the result. Slow imports
(torch, pandas) are inside functions, so that the definitions load in a second and a run whose stages are all kept
ends in a few.
"""
