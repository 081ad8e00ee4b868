"""What is measured of a generated clip, on which clips, of which contenders, by which networks."""
