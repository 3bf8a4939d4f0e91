"""A virtual environment with the built wheel alone, for tests of what a user installs.

It takes its dependencies from the environment of the tests by a path file, which is quick; the
editable install there does not come along, for Python reads no path files of such a folder.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_COPIED = re.compile(r"^COPY (.+) /source/\S*$", re.M)


@dataclass(frozen=True)
class Installed:
    """bin: the environment's programs. folder: an empty one to work in; home: an empty home."""

    bin: Path
    folder: Path
    home: Path

    def dcd(
        self, *command: str, timeout_s: float = 1200, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / "dcd"), *command],
            cwd=self.folder,
            env={**self.environ(), **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def environ(self) -> Mapping[str, str]:
        left_out = ("PREFECT_", "PYTHON", "DCD_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
        return {**kept, "HOME": str(self.home)}


def install_wheel(folder: Path) -> Installed:
    """Build the wheel of this checkout and install it in a new environment below `folder`.

    It is built from what deployments/Dockerfile copies and nothing else, as the image is.
    """
    source, wheels, env = folder / "source", folder / "wheels", folder / "env"
    source.mkdir()
    dockerfile = (ROOT / "deployments/Dockerfile").read_text(encoding="utf-8")
    for name in " ".join(_COPIED.findall(dockerfile)).split():
        found = ROOT / name
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(found, source / name, ignore=ignored)
        else:
            shutil.copy(found, source / name)
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    _run("-m", "pip", "wheel", "--no-build-isolation", *offline, "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    _run("-m", "venv", "--without-pip", str(env))
    python = env / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = env / "lib" / version / "site-packages"
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    _run(
        "-m", "pip", "--python", str(python), "install", *offline, "--ignore-installed", str(wheel)
    )
    for name in ("work", "home"):
        (folder / name).mkdir()
    return Installed(env / "bin", folder / "work", folder / "home")


def _run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}{done.stderr}"
