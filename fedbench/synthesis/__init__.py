"""LightningModules and maths that several methods share, or that would crowd a method's file."""
