import pyarrow as pa

from dcd.evaluation.pool_gaps import PoolGaps, find_gaps


def failures(*rows: tuple[str, str, str | None]) -> pa.Table:
    names = ("image_id", "label", "mode")
    return pa.table(
        {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)}
    )


FAILURES = failures(
    ("a", "cat", "night"), ("b", "cat", "night"), ("c", "cat", "night"), ("d", "cat", None),
    ("e", "dog", "snow"), ("f", "dog", "snow"),
)  # fmt: skip


def test_failures_that_are_far_from_all_are_grouped_by_label_and_mode():
    nearest = {"a": 1.5, "b": 2.0, "c": 0.5, "d": 0.9, "e": 1.0}  # of f there is none at all
    gaps = find_gaps(FAILURES, nearest, 1.0, 4.5)
    assert [(gap.label, gap.mode, gap.failures) for gap in gaps] == [
        ("cat", "night", ("b", "a")),
        ("dog", "snow", ("f",)),
    ]
    assert [gap.nearest_l2 for gap in gaps] == [1.75, None]
    assert [gap.n_wanted for gap in gaps] == [9, 5]
    assert [gap.n_with_label for gap in gaps] == [4, 2]


def test_what_is_told_names_the_bound_and_what_to_collect():
    nearest = {"a": 1.5, "b": 2.0, "c": 0.5, "d": 0.9, "e": 1.0, "f": 0.1}
    said = PoolGaps(1.0, 200, 6, find_gaps(FAILURES, nearest, 1.0, 3)).sentences
    assert said[0].startswith("For 2 of 6 failures all usable pool images are far: 95 % of 200")
    assert "cat, mode night: 2 of the label's 4 failures" in said[1]
    assert "Collect about 6 images" in said[1]
    assert PoolGaps(1.0, 200, 6, ()).sentences[0].startswith("The pool meets all 6 failures")
