"""Kills runs, the scheduler and everything at random moments; the table must stay the same.

    python -m tests.study.kills 20 --folder=/tmp/kills

The first study is left alone. Each further one is killed up to three times and resumed by the same
command; its `study.csv` must be the first one's to the byte. Linux only: /proc names the children.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
STUDY = '''
"""Three short runs, of which one starts from another."""

from jaxlung.study import study


def get_study(arg=""):
    runs = (
        study.Run("first", "first", "covidqu:quick", {"epochs": 6}),
        study.Run("seed", "seed", "covidqu:quick", {"epochs": 6, "seed": 1}),
        study.Run("on", "on", "covidqu:quick", {"epochs": 3, "init_from": "{runs}/first"}),
    )
    return study.Study("Kills", runs, ("mae", "iou_macro"))
'''


def start(path: pathlib.Path) -> subprocess.Popen:
    """Starts the study in a folder beside its file and its data."""
    command = [sys.executable, "-m", "jaxlung.main", "study", str(path.parent / "short.py")]
    options = [f"--workdir={path}", "--at_once=2", f"--config.data.data_dir={path.parent / 'data'}"]
    with (path.parent / "log.txt").open("ab") as log:
        return subprocess.Popen([*command, *options], cwd=ROOT, stdout=log, stderr=log)


def finish(path: pathlib.Path) -> str:
    """Runs the same command until the study is complete; returns its table."""
    for _ in range(3):  # A run that was killed is a failed one, and tried again.
        if start(path).wait(timeout=1200) == 0:
            return (path / "study.csv").read_text()
    raise AssertionError(f"{path}: the study can't be completed, see {path.parent / 'log.txt'}")


def children(pid: int) -> list[int]:
    """Returns the process ids of a process's children; [] if it has ended."""
    try:
        return [*map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []


def kill(victim: str, process: subprocess.Popen, rng: random.Random) -> None:
    """Kills "a run", "the scheduler" or "everything", as `kill -9` does."""
    runs = children(process.pid)
    chosen = {"a run": runs and [rng.choice(runs)], "the scheduler": [process.pid]}
    for pid in chosen.get(victim, [process.pid, *runs]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def disturb(path: pathlib.Path, seconds: float, rng: random.Random) -> list[str]:
    """Starts the study and kills it up to three times, within `seconds` of each start."""
    told = []
    for _ in range(rng.randint(1, 3)):
        process, after = start(path), rng.uniform(0.05, 1) * seconds
        try:
            process.wait(timeout=after)
            break  # It was complete before.
        except subprocess.TimeoutExpired:
            victim = rng.choice(("a run", "the scheduler", "everything"))
            kill(victim, process, rng)
            told.append(f"{victim} after {after:.1f} s")
            process.wait(timeout=600)  # Without a run the scheduler goes on with the others.
    return told


def main(rounds: int, folder: pathlib.Path, seed: int = 0) -> int:
    """Returns how many of the disturbed studies have another table than the undisturbed one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "short.py").write_text(STUDY)
    finish(folder / "warm")  # Prepares the data and compiles.
    began = time.monotonic()
    want = finish(folder / "whole")
    seconds, num_bad = time.monotonic() - began, 0
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    for number in range(rounds):
        rng = random.Random(f"{seed} {number}")
        told = disturb(folder / f"round_{number}", seconds, rng)
        is_same = finish(folder / f"round_{number}") == want
        num_bad += not is_same
        print(f"round {number}: {', '.join(told)}: {'same' if is_same else 'OTHER'}", flush=True)
    return num_bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser("tests.study.kills")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.exit(1 if main(args.rounds, args.folder.resolve(), args.seed) else 0)
