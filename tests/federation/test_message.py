import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.errors import StoreError
from fedbench.federation.ledger import Ledger
from fedbench.federation.message import Message

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.float64]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda s: s != "__metadata__"),
        st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(DTYPES)),
        max_size=4,
    )
)
def test_a_message_survives_serialisation(shapes):
    tensors = {name: torch.ones(shape).to(dtype) for name, (shape, dtype) in shapes.items()}
    message = Message("stuff", tensors)
    back = Message.parse(message.serialise())
    assert back.kind == "stuff"
    assert back.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert back.tensors[name].dtype == value.dtype
        assert torch.equal(back.tensors[name], value)


def test_a_parsed_message_shares_no_memory():
    weights = torch.zeros(3)
    back = Message.parse(Message("model", {"w": weights}).serialise())
    back.tensors["w"] += 1
    assert weights.sum() == 0


def test_views_and_transposed_tensors_are_sent_by_value():
    base = torch.arange(6.0).reshape(2, 3)
    back = Message.parse(Message("x", {"a": base.T, "b": base[0], "c": base}).serialise())
    assert torch.equal(back.tensors["a"], base.T)
    assert torch.equal(back.tensors["b"], base[0])


def test_foreign_bytes_are_refused():
    for data in (b"", b"12345678", b"\x00" * 40):
        with pytest.raises(StoreError, match="not a message"):
            Message.parse(data)


def test_ac_1_charged_bytes_are_the_serialised_bytes():
    ledger = Ledger()
    message = Message("model", {"w": torch.zeros(1000), "steps": torch.tensor(3)})
    data = ledger.charge("up", "round", 0, message)
    assert ledger.wire("up") == len(data) == len(message.serialise())
    assert ledger.payload("up") == 4000 + 8
    assert 0 < len(data) - message.payload_bytes < 300
    assert ledger.wire("down") == 0


def test_a_ledger_survives_json():
    ledger = Ledger(rounds=2)
    ledger.charge("up", "round", 3, Message("x", {"a": torch.zeros(4)}))
    ledger.charge("down", "validation", 3, Message("x", {}))
    back = Ledger.from_json(ledger.to_json())
    assert back == ledger
    assert back.clients[3] == ledger.clients[3]
