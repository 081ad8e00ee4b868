"""The rates that every step works at."""

FPS = 25
AUDIO_RATE_HZ = 16_000
SAMPLES_PER_FRAME = AUDIO_RATE_HZ // FPS
