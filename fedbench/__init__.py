"""fedbench: federated learning that shares knowledge as data, measured on equal terms."""

__version__ = "0.1.0"
