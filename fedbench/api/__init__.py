"""What ``import fedbench`` gives: cells, sweeps and boards from Python (``docs/python.md``).

The names are gathered late by ``fedbench.__getattr__``, so that importing fedbench imports neither
torch nor pandas. Everything here raises exceptions and never ends the process.
"""
