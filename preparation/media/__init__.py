"""The one door for media: files of any kind in, RGB frames at 25 fps and 16 kHz mono sound out; and back to mp4."""
