"""What rows and the head of a board's page say, of records made by hand."""

from made_records import board_of, record

from fedbench.report import page
from fedbench.report.page import lines


def test_a_worst_client_that_is_never_right_is_0_and_not_unknown():
    never = [record("fedavg", seed, accuracy=0.0) for seed in (0, 1)]
    (block,) = lines.blocks_of(board_of(never).views, "records/")
    assert [run.worst for run in block.contenders[0].runs] == ["0.00", "0.00"]


def test_values_of_a_split_are_in_order():
    several = [
        record("fedavg", beta=None, partition={"scheme": "shards_fixed", "shards": shards})
        for shards in (10, 2)
    ]
    assert "shards_fixed shards=2, 10" in page.page(
        board_of(several), [], [], records="", named="toy"
    )
