"""Experiments: a federation is trained in a world and measured, and a point keeps its figures in one file.

`points` defines worlds, federations, measurements and points; `driver` makes the points that are missing; `federations`
trains one, `measuring` and `releases` measure it. `study/` and `paper/` list the wanted points and report on them.
"""
