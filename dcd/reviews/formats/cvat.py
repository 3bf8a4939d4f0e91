"""CVAT: annotations.xml of a task of images, version 1.1, with one tag an image.

Format: CVAT's documentation, "XML annotation format". CVAT does not say which images somebody
looked at, so that a tag which came from the pool would pass for a decision: each tag has a
checkbox, `reviewed`, and only tags where it is set come back.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from dcd.errors import DataError
from dcd.reviews.hand_off import NONE_OF_THESE, Answer, Asked

_REVIEWED = "reviewed"


def written(asked: Sequence[Asked], classes: Sequence[str]) -> Mapping[str, bytes]:
    """Write annotations.xml, to be uploaded to a task that has the pictures and these labels, and
    labels.json for the raw editor of labels.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "size").text = str(len(asked))
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for name in (*classes, NONE_OF_THESE):
        _describe(SubElement(labels, "label"), name)
    for number, one in enumerate(asked):
        described = {"id": str(number), "name": PurePosixPath(one.file).name}
        described |= {"width": str(one.width), "height": str(one.height)}
        tag = SubElement(
            SubElement(root, "image", described), "tag", {"label": one.label, "source": "file"}
        )
        SubElement(tag, "attribute", {"name": _REVIEWED}).text = "false"
    ElementTree.indent(root)
    return {
        "annotations.xml": ElementTree.tostring(root, encoding="utf-8", xml_declaration=True),
        "labels.json": _labels_json(classes),
    }


def answers(data: bytes, place: str) -> list[Answer]:
    """Read annotations.xml: the tags that are marked as reviewed.

    Raises DataError for what is no such file, or has a document type, whatever it declares.
    """
    try:
        text = data.decode("utf-8-sig")  # in another encoding a document type would not be seen
    except UnicodeDecodeError as err:
        raise DataError(f"{place}: is not in UTF-8, as CVAT writes it ({err})") from err
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{place}: has a document type, which CVAT does not write; not read")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as err:
        raise DataError(f"{place}: no XML ({err}); export as CVAT for images 1.1") from err
    if root.tag != "annotations":
        raise DataError(f"{place}: expected <annotations>, found <{root.tag}>")
    found = []
    for image in root.iter("image"):
        key = PurePosixPath(image.get("name", "")).stem
        for tag in image.findall("tag"):
            marks = {a.get("name"): (a.text or "").strip() for a in tag.findall("attribute")}
            if marks.get(_REVIEWED, "").lower() == "true":
                label = tag.get("label", "")
                found.append(Answer(key, label, "cvat", ""))
    return found


def _describe(label: Element, name: str) -> None:
    SubElement(label, "name").text = name
    SubElement(label, "type").text = "tag"
    attribute = SubElement(SubElement(label, "attributes"), "attribute")
    for field, value in (
        ("name", _REVIEWED),
        ("mutable", "False"),
        ("input_type", "checkbox"),
        ("default_value", "false"),
        ("values", "false"),
    ):
        SubElement(attribute, field).text = value


def _labels_json(classes: Sequence[str]) -> bytes:
    checkbox = {
        "name": _REVIEWED,
        "mutable": False,
        "input_type": "checkbox",
        "default_value": "false",
        "values": ["false"],
    }
    labels = [
        {"name": name, "type": "tag", "attributes": [checkbox]}
        for name in (*classes, NONE_OF_THESE)
    ]
    return json.dumps(labels, indent=1, ensure_ascii=False).encode()
