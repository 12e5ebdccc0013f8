"""Distillation of client models on images that everybody has."""
