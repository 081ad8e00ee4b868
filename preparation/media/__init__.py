"""The one way in for media files: any format in, RGB frames at 25 fps and 16 kHz mono sound out; and back to mp4."""
