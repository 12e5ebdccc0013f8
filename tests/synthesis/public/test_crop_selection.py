import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.errors import SettingsError, TrainingError
from fedbench.settings import validate
from fedbench.synthesis.public.crops import SelectionSettings, acts, crops_needed, fault, select

# One cluster, centred on 10: the crops' distances are 10, 9, 8, 7, 6, 5, 4, 3, 2 and 54.
LINE = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 64]).view(-1, 1)
HALVES = torch.tensor([[2.0, 0]] * 6 + [[0, 2.0]] * 4)
ALONE = torch.tensor([[2.0, 0]] * 9 + [[0, 2.0]])


def made(**over):
    return SelectionSettings(**({"cluster": "full", "clusters": 1, "prune": "none"} | over))


def chosen(features, logits, count=4, seed=0, **over):
    return select(features, logits, made(**over), count=count, seed=seed).chosen.tolist()


def pruned(logits, **over):
    found = chosen(torch.zeros(len(logits), 1), logits, cluster="none", **over)
    return sorted({*range(len(logits))} - {*found})


def described(crops, classes, seed):
    source = torch.Generator().manual_seed(seed)
    return (
        torch.randn(crops, 3, generator=source),
        3 * torch.randn(crops, classes, generator=source),
    )


@pytest.mark.parametrize(
    ("count", "over", "expected"),
    [
        (4, {"heuristic": "hard"}, [0, 1, 6, 9]),
        (4, {"heuristic": "easy"}, [4, 5, 7, 8]),
        (4, {"heuristic": "mixed"}, [0, 5, 8, 9]),
        (4, {"heuristic": "easy", "easy_is_mixed": True}, [0, 5, 8, 9]),
        (4, {"heuristic": "hard", "easy_is_mixed": True}, [0, 1, 6, 9]),
        (8, {"heuristic": "mixed", "mixed_share": 0.75}, [0, 3, 4, 5, 6, 7, 8, 9]),
        (6, {"heuristic": "mixed", "mixed_share": 0.75}, [3, 4, 5, 6, 7, 8]),
        (5, {"heuristic": "mixed"}, [0, 5, 7, 8, 9]),
        (5, {"heuristic": "hard"}, [0, 1, 2, 6, 9]),
        (4, {"heuristic": "hard", "balance": 0.5}, [0, 1, 2, 9]),
        (4, {"heuristic": "easy", "balance": 0.5}, [5, 6, 7, 8]),
    ],
)
def test_heuristics_by_hand(count, over, expected):
    assert chosen(LINE, HALVES, count, **over) == expected


def test_si_4_without_balance_the_heuristic_alone_decides():
    assert chosen(LINE, HALVES, heuristic="hard", balance=0) == [0, 1, 2, 9]
    assert chosen(LINE, HALVES, heuristic="easy", balance=0) == [5, 6, 7, 8]
    assert chosen(LINE, HALVES, heuristic="mixed", balance=0) == [0, 7, 8, 9]


def test_si_2_places_that_a_small_class_leaves_go_to_the_others():
    assert chosen(LINE, ALONE, 6, heuristic="hard") == [0, 1, 2, 3, 4, 9]


def test_equally_far_crops_are_told_apart_by_index():
    same = torch.zeros(10, 1)
    assert chosen(same, HALVES, heuristic="easy") == [0, 1, 6, 7]
    assert chosen(same, HALVES, heuristic="hard") == [4, 5, 8, 9]
    assert chosen(same, HALVES, heuristic="mixed") == [0, 5, 6, 9]


def test_a_class_is_absent_where_it_is_predicted_for_no_crop():
    wide = torch.cat([HALVES[:, :1], torch.full((10, 3), -1.0), HALVES[:, 1:]], dim=1)
    assert chosen(LINE, wide, heuristic="hard") == [0, 1, 6, 9]


def test_si_3_pruning_drops_its_share_of_each_class():
    gaps = torch.tensor([5.0, 1, 4, 2, 3, -1, -9, -2])
    logits = torch.stack([gaps, torch.zeros(8)], dim=1)
    assert pruned(logits, prune="top", prune_share=0.4) == [0, 2, 6]
    assert pruned(logits, prune="bottom", prune_share=0.4) == [1, 3, 5]
    assert pruned(logits, prune="top", prune_share=0.7) == [0, 2, 4, 6, 7]
    assert pruned(logits, prune="top", prune_share=0.3) == [0]


def test_shares_are_meant_as_they_are_written():
    logits = torch.tensor([[1.0, 0]]).repeat(90, 1)
    assert 0.7 * 90 < 63
    assert pruned(logits, prune="top", prune_share=0.7) == list(range(63))


def test_entropy_is_not_confidence():
    logits = torch.tensor([[0.6, 0.2, 0.2], [0.55, 0.44, 0.01]]).log()
    assert pruned(logits, prune="top", prune_share=0.5) == [0]
    assert pruned(logits, prune="entropy", prune_share=0.5) == [1]
    assert pruned(logits, prune="entropy_high", prune_share=0.5) == [0]
    assert pruned(logits, prune="bottom", prune_share=0.5) == [1]


def test_confidences_that_float32_cannot_tell_apart_are_ranked():
    logits = torch.tensor([[20.0, 0], [25, 0], [22, 0], [30, 0]])
    found = select(LINE[:4], logits, made(prune="top"), count=2, seed=0)
    assert found.confidence.tolist() == [1.0] * 4
    assert found.chosen.tolist() == [0, 2]


def test_random_pruning_with_replacement_keeps_far_more():
    logits = torch.tensor([[1.0, 0]]).repeat(2000, 1)
    kept = 2000 - len(pruned(logits, prune="random", prune_share=0.9))
    slip = 2000 - len(pruned(logits, prune="random", prune_share=0.9, random_with_replacement=True))
    assert kept == 200
    assert slip == pytest.approx(2000 * math.exp(-0.9), rel=0.1)
    again = [pruned(logits, prune="random", seed=seed) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_si_4_stages_that_are_off_keep_every_crop():
    features, logits = described(40, 3, 0)
    everything = list(range(40))
    assert chosen(features, logits, 5, cluster="none") == everything
    assert chosen(features, logits, 5, cluster="none", prune="top", prune_share=0) == everything
    assert crops_needed(made(cluster="none"), 40) == 40


def test_the_first_stage_acts_only_on_more_crops_than_the_second_needs():
    headline = SelectionSettings(cluster="full", prune_share=0.9)
    assert crops_needed(headline, 5000) == 50_000
    assert not acts(headline, 50_000, 5000)
    assert acts(headline, 50_001, 5000)
    assert acts(SelectionSettings(cluster="full", prune_share=0.5), 50_000, 5000)
    assert not acts(SelectionSettings(cluster="none"), 50_000, 5000)
    features, logits = described(40, 3, 1)
    over = {"clusters": 4, "prune": "top", "prune_share": 0.9}
    found = select(features, logits, made(**over), count=4, seed=0)
    assert found.distance is None
    assert found.balanced.tolist() == list(range(40))
    assert found.chosen.tolist() == chosen(features, logits, **(over | {"cluster": "none"}))
    assert select(features, logits, made(**over), count=3, seed=0).distance is not None


@pytest.mark.parametrize("cluster", ["full", "mini_batch"])
def test_distances_are_those_to_the_own_cluster(cluster):
    corners = torch.tensor([[0.0, 0], [100, 0], [0, 100]]).repeat_interleave(20, 0)
    features = corners + described(60, 2, 0)[1]
    found = select(features, corners @ torch.ones(2, 2), made(cluster=cluster, clusters=3),
                   count=6, seed=0)  # fmt: skip
    centres = features.view(3, 20, 2).mean(1).repeat_interleave(20, 0)
    expected = (features - centres).norm(dim=1)
    assert torch.allclose(found.distance, expected, atol=1e-4 if cluster == "full" else 2)


@pytest.mark.parametrize("cluster", ["full", "mini_batch"])
def test_one_seed_gives_the_same_bits_and_half_precision_is_taken(cluster):
    features, logits = described(300, 5, 0)
    halves = features.bfloat16()
    over = made(cluster=cluster, clusters=20, prune="top")
    one, two, other = (
        select(given, logits, over, count=50, seed=seed)
        for given, seed in ((halves, 0), (halves.float(), 0), (halves, 1))
    )
    assert torch.equal(one.distance, two.distance)
    assert torch.equal(one.chosen, two.chosen)
    assert not torch.equal(one.distance, other.distance)
    assert (one.distance.dtype, one.confidence.dtype) == (torch.float32, torch.float32)


PRUNES = st.sampled_from(["none", "top", "bottom", "random", "entropy", "entropy_high"])


@settings(max_examples=60, deadline=None)
@given(
    cluster=st.sampled_from(["none", "full", "mini_batch"]),
    heuristic=st.sampled_from(["easy", "hard", "mixed"]),
    balance=st.sampled_from([0, 0.3, 1]),
    prune=PRUNES,
    share=st.sampled_from([0, 0.1, 0.5, 0.9]),
    crops=st.integers(5, 60),
    classes=st.integers(2, 6),
    count=st.integers(1, 30),
    seed=st.integers(0, 3),
)
def test_si_2_si_3_sizes_and_order(
    cluster, heuristic, balance, prune, share, crops, classes, count, seed
):
    features, logits = described(crops, classes, seed)
    over = SelectionSettings(
        cluster=cluster,
        clusters=5,
        heuristic=heuristic,
        balance=balance,
        prune=prune,
        prune_share=share,
    )
    found = select(features, logits, over, count=count, seed=seed)
    places = crops if cluster == "none" else int(count / (1 - share * (prune != "none")) + 1e-9)
    assert len(found.balanced) == min(places, crops)
    sizes = found.predicted.bincount(minlength=classes)
    left = found.predicted[found.balanced].bincount(minlength=classes)
    if cluster != "none":
        quota = int(balance * places / int((sizes > 0).sum()) + 1e-9)
        assert bool((left >= sizes.clamp(max=quota)).all())
    dropped = torch.tensor(sorted({*found.balanced.tolist()} - {*found.chosen.tolist()})).long()
    assert len(dropped) == len(found.balanced) - len(found.chosen)  # chosen: a subset, no doubles
    gone = found.predicted[dropped].bincount(minlength=classes)
    assert gone.tolist() == [int(share * n + 1e-9) * (prune != "none") for n in left.tolist()]
    assert bool((found.chosen.diff() > 0).all())
    if crops >= crops_needed(over, count):
        assert len(found.chosen) >= count
        if cluster != "none":
            assert len(found.chosen) <= count + classes
    for number in range(classes):
        kept, lost = (
            found.confidence[part[found.predicted[part] == number]]
            for part in (found.chosen, dropped)
        )
        if len(lost) and prune == "top":
            assert kept.max() <= lost.min()
        if len(lost) and prune == "bottom":
            assert kept.min() >= lost.max()


@settings(max_examples=20, deadline=None)
@given(
    prune=st.sampled_from(["none", "top", "bottom", "entropy", "entropy_high"]),
    order=st.permutations(range(5)),
    seed=st.integers(0, 3),
)
def test_names_of_classes_do_not_matter(prune, order, seed):
    features, logits = described(60, 5, seed)
    over = {"prune": prune, "clusters": 6, "heuristic": "mixed"}
    assert chosen(features, logits, 12, **over) == chosen(features, logits[:, order], 12, **over)


@settings(max_examples=50, deadline=None)
@given(share=st.integers(0, 99), count=st.integers(1, 6000))
def test_needed_crops_are_the_fewest_that_leave_enough(share, count):
    needed = crops_needed(SelectionSettings(prune_share=share / 100), count)
    assert needed * (100 - share) >= 100 * count > (needed - 1) * (100 - share)


def test_fewer_crops_than_clusters_are_refused():
    features, logits = described(40, 3, 0)
    thousand = made(clusters=1000)
    with pytest.raises(SettingsError, match=r"40 crops are fewer than 1000 clusters.*at most 40"):
        select(features, logits, thousand, count=20, seed=0)
    assert fault(thousand, 1000) is None
    assert fault(SelectionSettings(cluster="none"), 40) is None


def test_outputs_that_are_not_finite_are_refused():
    features, logits = described(40, 3, 0)
    for broken in (features, logits):
        value, broken[7, 1] = broken[7, 1].clone(), math.nan
        with pytest.raises(TrainingError, match="not finite"):
            select(features, logits, made(), count=20, seed=0)
        broken[7, 1] = value


@pytest.mark.parametrize(
    "wrong", [{"prune_share": 1}, {"balance": 1.1}, {"clusters": 0}, {"prune": "high"}, {"k": 3}]
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        validate(SelectionSettings, wrong)
