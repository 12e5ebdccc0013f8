"""Diffusion priors, their training, and classifiers that guide them."""
