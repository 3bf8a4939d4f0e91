"""Label Studio: tasks with pre-annotations, a labelling config; its JSON and JSON_MIN come back.

Formats: Label Studio's guide, "Import pre-annotated data" and "Label Studio JSON format of
annotated tasks".
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from dcd.errors import DataError
from dcd.reviews.hand_off import NONE_OF_THESE, Answer, Asked

_CONTROL, _IMAGE = "label", "image"
_KEY = "dcd_key"


def written(asked: Sequence[Asked], classes: Sequence[str]) -> Mapping[str, bytes]:
    """Write tasks.json, to be imported, and config.xml, the project's labelling interface."""
    tasks = [_task(one) for one in asked]
    return {
        "tasks.json": json.dumps(tasks, indent=1, ensure_ascii=False).encode(),
        "config.xml": _config(classes),
    }


def answers(data: bytes, place: str) -> list[Answer]:
    """Read an export of Label Studio, JSON or JSON_MIN.

    A task that was skipped is a skip; one without annotation is none. Raises DataError for what is
    no such export.
    """
    try:
        tasks = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{place}: no JSON ({err}); export the project as JSON") from err
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{place}: expected a list of tasks; export the project as JSON")
    found = [answer for task in tasks for answer in _of_task(task)]
    return [answer for _, answer in sorted(found, key=lambda one: one[0])]


def _task(one: Asked) -> dict[str, Any]:
    chosen = {
        "from_name": _CONTROL,
        "to_name": _IMAGE,
        "type": "choices",
        "value": {"choices": [one.label]},
    }
    prediction: dict[str, Any] = {"model_version": "label of the pool", "result": [chosen]}
    if one.agreement is not None:
        prediction["score"] = round(one.agreement, 4)
    data = {
        _IMAGE: one.url,
        _KEY: one.key,
        "image_id": one.image_id,
        "pool_label": one.label,
        "failure": one.failure,
        "distance": one.distance,
    }
    return {"data": data, "predictions": [prediction]}


def _config(classes: Sequence[str]) -> bytes:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": _IMAGE, "value": f"${_IMAGE}"})
    control = {"name": _CONTROL, "toName": _IMAGE, "choice": "single", "showInLine": "true"}
    choices = ElementTree.SubElement(view, "Choices", control)
    for name in (*classes, NONE_OF_THESE):
        ElementTree.SubElement(choices, "Choice", {"value": name})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8")


def _of_task(task: Mapping[str, Any]) -> Iterator[tuple[str, Answer]]:
    """The answers of a task, each with its time as text: ISO, so that text sorts by time."""
    data = task.get("data")
    if not isinstance(data, dict):  # JSON_MIN: the data lie in the task itself
        if _CONTROL in task:
            yield _answer(task, task.get(_KEY), [task[_CONTROL]], skipped=False)
        return
    annotations = task.get("annotations")
    for one in annotations if isinstance(annotations, list) else ():
        if isinstance(one, dict):
            chosen = [_chosen(part) for part in one.get("result") or () if isinstance(part, dict)]
            known = [choice for choice in chosen if choice is not None]
            skipped = bool(one.get("was_cancelled")) or not known
            yield _answer(one, data.get(_KEY), known, skipped=skipped)


def _chosen(part: Mapping[str, Any]) -> str | None:
    if part.get("type") != "choices" or not isinstance(part.get("value"), dict):
        return None
    choices = part["value"].get("choices") or [None]
    return choices[0] if isinstance(choices[0], str) else None


def _answer(
    one: Mapping[str, Any], key: object, chosen: list[Any], *, skipped: bool
) -> tuple[str, Answer]:
    by = one.get("completed_by", one.get("annotator"))
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    at = str(one.get("updated_at") or one.get("created_at") or "")
    label = None if skipped else str(chosen[-1])
    stamp = f"{one.get('id', one.get('annotation_id'))} {at} {label}" if at else ""
    reviewer = "unknown" if by is None else str(by)
    return at, Answer(str(key), label, reviewer, stamp, skipped)
