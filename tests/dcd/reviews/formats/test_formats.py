"""What goes out to each tool, and what comes back from it."""

import csv
import io
import json
from types import ModuleType
from xml.etree import ElementTree

import pytest

from dcd.errors import DataError
from dcd.reviews.formats import csv_table, cvat, fiftyone, label_studio
from dcd.reviews.hand_off import NONE_OF_THESE, Answer, Asked, Judged, check_classes, judged

CLASSES = ("cat", "dog", "<b>fox</b>")
KEY, OTHER = "0" * 32, "1" * 32
ASKED = [
    Asked(KEY, "p1", "cat", f"images/{KEY}.jpg", "http://x/1.jpg", 40, 30, 1.5, 0.4, "f1"),
    Asked(OTHER, 'p"2', "<b>fox</b>", f"images/{OTHER}.jpg", "http://x/2.jpg", 40, 30),
]


def test_label_studio_tasks_carry_the_pool_label_as_a_prediction():
    files = label_studio.written(ASKED, CLASSES)
    first, second = json.loads(files["tasks.json"])
    assert first["data"]["image"] == "http://x/1.jpg"
    [prediction] = first["predictions"]
    assert prediction["score"] == 0.4
    [result] = prediction["result"]
    view = ElementTree.fromstring(files["config.xml"])
    [choices] = view.findall("Choices")
    assert (result["from_name"], result["to_name"]) == (choices.get("name"), choices.get("toName"))
    assert [c.get("value") for c in choices] == [*CLASSES, NONE_OF_THESE]
    assert result["value"]["choices"] == ["cat"]
    assert "score" not in second["predictions"][0]


def annotated(key: str, choice: str | None, at: str, **more: object) -> dict:
    result = [] if choice is None else [{"type": "choices", "value": {"choices": [choice]}}]
    annotation = {"id": 7, "completed_by": {"email": "ann@x"}, "updated_at": at, "result": result}
    return {"data": {"dcd_key": key}, "annotations": [{**annotation, **more}]}


def test_label_studio_exports_come_back_in_the_order_of_time():
    tasks = [
        annotated(KEY, "dog", "2026-01-02T00:00:00Z", completed_by=3),
        annotated(KEY, "cat", "2026-01-01T00:00:00Z"),
        annotated(OTHER, None, "2026-01-03T00:00:00Z"),
        annotated(OTHER, "cat", "2026-01-04T00:00:00Z", was_cancelled=True),
        {"data": {"dcd_key": OTHER}, "annotations": []},
    ]
    found = label_studio.answers(json.dumps(tasks).encode(), "e.json")
    assert [(a.key, a.label, a.reviewer, a.skipped) for a in found] == [
        (KEY, "cat", "ann@x", False),
        (KEY, "dog", "3", False),
        (OTHER, None, "ann@x", True),
        (OTHER, None, "ann@x", True),
    ]
    assert len({a.stamp for a in found[:2]}) == 2


def test_label_studio_min_exports_come_back_too():
    rows = [{"dcd_key": KEY, "label": "dog", "annotator": 4, "annotation_id": 1,
             "updated_at": "2026-01-01"}, {"dcd_key": OTHER, "image": "x"}]  # fmt: skip
    [answer] = label_studio.answers(json.dumps(rows).encode(), "e.json")
    assert (answer.key, answer.label, answer.reviewer) == (KEY, "dog", "4")


def test_cvat_takes_only_what_was_marked_as_reviewed():
    files = cvat.written(ASKED, CLASSES)
    text = files["annotations.xml"].decode()
    assert cvat.answers(text.encode(), "a.xml") == []
    first, second = ElementTree.fromstring(text).findall("image")
    assert (first.get("width"), first.get("height")) == ("40", "30")
    assert [tag.get("label") for tag in second.findall("tag")] == ["<b>fox</b>"]
    names = [label["name"] for label in json.loads(files["labels.json"])]
    assert names == [*CLASSES, NONE_OF_THESE]
    marked = text.replace(">false</attribute>", ">true</attribute>", 1)
    assert cvat.answers(marked.encode(), "a.xml") == [Answer(KEY, "cat", "cvat", "")]


def test_fiftyone_comes_back_by_index_or_name():
    document = json.loads(fiftyone.written(ASKED, CLASSES)["labels.json"])
    assert [document["classes"][i] for i in document["labels"].values()] == ["cat", "<b>fox</b>"]
    document["labels"] = {KEY: 1, OTHER: None, "2" * 32: {"label": "dog", "confidence": 1.0}}
    found = fiftyone.answers(json.dumps(document).encode(), "labels.json")
    assert [a.label for a in found] == ["dog", None, "dog"]


def test_csv_takes_rows_that_were_filled_in():
    text = csv_table.written(ASKED, CLASSES)["reviews.csv"].decode()
    assert csv_table.answers(text.encode(), "r.csv") == []
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[1]["image_id"] == 'p"2'
    rows[0] |= {"true_label": " dog ", "reviewer": "ann"}
    filled = io.StringIO()
    table = csv.DictWriter(filled, rows[0])
    table.writeheader()
    table.writerows(rows)
    assert csv_table.answers(filled.getvalue().encode(), "r.csv") == [Answer(KEY, "dog", "ann", "")]


@pytest.mark.parametrize(
    "saved",
    [
        f"\ufeffkey;true_label;reviewer\r\n{KEY};dog;ann\r\n".encode(),
        f"sep=;\r\nkey;true_label;reviewer\r\n{KEY};dog;ann\r\n".encode(),
        f"key\ttrue_label\treviewer\r\n{KEY}\tdog\tann\r\n".encode("utf-16"),
        f'\ufeff"key","true_label","reviewer"\n"{KEY}","dog\u200b","ann"\n'.encode(),
        f"key,true_label\n{KEY},dog\n".encode(),
    ],
)
def test_a_csv_comes_back_as_spreadsheets_save_it(saved: bytes):
    [answer] = csv_table.answers(saved, "r.csv")
    assert (answer.key, answer.label) == (KEY, "dog")
    assert csv_table.answers(b"key,true_label\n", "r.csv") == []


def test_labels_of_annotators_are_cleaned_as_all_labels():
    shown, classes = {KEY: "dog"}, ("caf\u00e9", "dog")
    found = judged(Answer(KEY, " cafe\u0301 ", "ann", ""), shown, classes)
    assert isinstance(found, Judged)
    assert (found.verb, found.true_label) == ("relabel", "caf\u00e9")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_runs_nothing_of_a_csv_and_names_come_back(sign: str):
    hostile = f"{sign}1+1"
    asked = [Asked(KEY, hostile, hostile, hostile, hostile, 40, 30)]
    text = csv_table.written(asked, (hostile,))["reviews.csv"].decode()
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert {row["image_id"], row["label"], row["file"], row["url"]} == {f"'{hostile}"}
    filled = io.StringIO()
    table = csv.DictWriter(filled, row)
    table.writeheader()
    table.writerow({**row, "true_label": row["label"]})
    [answer] = csv_table.answers(filled.getvalue().encode(), "r.csv")
    assert answer.label == hostile.strip()


BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbb">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("tool", "data", "says"),
    [
        (label_studio, b"{", "no JSON"),
        (label_studio, b'{"a": 1}', "list of tasks"),
        (cvat, b"<a", "no XML"),
        (cvat, b"<a/>", "expected <annotations>"),
        (cvat, b"<?xml version='1.0' encoding='utf-1'?><a/>", "expected <annotations>"),
        (cvat, "<!DOCTYPE a><annotations/>".encode("utf-16"), "is not in UTF-8"),
        (cvat, BOMB, "document type"),
        (fiftyone, b'{"labels": [1]}', "labels.json of FiftyOne"),
        (fiftyone, b'{"classes": ["a"], "labels": {"k": 4}}', "label 4 of 1 classes"),
        (csv_table, b"a,b\n1,2\n", "lacks the columns"),
        (csv_table, b"", "lacks the columns"),
        (csv_table, b"key,true_label\nx,caf\xe9\n", "no CSV in UTF-8.*save it as CSV UTF-8"),
    ],
)
def test_what_is_no_export_is_refused_with_its_name(tool, data, says):
    with pytest.raises(DataError, match=says) as caught:
        tool.answers(data, "the-file")
    assert "the-file" in str(caught.value)


@pytest.mark.parametrize(
    ("label", "verb", "true_label"),
    [("cat", "accept", None), ("dog", "relabel", "dog"), (NONE_OF_THESE, "reject", None)],
)
def test_an_answer_becomes_a_decision(label, verb, true_label):
    answer = Answer(KEY, label, "ann", "s")
    assert judged(answer, {KEY: "cat"}, CLASSES) == Judged(answer, verb, true_label)


def test_unknown_images_and_labels_are_named():
    unknown = judged(Answer("x", "cat", "a", ""), {KEY: "cat"}, CLASSES)
    misspelt = judged(Answer(KEY, "dogg", "a", ""), {KEY: "cat"}, CLASSES)
    assert "unknown image" in str(unknown)
    assert "did you mean 'dog'?" in str(misspelt)


def test_a_class_must_not_be_called_none():
    with pytest.raises(DataError, match="none of these"):
        check_classes((NONE_OF_THESE,))


def test_a_csv_with_a_quote_that_is_not_closed_loses_no_decision():
    torn = f'key,true_label,note\n{KEY},dog,"see\n{KEY},cat,x\n'
    with pytest.raises(DataError, match="the quotes from line 2 on do not match"):
        csv_table.answers(torn.encode(), "r.csv")


@pytest.mark.parametrize("form", [label_studio, fiftyone])
def test_what_is_nested_too_deep_is_no_export(form: ModuleType):
    with pytest.raises(DataError, match=r"^e\.json: "):
        form.answers(b"[" * 200_000, "e.json")
