"""Images out of trained classifiers alone: by inversion, or by a generator."""
