"""Figures of whole sets of clips (FID, KID, FVD): distances between features, and their standard errors."""
