"""Fuzz every reader of files that nobody vouches for, guided by coverage (atheris, libFuzzer).

    pip install 'data-centric-debugging[bench]'
    python -m benchmarks.fuzz [--seconds 180] [--only NAME …] [--keep FOLDER] [--json FILE]

Each target (benchmarks/fuzz/targets.py) runs in a process of its own for so many seconds, from
files that are good. It fails by an exception that is none of ours, by an input that takes more than
10 s, or by more than 2 GiB of memory; the input is then kept below FOLDER. What was learnt to
reach new code is kept there too, and the next run starts from it. Exit code 1 if any failed.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import logging
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_INPUT_LIMIT_S = 10
_MEMORY_LIMIT_MIB = 2048
_LONGEST_BYTES = 4096
_GRACE_S = 300  # for imports, the last input and the end
_TELL = signal.SIGUSR1
_TELLING_S = 3
_EXECUTED = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_PEAK = re.compile(rb"stat::peak_rss_mb:\s*(\d+)")
_COVERED = re.compile(rb"\bcov: (\d+)")
_RAISED = re.compile(rb"=== Uncaught Python exception: ===\s*(.+)")


@dataclass(frozen=True)
class Fuzzed:
    """What one target went through. covered: edges of our code; fault: "" or what went wrong."""

    name: str
    n_inputs: int
    covered: int
    peak_mib: int
    fault: str


def main() -> None:
    """Parse the command line, fuzz target after target, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    args, for_libfuzzer = parser.parse_known_args()
    if args.target is not None:
        _fuzz(args.target, for_libfuzzer)
        return
    found = []
    for name in args.only or names():
        found.append(fuzzed(name, args.keep, args.seconds))
        print(table(found[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(found)}")
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    if any(one.fault for one in found):
        raise SystemExit(1)


def names() -> list[str]:
    """Name all targets."""
    from benchmarks.fuzz.targets import targets

    with tempfile.TemporaryDirectory() as scratch:
        return list(targets(Path(scratch)))


def fuzzed(name: str, keep: Path, seconds: int) -> Fuzzed:
    """Run one target in a process of its own."""
    folder = keep / re.sub(r"\W+", "-", name)
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    _write_seeds(name, folder / "corpus")
    command = [sys.executable, "-m", "benchmarks.fuzz", "--target", name]
    command += [f"-max_total_time={seconds}", f"-timeout={_INPUT_LIMIT_S}", "-seed=1"]
    command += [f"-rss_limit_mb={_MEMORY_LIMIT_MIB}", f"-max_len={_LONGEST_BYTES}"]
    command += ["-print_final_stats=1", f"-artifact_prefix={folder}/", str(folder / "corpus")]
    exit_code = ended(command, folder / "log", seconds + _GRACE_S)
    said = (folder / "log").read_bytes()
    return Fuzzed(
        name,
        _last(_EXECUTED, said),
        _last(_COVERED, said),
        _last(_PEAK, said),
        "" if exit_code == 0 else fault_in(said),
    )


def ended(command: Sequence[str], log: Path, limit_s: float) -> int:
    """Run a command with its output in a log; one that is not over tells where it is, and ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(_TELL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TELLING_S)
            out.write(f"\nERROR: not over after {limit_s:.0f} s\n".encode())
            return 1
        finally:
            process.kill()
            process.wait()


def fault_in(said: bytes) -> str:
    """Say in a line what ended a target, from what it printed."""
    if raised := _RAISED.search(said):
        return raised[1].decode(errors="replace").strip()[:200]
    lines = [line for line in said.decode(errors="replace").splitlines() if "ERROR" in line]
    return lines[0][:200] if lines else "ended without a word"


def table(found: Sequence[Fuzzed]) -> str:
    """Make the table of the documentation."""
    lines = ["| target | inputs | edges | peak MiB | fault |", "|---|---|---|---|---|"]
    for one in found:
        fault = one.fault or "none"
        lines.append(
            f"| {one.name} | {one.n_inputs:,} | {one.covered:,} | {one.peak_mib} | {fault} |"
        )
    return "\n".join(lines)


def _last(pattern: re.Pattern[bytes], said: bytes) -> int:
    return max((int(number) for number in pattern.findall(said)), default=0)


def _write_seeds(name: str, corpus: Path) -> None:
    from benchmarks.fuzz.targets import targets

    with tempfile.TemporaryDirectory() as scratch:
        for seed in targets(Path(scratch))[name].seeds:
            (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def _fuzz(name: str, for_libfuzzer: Sequence[str]) -> None:
    """Fuzz one target in this process until libFuzzer ends it."""
    import atheris

    faulthandler.register(_TELL)
    with atheris.instrument_imports(include=["dcd"], enable_loader_override=False):
        from benchmarks.fuzz.targets import emptied, targets

    logging.disable(logging.CRITICAL)
    scratch = Path(tempfile.mkdtemp(prefix="dcd-fuzz-"))
    (scratch / "seeds").mkdir()
    (scratch / "try").mkdir()
    target = targets(scratch / "seeds")[name]

    def try_one(data: bytes) -> None:
        target.try_one(data, scratch / "try")
        emptied(scratch / "try")

    try_one(target.seeds[0])  # what the reader imports late is not the input's time
    atheris.Setup([sys.argv[0], *for_libfuzzer], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
