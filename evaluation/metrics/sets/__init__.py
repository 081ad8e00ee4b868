"""Figures of whole sets of clips (FID, KID, FVD): distances between features, and how sure they are."""
