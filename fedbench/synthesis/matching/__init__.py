"""Distilled images: matched to real data by embeddings, by trajectories, or through a kernel."""
