"""Measure maps: what laying points out costs, and how long a frame of the page takes.

`python -m benchmarks.map layout` lays out 2,000 to 100,000 synthetic vectors by each method, every
one in a process of its own. `python -m benchmarks.map frames` serves a map of 100,000 points and
moves it in Chromium (playwright, extra dev). Prints JSON, a line a measurement.
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa

from dcd.config import MapMethod
from dcd.maps.layout import lay_out
from dcd.store import Store, keys
from dcd.tables import schemas

DIM, N_CLUSTERS = 384, 100
COUNTS = (2_000, 5_000, 20_000, 100_000)
N_SHOWN = 100_000
N_FRAMES = 60
_PHONE = {"width": 390, "height": 844}
SCREENS = {
    "desktop": {"viewport": {"width": 1920, "height": 1080}},
    "phone": {"viewport": _PHONE, "device_scale_factor": 2, "is_mobile": True},
}

# Draws one frame after the other, each moved and zoomed, with all that a frame does.
_MEASURE = """async n => {
  const draws = [], frames = [];
  let last = null;
  for (let i = 0; i < n; i++) {
    const now = await new Promise(requestAnimationFrame);
    if (last !== null) frames.push(now - last);
    last = now;
    view.x += i % 2 ? 3 : -3;
    view.half *= 1.01;
    const begun = performance.now();
    draw();
    pen.getImageData(0, 0, 1, 1);
    draws.push(performance.now() - begun);
  }
  const begun = performance.now();
  for (let i = 0; i < 100; i++) nearest(i, i, 14);
  const middle = of => of.sort((a, b) => a - b)[of.length >> 1];
  return { draw_ms: middle(draws), slowest_ms: draws.at(-1), frame_ms: middle(frames),
           find_ms: (performance.now() - begun) / 100, pixels: canvas.width * canvas.height };
}"""


def vectors(n: int) -> np.ndarray:
    """Draw n unit vectors about N_CLUSTERS directions: (n, DIM) float32."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(N_CLUSTERS, DIM)).astype(np.float32)
    near = middles[rng.integers(0, N_CLUSTERS, n)]
    found = near + 0.7 * rng.normal(size=(n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def layout_cost(method: MapMethod, n: int) -> dict[str, object]:
    """Measure one layout in this process. MiB: the most that it held, the vectors included."""
    given = vectors(n)
    lay_out(given[:100], method)  # imports
    wall, cpu = time.monotonic(), time.process_time()
    found = lay_out(given, method)
    return {
        "method": found.method,
        "points": n,
        "seconds": round(time.monotonic() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measure_layouts(counts: list[int]) -> None:
    spawn = multiprocessing.get_context("spawn")
    for method in get_args(MapMethod):
        for n in counts:
            with spawn.Pool(1) as process:
                print(json.dumps(process.apply(layout_cost, (method, n))), flush=True)


def large_map(store: Store) -> str:
    """Write a run that shows nothing but a map of N_SHOWN points; gives its id."""
    rng = np.random.default_rng(0)
    roles = np.array(["pool", "train", "pick", "failure"])
    role = np.sort(rng.choice(4, N_SHOWN, p=[0.7, 0.26, 0.035, 0.005]))
    cluster = rng.integers(0, N_CLUSTERS, N_SHOWN)
    middles = rng.uniform(-0.9, 0.9, (N_CLUSTERS, 2))
    places = (middles[cluster] + rng.normal(size=(N_SHOWN, 2)) * 0.05).clip(-1, 1)
    columns = {
        "image_id": [f"image-{i}" for i in range(N_SHOWN)],
        "role": roles[role],
        "label": [f"label {c}" for c in cluster],
        "shard": ["shard"] * N_SHOWN,
        "content_hash": [hashlib.blake2b(b"%d" % i, digest_size=16).digest()
                         for i in range(N_SHOWN)],
        "posterior": np.where(np.isin(role, (0, 2)), rng.random(N_SHOWN), np.nan),
        "x": places[:, 0],
        "y": places[:, 1],
    }  # fmt: skip
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()})
    points = schemas.conform(table, schemas.MAP, "map")
    key = keys.drawn_map(keys.digest("benchmark"))
    described = {"asked": "tsne", "method": "tsne", "explained": "", "n_pool": "100000",
                 "n_train": "50000", "n_points": str(N_SHOWN)}  # fmt: skip
    store.write_table(key, points, metadata=described)
    store.write_json(keys.run_parts("large-1"), {"parts": [key], "seeds": {}})
    return "large-1"


def measure_frames() -> None:
    from playwright.sync_api import expect

    from dcd.serve.app import create_app
    from tests.browser import chromium
    from tests.served import served

    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "store"))
        run_id = large_map(store)
        with served(create_app(store)) as url, chromium() as browser:
            for name, settings in SCREENS.items():
                page = browser.new_context(**settings).new_page()
                begun = time.monotonic()
                page.goto(f"{url}/runs/{run_id}/map")
                expect(page.locator("#map")).to_have_attribute("data-drawn", str(N_SHOWN))
                opened = time.monotonic() - begun
                found = page.evaluate(_MEASURE, N_FRAMES)
                found = {key: round(value, 1) for key, value in found.items()}
                print(json.dumps({"screen": name, "points": N_SHOWN, "opened_s": round(opened, 2),
                                  **found}), flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["layout", "frames"])
    parser.add_argument("--points", type=int, nargs="+", default=list(COUNTS))
    given = parser.parse_args()
    if given.what == "layout":
        measure_layouts(given.points)
    else:
        measure_frames()
