"""Virtual environments of their own for packages that cannot be installed beside the tests.

Each is made once, under the user's cache.
"""

import fcntl
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

_INSTALL_TIMEOUT_S = 900


def environment(name: str, *requirements: str, beside_ours: bool = False) -> Path:
    """Return the `bin` folder of an environment with these packages; made on first use.

    beside_ours: what these need, they take from the environment of the tests.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    venv = cache / "dcd" / f"{name}-py{sys.version_info.major}{sys.version_info.minor}"
    done = venv / "installed"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with (venv.parent / f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be making it
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            alone = ["--no-deps"] if beside_ours else []
            subprocess.run(
                [venv / "bin/python", "-m", "pip", "install", "-q", *alone, *requirements],
                check=True,
                timeout=_INSTALL_TIMEOUT_S,
            )
            done.touch()
        if beside_ours:  # each time: it may have been made from another place
            (site,) = venv.glob("lib/python*/site-packages")
            (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"
