from pathlib import Path

from benchmarks.lpips import strategies, table


def test_the_orders_differ_in_nothing_but_the_measure():
    found = strategies(Path("weights"), k=20, candidates=60)
    first, *others = [one.model_copy(update={"lpips": None}) for one in found.values()]
    assert all(one == first for one in others)
    assert {one.searched for name, one in found.items() if name != "encoder"} == {60}
    fitted, alike = found["lpips"].lpips, found["lpips_alike"].lpips
    assert fitted is not None
    assert alike is not None
    assert fitted.channel_weights == "weights/alexnet-lpips.safetensors"
    assert alike.channel_weights is None


def test_a_row_has_means_over_seeds_and_seconds_only_where_something_was_computed():
    rows = [
        {
            "strategy": "lpips",
            "debug_val": value,
            "debug_heldout": value,
            "test": value,
            "right_labels": 75.0,
            "n_picks": 1000,
            "seconds": seconds,
        }
        for value, seconds in ((70.0, 80.0), (72.0, None))
    ]
    (row,) = table("domains", rows, dim=1280)
    assert "| 71.0 ± 1.4 |" in row
    assert row.endswith("| 1,000 | 80.0 | 1,939,968 |")
    (row,) = table("domains", [rows[1] | {"strategy": "encoder"}], dim=1280)
    assert row.endswith("| 1,000 | – | 2,560 |")
