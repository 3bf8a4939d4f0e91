#!/usr/bin/env bash
# label-studio-sdk 2.1.2: a task that carries predictions cannot be validated.
#
# `LabelInterface.validate_task` calls `validate_prediction` without the prediction, so that a task
# with pre-annotations, valid for Label Studio, ends in a TypeError. Seen: the same task without its
# predictions is valid, and so is each prediction by itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
"$folder/env/bin/python" - <<'PYTHON'
import sys

from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface(
    '<View><Image name="image" value="$image"/><Choices name="label" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
region = {
    "from_name": "label",
    "to_name": "image",
    "type": "choices",
    "value": {"choices": ["cat"]},
}
prediction = {"model_version": "1", "score": 0.5, "result": [region]}
task = {"data": {"image": "https://example.org/a.jpg"}}
print("without predictions:", interface.validate_task(task))
print("the prediction alone:", interface.validate_prediction(prediction))
try:
    seen = interface.validate_task({**task, "predictions": [prediction]})
except TypeError as error:
    seen = f"TypeError: {error}"
print("with predictions:", seen)
if "missing 1 required positional argument: 'prediction'" not in str(seen):
    sys.exit("changed")
PYTHON
