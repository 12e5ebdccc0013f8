"""Feature skew: what transformations do, whose draws they have, and which cells they move."""

from typing import get_args

import pytest
import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.config import parse
from fedbench.data.domains import domain_name, domain_of, transform
from fedbench.data.settings import Domain
from fedbench.errors import SettingsError
from fedbench.federation.client import split_digest

NAMES = get_args(Domain)
SKEW = {"partition": {"domains": ["plain", "invert", "noise"]}}


def images(channels=1, count=6, size=12):
    source = torch.Generator().manual_seed(0)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=source)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_domain_gives_other_images_of_the_same_kind(name, channels):
    given = images(channels)
    found = transform(given, name, 0, 1, "train")
    assert found.shape == given.shape
    assert found.dtype == torch.uint8
    assert torch.equal(found, given) == (name == "plain")
    assert torch.equal(found, transform(given, name, 0, 1, "train"))


def test_what_is_drawn_is_drawn_for_a_client_and_noise_for_an_image():
    given = images()
    for name in ("tint", "rotate", "noise"):
        one = transform(given, name, 0, 1, "train")
        assert not torch.equal(one, transform(given, name, 0, 2, "train"))
        assert not torch.equal(one, transform(given, name, 5, 1, "train"))
    tinted = transform(given, "tint", 0, 1, "train")
    assert torch.equal(tinted[2:4], transform(given[2:4], "tint", 0, 1, "test"))
    noisy = transform(torch.cat([given[:1]] * 2), "noise", 0, 1, "train")
    assert not torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy, transform(torch.cat([given[:1]] * 2), "noise", 0, 1, "test"))


def test_transformations_are_what_their_names_say():
    given = images()
    assert torch.equal(transform(given, "invert", 0, 0, "train"), 255 - given)
    low = transform(given, "low_contrast", 0, 0, "train").float()
    assert float(low.std()) == pytest.approx(0.3 * float(given.float().std()), rel=0.02)
    flat = torch.full((1, 3, 8, 8), 90, dtype=torch.uint8)
    assert torch.equal(transform(flat, "blur", 0, 0, "train"), flat)
    assert not transform(flat, "edge", 0, 0, "train").any()
    blurred = transform(given, "blur", 0, 0, "train").float()
    assert blurred.diff(dim=3).abs().mean() < given.float().diff(dim=3).abs().mean()
    turned = transform(torch.full((1, 1, 16, 16), 200, dtype=torch.uint8), "rotate", 0, 0, "train")
    assert turned[0, 0, 0, 0] == 0
    assert turned[0, 0, 8, 8] == 200


def test_clients_take_domains_in_turn():
    assert [domain_of(("plain", "blur"), client) for client in range(3)] == [
        "plain",
        "blur",
        "plain",
    ]
    assert domain_of(None, 4) == "plain"


def test_unknown_domains_and_none_at_all_are_errors():
    for domains, words in ((["sepia"], "sepia|literal"), ([], "at least 1")):
        with pytest.raises(SettingsError, match=words):
            parse({"method": "local", "partition": {"domains": domains}})


def test_a_domain_that_nobody_would_see_is_an_error():
    skew = {"clients": 2, "domains": ["plain", "blur", "edge"]}
    with pytest.raises(SettingsError, match="3 domains for 2 clients, so nobody would see 'edge'"):
        parse({"method": "local", "partition": skew})


def test_later_transformations_move_cells_and_keys_that_have_domains_alone(tiny, monkeypatch):
    first = [tiny("local").cell_id, tiny("local", **SKEW).cell_id]
    assert domain_name("blur") == "blur"
    monkeypatch.setattr("fedbench.config.DOMAINS_VERSION", 2)
    monkeypatch.setattr("fedbench.data.domains.DOMAINS_VERSION", 2)
    later = [tiny("local").cell_id, tiny("local", **SKEW).cell_id]
    assert [one == other for one, other in zip(first, later, strict=True)] == [True, False]
    assert domain_name("blur") != "blur"
    assert domain_name("plain") == "plain"


def test_cells_without_domains_keep_their_ids(tiny):
    assert tiny("local").cell_id == tiny("local", partition={"domains": None}).cell_id
    assert tiny("local").cell_id != tiny("local", **SKEW).cell_id
    assert split_digest("a", b"b", "c") == split_digest("a", b"b", "c", "plain")
    assert split_digest("a", b"b", "c") != split_digest("a", b"b", "c", "blur")


def test_clients_hold_their_own_views_and_the_record_has_the_mean_over_them(
    compute, runtime, tiny, monkeypatch
):
    from fedbench.federation.population import Population

    found, open_client = {}, Population.open

    def spy(self, client, state):
        found[client] = self._train.take(torch.from_numpy(self._split.train[client])).images
        return open_client(self, client, state)

    monkeypatch.setattr(Population, "open", spy)
    from fedbench.methods.centralised import Centralised

    held, update = {}, Centralised.client_update

    def look(self, client, received, round):
        held[client.info.id] = client.data.images
        return update(self, client, received, round)

    monkeypatch.setattr(Centralised, "client_update", look)
    record = compute("centralised", **SKEW)
    assert torch.equal(held[0], found[0])
    assert torch.equal(held[1], 255 - found[1])
    assert not torch.equal(held[2], found[2])
    views = record.metrics["models"]["global"]["on_domains"]
    assert len(views) == 3
    assert views[0] == record.metrics["accuracy"]
    assert record.metrics["domain_mean"] == pytest.approx(sum(views) / 3)


def test_every_clients_model_is_scored_on_all_views(compute):
    record = compute("local", **SKEW)
    rows = record.metrics["models"].values()
    views = [value for row in rows for value in row["on_domains"]]
    assert len(views) == 9
    assert record.metrics["domain_mean"] == pytest.approx(sum(views) / 9)


def test_hold_outs_are_seen_as_their_clients_see_them(runtime, tiny, monkeypatch):
    from fedbench.federation.population import Population

    seen, hold_out = {}, Population.hold_out

    def spy(self, client):
        seen[client] = hold_out(self, client).images
        plain = self._train.take(torch.from_numpy(self._split.validation[client])).images
        assert torch.equal(seen[client], 255 - plain if client == 1 else plain)
        return hold_out(self, client)

    monkeypatch.setattr(Population, "hold_out", spy)
    skew = {"partition": {"domains": ["plain", "invert", "plain"], "validation": 0.2}}
    assert run_cell(tiny("local", **skew), runtime, suite="test").status == "ok"
    assert len(seen) == 3
