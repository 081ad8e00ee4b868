"""What learns: backbone, adapters, federation, privacy, generation."""
