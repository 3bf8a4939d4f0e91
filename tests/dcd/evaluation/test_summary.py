import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dcd.errors import CountMismatch, DataError
from dcd.evaluation.summary import mode_rows
from tests.dcd.report.run_records import Right, predictions, record, rows_of

METHODS = {
    "selected": Right(75, 78),
    "selected_k5": Right(70, 79),
    "random": Right(45, 60),
    "none": Right(40, 80),
}


def test_rows_come_in_table_order_with_their_roles():
    rows = rows_of(record(METHODS))
    assert [(row.method, row.role) for row in rows] == [
        ("none", "none"),
        ("random", "baseline"),
        ("selected_k5", "variant"),
        ("selected", "selected"),
    ]


def test_scores_are_shares_over_seeds_with_gains_paired_to_none():
    none, *_, selected = rows_of(record(METHODS))
    assert none.debug_heldout.accuracy.value == pytest.approx(0.40)
    assert none.debug_heldout.gain is None
    assert selected.debug_heldout.accuracy.value == pytest.approx(0.75)
    assert selected.debug_heldout.accuracy.low < 0.75 < selected.debug_heldout.accuracy.high
    gain = selected.debug_heldout.gain
    assert gain is not None
    assert gain.value == pytest.approx(0.35)
    # Paired: 35 images changed, none back, so the interval is that of one share, not of two.
    assert gain.high - gain.low < 0.16
    assert selected.test.gain is not None
    assert selected.test.gain.value == pytest.approx(-0.02)


def test_std_is_between_seeds_and_absent_for_one_seed():
    first = predictions({"none": Right(40, 80), "selected": Right(70, 80)}, seeds=[0])
    second = predictions({"none": Right(40, 80), "selected": Right(74, 80)}, seeds=[1])
    *_, selected = rows_of(record(found=pa.concat_tables([second, first])))
    assert selected.debug_heldout.std == pytest.approx(0.02 * 2**0.5)
    *_, alone = rows_of(record(found=first, seeds=[0]))
    assert alone.debug_heldout.std is None
    assert alone.n_seeds == 1


def test_picks_and_label_precision_come_from_the_metrics():
    *_, selected = rows_of(record(METHODS))
    assert (selected.n_picks, selected.label_precision) == (12, 0.75)


def test_methods_evaluated_on_different_images_are_refused():
    table = predictions(METHODS)
    lost = pc.and_(pc.equal(table["model"], "random"), pc.equal(table["image_id"], "test-007"))
    with pytest.raises(CountMismatch, match="different images"):
        rows_of(record(found=table.filter(pc.invert(lost))))


@pytest.mark.parametrize("missing", ["none", "selected"])
def test_a_run_without_none_or_selected_is_refused(missing: str):
    methods = {name: right for name, right in METHODS.items() if name != missing}
    with pytest.raises(DataError, match=missing):
        rows_of(record(methods))


def test_modes_are_compared_least_gain_first():
    rows = mode_rows(record({"none": Right(40, 80), "selected": Right(41, 80)}).predictions)
    # Image 40, an even one, is the only one that `selected` gets right beyond `none`.
    assert [(row.mode, row.label, row.n_images) for row in rows] == [
        ("m1", "dog", 100),
        ("m0", "cat", 100),
    ]
    assert [row.gain.value for row in rows] == pytest.approx([0.0, 0.02])
    assert [row.none.value for row in rows] == pytest.approx([0.4, 0.4])
    assert rows[0].seeds == (0, 1)


def test_modes_of_the_same_name_but_other_labels_are_told_apart():
    methods = {"none": Right(40, 80), "selected": Right(75, 80)}
    first = predictions(methods, seeds=[0], labels=["cat", "dog"])
    second = predictions(methods, seeds=[1], labels=["frog", "dog"])
    rows = mode_rows(record(found=pa.concat_tables([first, second])).predictions)
    found = {(row.mode, row.label): row.seeds for row in rows}
    assert found == {("m0", "cat"): (0,), ("m0", "frog"): (1,), ("m1", "dog"): (0, 1)}


def test_without_modes_the_labels_stand_for_them():
    methods = {"none": Right(40, 80), "selected": Right(75, 80)}
    rows = mode_rows(record(found=predictions(methods, with_modes=False)).predictions)
    assert {(row.mode, row.label) for row in rows} == {(None, "cat"), (None, "dog")}


def test_a_mode_of_several_labels_is_one_row():
    table = predictions({"none": Right(40, 80), "selected": Right(75, 80)})
    night = pc.if_else(pc.equal(table["split"], "debug_heldout"), "night", None)
    table = table.set_column(table.column_names.index("mode"), "mode", night)
    (row,) = mode_rows(record(found=table).predictions)
    assert (row.mode, row.label, row.n_images) == ("night", None, 200)
