"""Settings of the smallest corpus that goes through every stage."""

from __future__ import annotations

SMALLEST_STUDIO = [
    "studio.public_speakers=4",
    "studio.clients=2",
    "studio.unseen=1",
    "studio.public_clips=1",
    "studio.client_clips=3",
    "preparation.faces.tracker=truth",
]
