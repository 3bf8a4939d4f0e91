from collections import Counter

import numpy as np
import pyarrow.csv as pacsv
import pytest

from dcd.errors import DataError
from dcd.setup.cut import cut_failures, write_roles
from tests.case import png


@pytest.fixture
def failures(tmp_path):
    """Thirty failures of red, two of them the same picture, two of blue, and one without label."""
    rng = np.random.default_rng(0)
    for label, n in (("red", 29), ("blue", 2)):
        (tmp_path / label).mkdir()
        for i in range(n):
            (tmp_path / label / f"{i:02d}.png").write_bytes(png(rng, label, dark=True))
    (tmp_path / "red" / "copy.png").write_bytes((tmp_path / "red" / "07.png").read_bytes())
    return tmp_path


def test_each_label_is_cut_in_four_three_and_three_tenths(failures):
    cut = cut_failures(str(failures))
    assert cut.rows.num_rows == 32
    rows = [r for r in cut.rows.to_pylist() if r["label"] == "red" and "copy" not in r["image_id"]]
    red = Counter(row["role"] for row in rows)
    assert red == {"error_sample": 11, "debug_heldout": 9, "debug_val": 9}
    assert cut.few == {"blue": 2}


def test_copies_of_a_picture_have_one_role(failures):
    role = {row["image_id"]: row["role"] for row in cut_failures(str(failures)).rows.to_pylist()}
    assert role["red/copy.png"] == role["red/07.png"]


def test_names_and_order_of_the_files_change_no_role(failures):
    before = {row["image_id"]: row["role"] for row in cut_failures(str(failures)).rows.to_pylist()}
    (failures / "red" / "03.png").rename(failures / "red" / "zz.png")
    after = {row["image_id"]: row["role"] for row in cut_failures(str(failures)).rows.to_pylist()}
    assert after.pop("red/zz.png") == before.pop("red/03.png")
    assert after == before


def test_the_table_is_what_a_config_reads(failures, tmp_path):
    cut = cut_failures(str(failures))
    write_roles(tmp_path / "roles.csv", cut)
    assert pacsv.read_csv(tmp_path / "roles.csv").to_pylist() == cut.rows.to_pylist()


def test_too_few_failures_are_refused(tmp_path):
    (tmp_path / "red").mkdir()
    for i in range(2):
        (tmp_path / "red" / f"{i}.png").write_bytes(png(np.random.default_rng(i), "red", dark=True))
    with pytest.raises(DataError, match=r"2 labelled images .* too few"):
        cut_failures(str(tmp_path))
