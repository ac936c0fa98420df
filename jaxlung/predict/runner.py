"""Predicting on somebody's files: threads read and write, the device predicts in between.

No more than a few batches are in memory, however many files there are. Rows of `predictions.csv`
come in the order of the files, each as soon as its mask is on the disk.
"""

import collections
import concurrent.futures
import dataclasses
import errno
import functools
import itertools
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from absl import logging
from etils import epath

from jaxlung.data.sources import folder_tree
from jaxlung.host import progress
from jaxlung.parallel import interrupt
from jaxlung.predict import (
    dicom_seg,
    ensemble,
    inputs,
    network,
    output_folder,
    outputs,
    picture_work,
    pictures,
    settings,
    volume_work,
)

T = TypeVar("T")

DONE, SOME_FAILED = 0, 3
_MOST_REASON = 500  # characters: messages may quote half of a damaged file
# A file that can't be written for one of these reasons is not the last.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@dataclasses.dataclass(frozen=True)
class Job:
    """An item on its way.

    Attributes:
        item: what it is.
        ready: as `read` left it; None if that failed.
        seconds: spent on it so far.
        error: why it failed; "" if it didn't.
        row: of `outputs.COLUMNS`, once all is written.
    """

    item: inputs.Item
    ready: Any = None
    seconds: float = 0.0
    error: str = ""
    row: dict[str, Any] | None = None


def run(
    workdirs: Sequence[epath.Path],
    pattern: str,
    options: settings.Options,
    *,
    mirror: bool = False,
    resume: bool = False,
    num_threads: int = 4,
) -> int:
    """Predicts on all that `pattern` names; see `inputs.find`.

    Args:
        workdirs: folders of trained runs; of one role they are averaged, see `ensemble.gather`.
        pattern: file, folder, glob, folder of a DICOM series, or CSV of paths.
        options: among them the folder that gets masks, `predictions.csv` and `failures.csv`.
        mirror: see `network.load`.
        resume: go on with what the folder holds, made of the same input by the same networks.
        num_threads: that read, and as many that write.

    Returns:
        The exit code: 0, 3 if some files failed (`failures.csv` says why), 130 if it was stopped.

    Raises:
        ValueError: nothing there, networks or options that don't go together, outputs of one
            name, an output folder with predictions of another command, or one that
            `output_folder.require_safe` refuses.
        OSError: the output folder can't be written.
    """
    if num_threads < 1:
        raise ValueError(f"--num_threads: got {num_threads}, want 1 or more.")
    output = options.output
    items = inputs.find(pattern, leave_out=output)
    team = ensemble.gather([network.load(path, mirror=mirror) for path in workdirs])
    work = volume_work if team.is_volumetric else picture_work
    if options.dicom_seg:
        if not team.is_volumetric:
            raise ValueError(f"--dicom_seg: {workdirs[0]} is of X-rays; want networks of CTs.")
        dicom_seg.require_highdicom()
    endings = settings.endings(team, options, work.MASK, work.SUFFIX)
    outputs.require_apart(output, [item.name for item in items], endings)
    output_folder.require_safe(output, items, endings, workdirs)
    command = {"networks": team.digest, "input": str(folder_tree.absolute(pattern))}
    predictions, failures, done = outputs.open_tables(
        output,
        command | options.written,
        resume=resume,
        is_there=lambda name: not team.has_masks or (output / f"{name}{work.MASK}").exists(),
    )
    waiting = [item for item in items if item.name not in done]
    if done:
        logging.info("%d of %d files are done already", len(items) - len(waiting), len(items))
    try:
        with pictures.limit(options.max_pixels):
            return _run(waiting, work, team, options, num_threads, predictions, failures)
    finally:
        predictions.close()
        failures.close()


def _run(
    items: list[inputs.Item],
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
    num_threads: int,
    predictions: outputs.Table,
    failures: outputs.Table,
) -> int:
    """Predicts and fills the tables."""
    num_failed, num_done, start = 0, 0, time.monotonic()
    with interrupt.catch() as stop:
        jobs = predict(items, work, team, options, num_threads, lambda: bool(stop.received))
        for job in progress.report(jobs, "predicting", "files", len(items)):
            place = {"name": job.item.name, "path": str(job.item.path)}
            if job.error:
                failures.append(place | {"reason": job.error})
                num_failed += 1
            else:
                predictions.append(job.row | place | {"seconds": round(job.seconds, 3)})
            num_done += 1
    seconds = time.monotonic() - start
    rate = num_done / max(seconds, 1e-9)
    logging.info("%d files in %s, %.3g/s", num_done, progress.duration(seconds), rate)
    if num_failed:
        where = options.output / outputs.FAILURES
        logging.warning("%d of %d files failed: %s", num_failed, num_done, where)
    if num_done < len(items):
        logging.info("stopped; the same command with --resume goes on")
        return interrupt.EXIT_CODE
    return SOME_FAILED if num_failed else DONE


def predict(
    items: Sequence[inputs.Item],
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
    num_threads: int,
    is_stopped: Callable[[], bool],
) -> Iterator[Job]:
    """Finished jobs in the order of `items`; fewer if it was stopped.

    Args:
        work: `picture_work` or `volume_work`.
        is_stopped: asked before each batch.
    """
    size = work.batch_size(team)
    # More threads than what may be read ahead would idle.
    num_readers = min(num_threads, work.READ_AHEAD)
    readers = concurrent.futures.ThreadPoolExecutor(num_readers, "read")
    writers = concurrent.futures.ThreadPoolExecutor(num_readers, "write")
    try:
        read = functools.partial(_read, work=work, team=team, options=options)
        ahead = size - 1 + work.READ_AHEAD
        pending: collections.deque[concurrent.futures.Future[Job]] = collections.deque()
        for batch in _batched(_map_ahead(readers, read, items, ahead), size):
            if is_stopped():
                break
            pending.extend(_judge(batch, work, team, options, readers, writers))
            while len(pending) > size:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for pool in (readers, writers):
            pool.shutdown(cancel_futures=True)


def _judge(
    batch: list[Job],
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
    readers: concurrent.futures.Executor,
    writers: concurrent.futures.Executor,
) -> Iterator[concurrent.futures.Future[Job]]:
    """Predicts a batch, and has the outputs written."""
    start = time.monotonic()
    good = [job for job in batch if not job.error]
    try:
        raws = iter(work.predict(team, [job.ready for job in good], readers) if good else ())
    except (ValueError, MemoryError) as error:  # A volume of more voxels than there may be.
        batch = [job if job.error else Job(job.item, error=_reason(error)) for job in batch]
    share = (time.monotonic() - start) / max(1, len(good))
    for job in batch:
        raw = None if job.error else next(raws)
        yield writers.submit(_save, job, raw, share, work=work, team=team, options=options)


def _read(
    item: inputs.Item, *, work: types.ModuleType, team: ensemble.Team, options: settings.Options
) -> Job:
    start = time.monotonic()
    try:
        ready = work.read(item, team, options)
    # Decoders of damaged files raise what they like; one file must not stop the others.
    except Exception as error:
        return Job(item, error=_reason(error))
    return Job(item, ready, time.monotonic() - start)


def _save(
    job: Job,
    raw: Any,
    share: float,
    *,
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
) -> Job:
    """Writes a job's outputs; returns it without its arrays."""
    if job.error:
        return job
    start = time.monotonic()
    try:
        row = work.save(job.item, job.ready, raw, team, options)
    except (ValueError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise
        return Job(job.item, error=_reason(error))
    seconds = job.seconds + share + time.monotonic() - start
    return Job(job.item, seconds=seconds, row=row)


def _reason(error: Exception) -> str:
    """One line of what can be printed; of errors that are no sentence with their type."""
    text = " ".join("".join(x if x.isprintable() else " " for x in str(error)).split())
    if not isinstance(error, ValueError | OSError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _MOST_REASON else f"{text[:_MOST_REASON]} ..."


def _map_ahead(
    pool: concurrent.futures.Executor, function: Callable[[Any], T], items: Iterable[Any], most: int
) -> Iterator[T]:
    """`map` in threads, in order, never more than `most` results ahead of who takes them."""
    items = iter(items)
    pending = collections.deque(
        pool.submit(function, item) for item in itertools.islice(items, most)
    )
    while pending:
        result = pending.popleft().result()
        pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
        yield result


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch
