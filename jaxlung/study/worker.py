"""A process that runs one run of a study: `python -m jaxlung.study.worker FOLDER ...`.

The scheduler starts it, with the devices of the run in its environment and the run's config in its
folder. It stops after saving when it gets SIGTERM, or when the scheduler has died.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

from absl import flags, logging

from jaxlung.host import console
from jaxlung.parallel import backend, interrupt

STOPPED = 75  # Exit code of a run that was saved before its end: EX_TEMPFAIL of sysexits.h.


def main(argv: Sequence[str]) -> int:
    """Runs one run; returns 0 if it is done, 1 if it failed, `STOPPED` if a signal came."""
    args = parse(argv)
    for lock in args.locks:
        os.set_inheritable(lock, False)  # They are held as long as this process lives, no longer.
    console.quiet_libraries()
    interrupt.ignore_repeats()
    flags.FLAGS.mark_as_parsed()  # Orbax reads its own absl flags.
    try:
        with interrupt.stop_at_once():
            threading.Thread(target=stop_with_scheduler, daemon=True).start()
            return run(args)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        return console.complain(backend.explain(error), 1, debug=False)
    except KeyboardInterrupt:
        interrupt.exit_at_once(0, None)
    return STOPPED


def run(args: argparse.Namespace) -> int:
    """Runs the run in `args.folder`."""
    # Imported here, when signals are handled.
    from jaxlung import job
    from jaxlung.config import workdir
    from jaxlung.host import compile_cache, files

    backend.start()
    if args.cores and hasattr(os, "sched_setaffinity"):  # Not on macOS.
        stay_on(args.cores)
    path = files.to_absolute(args.folder)
    config = workdir.load_config(path)
    programs = compile_cache.count()
    is_done = job.run(config, path, until_epoch=args.until_epoch, is_locked=True)
    logging.info(
        "%d programs compiled, %d read from the cache",
        programs[compile_cache.KEPT],
        programs[compile_cache.READ],
    )
    return 0 if is_done else STOPPED


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments that `workers.start` gives."""
    parser = argparse.ArgumentParser("jaxlung.study.worker", allow_abbrev=False)
    parser.add_argument("folder", help="folder of the run")
    parser.add_argument(
        "--locks", type=_numbers, required=True, help="file descriptors of what it has locked"
    )
    parser.add_argument("--cores", type=_numbers, help="cores to run on")
    parser.add_argument("--until_epoch", type=int, help="epoch after which to stop")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    return [*map(int, text.split(","))]


def stay_on(cores: Sequence[int]) -> None:
    """Makes all threads of this process, and those that they start, run on some cores alone.

    It comes after JAX has counted the machine's cores: in how many parts XLA sums, and so the last
    digits of a result, depend on their number, and must not depend on how many runs go at once.
    """
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # It has ended.
            os.sched_setaffinity(int(thread), cores)


def stop_with_scheduler() -> None:
    """Waits until the scheduler closes its end of standard input, then stops this process."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):  # Not sys.stdin, whose lock would crash Python's own exit.
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    console.quiet_late_writes()
    sys.exit(main(sys.argv[1:]))
