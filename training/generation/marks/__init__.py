"""Marks that say that a generated clip is synthetic: an invisible watermark and a signed manifest."""
