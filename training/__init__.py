"""Learning and generation: settings, backbone, adapters, federation, privacy."""
