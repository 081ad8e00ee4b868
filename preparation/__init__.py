"""From a clip to a shard: corpora, faces, speech, latents, clients."""
