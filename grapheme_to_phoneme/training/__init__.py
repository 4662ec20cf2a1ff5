"""From entries to a checkpoint: alignment, data module, network, Lightning module, charts."""
