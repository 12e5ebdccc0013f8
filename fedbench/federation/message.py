"""Messages: the only things that pass between clients and the server.

A message is a kind and named tensors. What a receiver gets has been serialised and parsed, so it
shares no memory with what was sent, and the bytes that the ledger counts are bytes that existed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
from torch import Tensor, nn

from fedbench.errors import StoreError


@dataclass(frozen=True)
class Message:
    """A typed payload.

    Attributes:
        kind: What the payload is, such as ``model``, ``logits`` or ``images``.
        tensors: Named tensors of any shape and element type.
    """

    kind: str
    tensors: Mapping[str, Tensor]

    @classmethod
    def of_model(cls, model: nn.Module | Mapping[str, Tensor]) -> Message:
        """Return a message with a model's parameters and buffers, by state-dict name."""
        state = model.state_dict() if isinstance(model, nn.Module) else model
        return cls("model", dict(state))

    @property
    def payload_bytes(self) -> int:
        """Bytes of the tensors alone, without names and shapes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def serialise(self) -> bytes:
        """Return the message as safetensors bytes, the kind in the metadata."""
        plain = {
            name: tensor.detach().cpu().contiguous().clone()  # safetensors refuses shared memory
            for name, tensor in self.tensors.items()
        }
        return safetensors.torch.save(plain, metadata={"kind": self.kind})

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """Return the message that ``serialise`` wrote.

        Raises:
            StoreError: The bytes are no message.
        """
        try:
            tensors = safetensors.torch.load(data)
            length = int.from_bytes(data[:8], "little")
            kind = json.loads(data[8 : 8 + length])["__metadata__"]["kind"]
        except (safetensors.SafetensorError, KeyError) as error:
            raise StoreError(f"{len(data)} bytes are not a message: {error}") from error
        return cls(kind, tensors)
