"""How the partition schemes deal images to clients, one family of schemes in each file.

Every scheme is a function ``(labels, settings, rng, classes) -> list of index arrays``. The
generator is an argument, NumPy's new or its legacy one, so that the splits of reference codes come
out of the very functions that fedbench uses.
"""
