import numpy as np
import pyarrow as pa
import pytest

from dcd.cells.methods import Method, methods, pool_picks, with_error_sample
from dcd.cells.pool_views import PoolViews
from dcd.config import BASELINES, CompareConfig, load_config
from dcd.evaluation.metrics import label_precision
from dcd.tables import schemas
from tests.case import write_case


@pytest.fixture
def rows() -> pa.Table:
    return pa.table(
        {
            "image_id": [f"i{n}" for n in range(40)],
            "label": ["cat", "dog"] * 20,
            "shard": ["a"] * 40,
        }
    )


@pytest.fixture
def selected() -> pa.Table:
    return pa.table(
        {
            "image_id": ["i0", "i2", "i1"],
            "label": ["cat", "cat", "dog"],
            "shard": ["a"] * 3,
            "uri": ["a.tar"] * 3,
            "min_distance": pa.array([0.1, 0.2, 0.3], pa.float32()),
            "n_queries": pa.array([1, 1, 2], pa.int32()),
            "role": ["targeted"] * 3,
            "weight": pa.array([2.0] * 3, pa.float32()),
        }
    )


class KnownViews(PoolViews):
    """Views of a pool in memory: agreement rises, each hardness begins at a row of its own."""

    def __init__(self, rows: pa.Table):
        self.rows = rows
        agreement = pa.array([i % 20 / 20 for i in range(rows.num_rows)])
        self.agreement = rows.append_column("label_agreement", agreement)

    def hardest(self, by, n):
        return self.rows.slice({"confidence": 0, "loss": 10, "margin": 20, "entropy": 30}[by], n)


def draw(name, rows, selected, seed=0, **compare):
    compared = CompareConfig(**compare)
    return pool_picks(Method(name, name), selected, compared, seed, KnownViews(rows))


def test_none_adds_nothing(rows, selected):
    assert draw("none", rows, selected).num_rows == 0


def test_random_draws_as_many_as_selected_without_repeats(rows, selected):
    ids = draw("random", rows, selected)["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 3
    assert set(ids) <= set(rows["image_id"].to_pylist())


def test_random_in_label_draws_as_many_in_each_label(rows, selected):
    labels = draw("random_in_label", rows, selected)["label"].to_pylist()
    assert sorted(labels) == ["cat", "cat", "dog"]


def test_the_general_sample_is_none_of_what_baselines_copy(rows, selected):
    role = pa.array(["targeted", "general", "targeted"])
    mixed = selected.set_column(6, "role", role)
    assert draw("random", rows, mixed).num_rows == 2
    assert draw("selection", rows, mixed)["weight"].to_pylist() == [2, 2, 2]


def test_whole_pool_takes_everything_or_a_bounded_draw(rows, selected):
    assert draw("whole_pool", rows, selected).num_rows == 40
    assert draw("whole_pool", rows, selected, whole_pool_max_images=7).num_rows == 7
    assert draw("whole_pool", rows, selected, whole_pool_max_images=99).num_rows == 40


def test_filtered_pool_takes_every_image_whose_neighbours_agree_enough(rows, selected):
    assert draw("filtered_pool", rows, selected).num_rows == 28
    ids = draw("filtered_pool", rows, selected, filtered_pool_min_agreement=0.95)["image_id"]
    assert ids.to_pylist() == ["i19", "i39"]


@pytest.mark.parametrize(
    ("name", "settings", "first"),
    [
        ("low_confidence", {}, 0),
        ("high_loss", {}, 10),
        ("uncertainty", {}, 20),
        ("uncertainty", {"uncertainty": "entropy"}, 30),
    ],
)
def test_model_driven_baselines_take_as_many_as_selected_of_the_hardest(
    rows, selected, name, settings, first
):
    ids = draw(name, rows, selected, **settings)["image_id"].to_pylist()
    assert ids == [f"i{first}", f"i{first + 1}", f"i{first + 2}"]


def test_a_draw_depends_on_its_seed_alone(rows, selected):
    assert draw("random", rows, selected, seed=1) == draw("random", rows, selected, seed=1)
    assert draw("random", rows, selected, seed=1) != draw("random", rows, selected, seed=2)


def test_selection_takes_what_was_selected(rows, selected):
    picks = draw("selection", rows, selected)
    assert picks["image_id"].to_pylist() == ["i0", "i2", "i1"]
    assert picks["weight"].to_pylist() == [2, 2, 2]


def test_label_precision_counts_error_samples_as_right(rows, selected):
    picks = draw("selection", rows, selected)
    truth = pa.table({"image_id": ["i0", "i1", "i2"], "label": ["cat", "cat", "cat"]})
    assert label_precision(picks, truth) == pytest.approx(2 / 3)
    errors = pa.table({"image_id": ["e"], "label": ["dog"], "shard": ["b"]})
    assert label_precision(with_error_sample(picks, errors), truth) == pytest.approx(3 / 4)


def test_label_precision_is_unknown_without_truth_or_picks(rows, selected):
    picks = draw("selection", rows, selected)
    assert label_precision(picks, None) is None
    assert label_precision(schemas.PICKS.empty_table(), None) is None
    half = pa.table({"image_id": ["i0"], "label": ["cat"]})
    assert label_precision(picks, half) is None


def test_error_sample_alone_is_right_even_where_truth_is_unknown():
    errors = pa.table({"image_id": ["e"], "label": ["dog"], "shard": ["b"]})
    picks = with_error_sample(schemas.PICKS.empty_table(), errors)
    assert label_precision(picks, None) == 1


def test_methods_keep_none_and_put_further_selections_last(tmp_path):
    compare = {"baselines": ["random"], "selections": {"wide": {"k": 9}}}
    config = load_config(write_case(tmp_path, compare=compare))
    assert [m.name for m in methods(config)] == ["none", "random", "selected", "wide"]
    assert np.all([m.selection is None for m in methods(config)[:2]])


def test_every_baseline_has_a_method(tmp_path):
    config = load_config(write_case(tmp_path, compare={"baselines": list(BASELINES)}))
    assert [m.name for m in methods(config)] == [*BASELINES, "selected"]
