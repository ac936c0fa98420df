"""Stands in for `jaxlung.study.worker`: does what the name of the run's folder says, at once.

It notes in `events.txt`, beside the folders, when it starts and ends, and where.
"""

import os
import pathlib
import signal
import sys
import threading
import time

from jaxlung.study import worker


def main():
    args = worker.parse(sys.argv[1:])
    folder = pathlib.Path(args.folder)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    threading.Thread(target=worker.stop_with_scheduler, daemon=True).start()
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, args.cores or ())))
    note(folder, f"start {devices} until {args.until_epoch}")
    if folder.name.startswith("fail"):
        sys.stderr.write("10:11:12 reading\njaxlung: error: no luck. (--debug shows more.)\n")
        return 1
    if folder.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if folder.name.startswith("deaf"):  # Doesn't stop when it is told to.
        time.sleep(60)
    while folder.name.startswith("wait") and not (folder.parent / "go").exists():
        time.sleep(0.05)
    seconds = 60 if folder.name.startswith("long") else 0.3
    if stopped.wait(seconds):
        note(folder, "saved")
        return worker.STOPPED
    if args.until_epoch is None:
        (folder / "finished.txt").write_text("done\n")
    note(folder, "end")
    return 0


def note(folder, text):
    with open(folder.parent / "events.txt", "a") as file:  # Short lines are written in one piece.
        file.write(f"{folder.name} {text}\n")


if __name__ == "__main__":
    sys.exit(main())
