"""Out to annotators and back: what they decided stands in the store, once."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dcd.config import load_config
from dcd.errors import DataError
from dcd.reviews.decisions import read_reviews
from dcd.reviews.standing import standing
from dcd.runs import loop
from dcd.serve.review_desk import desk_named
from dcd.serve.review_hand_off import TOOLS, hand_off, take_back
from dcd.store import Store
from tests.case import write_case


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a case with a run, and the run's id."""
    folder = tmp_path_factory.mktemp("case")
    info = loop.run(load_config(write_case(folder, seeds=(0,))))
    return folder, info.run_id


@pytest.fixture
def desk(case):
    return desk_named(Store(str(case[0] / "store")), case[1])


@pytest.fixture
def reviews(tmp_path) -> Store:
    """A store for the decisions of one test."""
    return Store(str(tmp_path / "reviews"))


def fiftyone_export(folder: Path, labels: dict[str, str | None]) -> bytes:
    return json.dumps({"classes": [], "labels": labels}).encode()


@pytest.mark.parametrize("tool", TOOLS)
def test_pictures_and_files_go_out(desk, reviews, tmp_path, tool):
    out = hand_off(reviews, desk, tool, tmp_path / "out", None)
    assert (out.n_images, out.gone) == (len(desk.candidates), ())
    pictures = list((tmp_path / "out").glob("*/*.jpg"))
    assert {p.stem for p in pictures} == set(desk.by_content)
    with Image.open(pictures[0]) as picture:
        assert picture.size == (16, 16)
    assert all((tmp_path / "out" / name).stat().st_size for name in out.files)
    with pytest.raises(DataError, match="not empty"):
        hand_off(reviews, desk, tool, tmp_path / "out", None)


def test_label_studio_may_get_the_pictures_inside(desk, reviews, tmp_path):
    hand_off(reviews, desk, "label-studio", tmp_path / "out", "embed")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text("utf-8"))
    assert all(t["data"]["image"].startswith("data:image/jpeg;base64,") for t in tasks)


def test_answers_stand_once_and_the_rest_is_named(desk, reviews, tmp_path):
    first, second, third = list(desk.by_content)[:3]
    label = desk.by_content[second].label
    other = next(name for name in desk.classes if name != label)
    labels = {first: desk.by_content[first].label, second: other, third: None}
    data = fiftyone_export(tmp_path, {**labels, "f" * 32: "red", list(desk.by_content)[3]: "rde"})
    found = take_back(reviews, desk, "fiftyone", data, "labels.json")
    assert (found.n_new, found.n_known) == (3, 0)
    assert ["unknown image" in found.refused[0], "did you mean 'red'" in found.refused[1]] == [
        True,
        True,
    ]
    again = take_back(reviews, desk, "fiftyone", data, "labels.json")
    assert (again.n_new, again.n_known) == (0, 3)
    stands = standing(read_reviews(reviews))
    of = {key: stands[bytes.fromhex(key)] for key in (first, second, third)}
    assert [of[k].verb for k in (first, second, third)] == ["accept", "relabel", "reject"]
    assert of[second].true_label == other


def test_a_change_of_mind_counts_also_where_the_tool_keeps_no_time(desk, reviews, tmp_path):
    key = next(iter(desk.by_content))
    own = desk.by_content[key].label
    other = next(name for name in desk.classes if name != own)
    for label in (own, other, own, own):
        take_back(reviews, desk, "fiftyone", fiftyone_export(tmp_path, {key: label}), "f")
    assert read_reviews(reviews)["decision"].to_pylist() == ["accept", "relabel", "accept"]
    assert standing(read_reviews(reviews))[bytes.fromhex(key)].true_label == own


def test_an_old_export_of_label_studio_changes_nothing(desk, reviews):
    key = next(iter(desk.by_content))
    other = next(name for name in desk.classes if name != desk.by_content[key].label)

    def task(choice: str, at: str) -> dict:
        result = [{"type": "choices", "value": {"choices": [choice]}}]
        one = {"id": 1, "completed_by": 1, "updated_at": at, "result": result}
        return {"data": {"dcd_key": key}, "annotations": [one]}

    old = json.dumps([task(other, "2026-01-01")]).encode()
    new = json.dumps([task(desk.by_content[key].label, "2026-01-02")]).encode()
    counts = [take_back(reviews, desk, "label-studio", d, "e").n_new for d in (old, new, old, new)]
    assert counts == [1, 1, 0, 0]
    assert standing(read_reviews(reviews))[bytes.fromhex(key)].verb == "accept"


def test_only_what_is_undecided_or_skipped_goes_out(desk, reviews, tmp_path):
    first, second, *rest = desk.by_content
    tasks = [
        {"data": {"dcd_key": first}, "annotations": [{"id": 1, "result": [], "updated_at": "1"}]},
        {
            "dcd_key": second,
            "label": desk.by_content[second].label,
            "annotation_id": 2,
            "updated_at": "1",
        },
    ]
    take_back(reviews, desk, "label-studio", json.dumps(tasks).encode(), "e")
    undecided = hand_off(reviews, desk, "csv", tmp_path / "a", None, "undecided")
    skipped = hand_off(reviews, desk, "csv", tmp_path / "b", None, "skipped")
    assert (undecided.n_images, skipped.n_images) == (len(rest), 1)


def test_pictures_that_are_gone_are_left_out_and_named(tmp_path):
    info = loop.run(load_config(write_case(tmp_path, seeds=(0,))))
    (tmp_path / "pool-0.parquet").unlink()
    store = Store(str(tmp_path / "store"))
    desk = desk_named(store, info.run_id)
    out = hand_off(store, desk, "csv", tmp_path / "out", None)
    assert len(out.gone) > 0
    assert out.n_images + len(out.gone) == len(desk.candidates)
    assert len(list((tmp_path / "out" / "images").iterdir())) == out.n_images


def test_a_run_whose_index_is_gone_says_what_to_do(tmp_path):
    info = loop.run(load_config(write_case(tmp_path, seeds=(0,))))
    store = Store(str(tmp_path / "store"))
    for key in store.keys_under("index"):
        store.delete(key)
    with pytest.raises(DataError, match="run its config again"):
        desk_named(store, info.run_id)


def test_a_name_that_stands_for_nothing_is_refused(case):
    with pytest.raises(DataError, match="no run and no selection"):
        desk_named(Store(str(case[0] / "store")), "../x")


def test_a_zip_is_told_as_that(reviews, desk):
    with pytest.raises(DataError, match=r"export\.zip: is a ZIP; unpack it"):
        take_back(reviews, desk, "cvat", b"PK\3\4rest", "export.zip")


def test_two_labels_for_one_picture_are_told_and_none_is_taken(reviews, desk):
    """Which of two rows of a table is the later, nothing tells."""
    key, other = sorted(desk.by_content)[:2]
    one, two = desk.classes[:2]
    rows = [(key, one, "ann"), (key, two, "ann"), (key, one, "bo"), (other, two, "ann")]
    text = "key,true_label,reviewer\n" + "".join(f"{','.join(row)}\n" for row in rows)
    found = take_back(reviews, desk, "csv", text.encode(), "r.csv")
    assert found.refused == (f"{key}: stands there as {one!r}, {two!r} by ann; keep one of them",)
    assert found.n_new == 2
