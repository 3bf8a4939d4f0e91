#!/usr/bin/env bash
# Everything that only a machine with a GPU can show, in under nine minutes:
#
#     benchmarks/gpu/run.sh OUT_FOLDER [PHOTOS_GLOB]
#
# The tests marked `gpu`, the speed of embedding against the plain loop, decoding alone, and the
# precision of bf16; every part writes JSON or text into OUT_FOLDER, also where a later one fails.
# N_IMAGES, N_PLAIN: smaller sizes to try it on a CPU. PYTHON: the interpreter. Needs torch, timm,
# torchvision, pyarrow, pydantic, botocore and fsspec; neither Prefect nor DuckDB nor OpenVINO.
set -uo pipefail
out=${1:?the folder for the figures}
photos=${2:-../shared/data/photos/*.tar}
python=${PYTHON:-python3}
n_images=${N_IMAGES:-16000}
n_plain=${N_PLAIN:-4000}
mkdir -p "$out"
failed=0

part() {  # name, command...: its output goes to the screen and to a file
    local name=$1 started=$SECONDS
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$out/$name.txt" || failed=1
    echo "== $name took $((SECONDS - started)) s"
}

"$python" - > "$out/machine.json" <<'PY'
import json, os, platform, torch, torchvision, timm
cuda = torch.cuda.is_available()
lines = open("/proc/cpuinfo").read().splitlines()
cpu = next((ln.split(":", 1)[1].strip() for ln in lines if ln.startswith("model name")), "")
print(json.dumps({
    "gpu": torch.cuda.get_device_name() if cuda else None,
    "gpu_memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
    "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
    "torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__,
}, indent=2))
PY
cat "$out/machine.json"

part embedding "$python" -m benchmarks.embedding --images "$photos" --n-images "$n_images" \
    --n-plain "$n_plain" --n-decode "$n_images" --json "$out/embedding.json"
part decoding "$python" -m benchmarks.gpu.decoding --images "$photos" --n-images "$n_images" \
    --json "$out/decoding.json"
part tests "$python" -m pytest --noconftest -m gpu -p no:cacheprovider \
    $(grep -rl "mark.gpu" tests)
part precision "$python" -m benchmarks.precision --model tf_efficientnet_lite0 \
    --images "$photos" --n-images 200
exit $failed
