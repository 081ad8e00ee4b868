"""What every generated clip carries to say that it is synthetic: an invisible watermark and a signed manifest."""
