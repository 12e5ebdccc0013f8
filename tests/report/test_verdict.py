"""What a board says at the end of its report, from records alone."""

import pytest
from made_records import board_of, record

from fedbench.report.paired import Paired
from fedbench.report.verdict import beyond_noise, to_markdown, verdict

TEN = (0.0, 0.001, -0.001)


def made(seeds=3):
    found = []
    for seed in range(seeds):
        noise = TEN[seed]
        for name, accuracy, cost in (
            ("best", 0.9 + noise, 3000),
            ("close", 0.899 - noise, 2000),
            ("cheap", 0.7 + noise, 1000),
            ("lost", 0.6 + noise, 2500),
        ):
            found.append(sent(record(name, seed, accuracy), cost))
        found.append(sent(record("random_real", seed, 0.8 + noise, control=True), 500))
    return found


def sent(one, cost):
    return one.model_copy(update={"ledger": {**one.ledger, "bytes_total": cost}})


def test_the_front_by_bytes_and_what_is_beyond_the_noise():
    (saying,) = verdict(board_of(made()))
    front, controls, noise = saying.sentences
    assert front == (
        "No contender beats these with fewer bytes: cheap 70.00 % for 1.0 kB, close 89.90 % for "
        "2.0 kB, best 90.00 % for 3.0 kB."
    )
    assert controls == (
        "Controls that none of them beats with fewer bytes: random_real 80.00 % for 500 B."
    )
    assert noise == (
        "Best is best, 90.00 ± 0.10 %. Ahead of others by points, mean ± standard deviation over "
        "seeds; beyond the noise by a paired t-test at 95 %: cheap +20.00 ± 0.00, lost +30.00 ± "
        "0.00, random_real +10.00 ± 0.00; within it: close +0.10 ± 0.20."
    )


def test_a_board_that_is_not_done_says_what_it_lacks():
    board = board_of(
        [record("a"), record("b", status="failed")], missing=[record("c"), record("c", 1)]
    )
    *_, rest = verdict(board)
    assert rest.sentences[0] == (
        "3 of 4 cells have no number (1 failed, 2 not computed): c in 2, b in 1."
    )


@pytest.mark.parametrize(("seeds", "words"), [(1, "With 1 seed"), (2, "With 2 seeds")])
def test_without_three_seeds_nothing_is_said_of_differences(seeds, words):
    block, rest = verdict(board_of(made(seeds)))
    assert not any("beyond the noise" in sentence for sentence in block.sentences)
    assert rest.sentences[0].startswith(f"{words} nothing can be said about noise")
    assert "`fedbench sweep toy --profile quick --seeds 3`" in rest.sentences[0]


def test_many_blocks_are_counted():
    found = [
        sent(record(name, seed, accuracy + TEN[seed], beta=beta), 1000)
        for beta in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
        for seed in range(3)
        for name, accuracy in (("a", 0.5), ("b", 0.4 if beta < 0.5 else 0.6))
    ]
    found += [
        sent(record("real", seed, accuracy, beta=beta, control=True), size)
        for beta, accuracy, size in ((0.1, 0.45, 500), (0.2, 0.3, 500), (0.3, 0.9, 2000))
        for seed in range(3)
    ]
    found += [sent(record("c", seed, 0.5 + TEN[seed], beta=0.1), 9000) for seed in range(3)]
    (saying,) = verdict(board_of(found))
    assert saying.about == "Over 7 blocks"
    assert saying.sentences == (
        "No contender beats these with fewer bytes: a in 4, b in 3.",
        "Best: a in 4, b in 3, c in 1.",
        "Controls that none of them beats with fewer bytes: real in 3.",
        "In 6 of 7 blocks the best differs from the second beyond the noise (paired over seeds, at "
        "95 %).",
    )


def test_a_gap_is_judged_by_students_t():
    assert beyond_noise(Paired(0.10, 0.04, (0, 1, 2))) is True  # .10 > 4.303 * .04 / sqrt(3)
    assert beyond_noise(Paired(0.09, 0.04, (0, 1, 2))) is False
    assert beyond_noise(Paired(-0.03, 0.05, tuple(range(40)))) is True
    # The normal distribution's 1.96 would be too little for twelve seeds, for which it is 2.201.
    assert beyond_noise(Paired(0.60, 1.0, tuple(range(12)))) is False
    assert beyond_noise(Paired(0.64, 1.0, tuple(range(12)))) is True
    assert beyond_noise(Paired(0.5, 0.0, (0, 1))) is None


def test_what_could_not_run_and_what_was_given_is_said():
    given = [
        record("feddf", ipc=ipc).model_copy(
            update={"privileges": [f"{10 * ipc} images of the clients' own", "a model"]}
        )
        for ipc in (1, 10)
    ]
    found = board_of([*given, *made()], skipped=[record("dense"), record("dense", 1)])
    assert verdict(found)[-1].sentences == (
        "Skipped: dense: cannot run.",
        "Given beyond others: feddf: 10 or 100 images of the clients' own.",
        "Given beyond others: feddf: a model.",
    )


def test_sentences_cannot_break_the_page():
    text = to_markdown(verdict(board_of([record("<b>|x", seed) for seed in range(3)])))
    assert "&lt;b>\\|x" in text
    assert to_markdown([]) == ""
