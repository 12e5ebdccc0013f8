"""fedbench: federated learning that shares knowledge as data, measured on equal terms."""

from fedbench.imports import gather_late

__version__ = "0.1.0"

gather_late()  # before any of our modules imports Lightning
