"""The matched protocol: the catalogue's metrics on held-out clips, of every model, with tests of significance."""
