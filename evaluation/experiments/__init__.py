"""Experiments: a world, a federation in it, what is measured of it, and a point that keeps the figures in one file.

`points` says what a point is, `driver` makes the points that are missing, `federations` trains one, `measuring` and
`releases` measure it. `study/` and `paper/` say which points are wanted and show what they hold.
"""
