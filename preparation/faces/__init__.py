"""From frames to an aligned face: trackers, the iBUG-68 points, gaps, alignment."""
