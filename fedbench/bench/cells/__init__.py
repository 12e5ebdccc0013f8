"""Cells: how one is computed, where, and which need no computing."""
