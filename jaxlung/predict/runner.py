"""Predicts on a user's files: threads read and write while the device predicts.

At most a few batches are in memory, however many files there are. Rows of `predictions.csv` are in
the order of the files, each written as soon as its mask is on the disk.
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
from jaxlung.host import console, progress
from jaxlung.parallel import interrupt
from jaxlung.predict import (
    columns,
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
_MOST_THREADS = 4  # threads that read; as many others write
_MOST_REASON = 500  # characters: messages may quote half of a damaged file
# Errors after which no other output could be written either, so that the command stops.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@dataclasses.dataclass(frozen=True)
class Job:
    """An item on its way from file to outputs.

    Attributes:
        item: the item.
        ready: result of the work's `read`; None if that failed, or once the outputs are written.
        seconds: time spent on the item so far.
        error: reason of a failure; "" if there is none.
        row: the row of `columns.COLUMNS`; {} until the outputs are written.
    """

    item: inputs.Item
    ready: Any = None
    seconds: float = 0.0
    error: str = ""
    row: dict[str, Any] = dataclasses.field(default_factory=dict)


def run(
    workdirs: Sequence[epath.Path],
    pattern: str,
    options: settings.Options,
    *,
    mirror: bool = False,
    resume: bool = False,
) -> int:
    """Predicts on all files that a pattern names, see `inputs.find`.

    Args:
        workdirs: folders of trained runs or exported files; networks of one role are averaged, see
            `ensemble.gather`.
        pattern: a file, folder, glob, folder of a DICOM series, or CSV of paths.
        options: the command's options, with the folder for masks, `predictions.csv` and
            `failures.csv`.
        mirror: see `network.load`.
        resume: continue the predictions in the folder, of the same input by the same networks.

    Returns:
        The exit code: 0; 3 if some files failed (`failures.csv` says why); 130 if stopped.

    Raises:
        ValueError: the pattern finds no files, networks or options don't fit together, two outputs
            would have one name, the output folder holds predictions of another command, or
            `output_folder.require_safe` refuses it.
        OSError: the output folder can't be written.
    """
    output = options.output
    items = inputs.find(pattern, leave_out=output)
    team = ensemble.gather(network.load_all(workdirs, mirror=mirror))
    work = volume_work if team.is_volumetric else picture_work
    if options.dicom_seg:
        if not team.has_masks:
            raise ValueError(f"--dicom_seg: {workdirs[0]} finds no mask, want one that does.")
        dicom_seg.require_highdicom()
    if options.rtstruct and not team.is_volumetric:
        raise ValueError(f"--rtstruct: {workdirs[0]} is for X-rays, want networks for CTs.")
    endings = settings.endings(team, options, work.MASK, work.SUFFIX)
    outputs.require_apart(output, [item.name for item in items], endings)
    output_folder.require_safe(output, items, endings, workdirs)
    command = {"networks": team.digest, "input": str(folder_tree.absolute(pattern))}
    needed = [ending for ending in endings if ending in (work.MASK, settings.JSON)]
    predictions, failures, done = outputs.open_tables(
        output,
        command | options.written,
        columns.choose(team, items),
        resume=resume,
        is_there=lambda name: all((output / f"{name}{ending}").exists() for ending in needed),
    )
    waiting = [item for item in items if item.name not in done]
    if done:
        logging.info("%d of %d files are done already", len(items) - len(waiting), len(items))
    try:
        with pictures.limit(options.max_pixels):
            return _run(waiting, work, team, options, predictions, failures)
    finally:
        predictions.close()
        failures.close()


def _run(
    items: list[inputs.Item],
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
    predictions: outputs.Table,
    failures: outputs.Table,
) -> int:
    """Predicts, fills the tables and returns the exit code."""
    num_failed, num_done, start = 0, 0, time.monotonic()
    with interrupt.catch() as stop:
        jobs = predict(items, work, team, options, lambda: bool(stop.received))
        for job in progress.report(jobs, "predicting", "files", len(items)):
            place = {"name": job.item.name, "path": str(job.item.path)}
            if job.error:
                failures.append(place | {"reason": job.error})
                num_failed += 1
            else:
                row = job.row | place | {"seconds": round(job.seconds, 3)}
                if options.json:
                    path = outputs.place(options.output, job.item.name, settings.JSON)
                    outputs.write_json(path, row, predictions.columns)
                predictions.append(row)
            num_done += 1
    seconds = time.monotonic() - start
    rate = num_done / max(seconds, 1e-9)
    logging.info("%d files in %s, %.3g/s", num_done, progress.duration(seconds), rate)
    if num_failed:
        where = options.output / outputs.FAILURES
        logging.warning("%d of %d files failed: %s", num_failed, num_done, where)
    if num_done < len(items):
        logging.info("stopped; run the same command with --resume to continue")
        return interrupt.EXIT_CODE
    return SOME_FAILED if num_failed else DONE


def predict(
    items: Sequence[inputs.Item],
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
    is_stopped: Callable[[], bool],
) -> Iterator[Job]:
    """Yields finished jobs in the order of `items`; fewer if the command is stopped.

    Args:
        items: the items to predict on.
        work: `picture_work` or `volume_work`.
        team: the networks.
        options: the command's options.
        is_stopped: called before each batch; True ends the command.
    """
    size = work.batch_size(team)
    num_threads = min(_MOST_THREADS, work.READ_AHEAD)  # More readers would idle.
    readers = concurrent.futures.ThreadPoolExecutor(num_threads, "read")
    writers = concurrent.futures.ThreadPoolExecutor(num_threads, "write")
    try:
        read = functools.partial(_read, work=work, team=team, options=options)
        ahead = size - 1 + work.READ_AHEAD
        pending: collections.deque[concurrent.futures.Future[Job]] = collections.deque()
        for batch in _batched(_map_ahead(readers, read, items, ahead), size):
            if is_stopped():
                break
            pending.extend(_predict_batch(batch, work, team, options, readers, writers))
            while len(pending) > size:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for pool in (readers, writers):
            pool.shutdown(cancel_futures=True)


def _predict_batch(
    batch: list[Job],
    work: types.ModuleType,
    team: ensemble.Team,
    options: settings.Options,
    readers: concurrent.futures.Executor,
    writers: concurrent.futures.Executor,
) -> Iterator[concurrent.futures.Future[Job]]:
    """Predicts a batch and hands its outputs to the threads that write."""
    start = time.monotonic()
    good = [job for job in batch if not job.error]
    try:
        raws = iter(
            work.predict(team, [job.ready for job in good], options, readers) if good else ()
        )
    except (ValueError, MemoryError) as error:  # A volume may have too many voxels.
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
    except Exception as error:  # Decoders may raise anything; one file must not stop the others.
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
    """Writes a job's outputs and returns the job without its arrays."""
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
    """Returns an error's message as one printable line, with its type if it is no sentence."""
    text = console.on_one_line(error)
    if not isinstance(error, ValueError | OSError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _MOST_REASON else f"{text[:_MOST_REASON]} ..."


def _map_ahead(
    pool: concurrent.futures.Executor, function: Callable[[Any], T], items: Iterable[Any], most: int
) -> Iterator[T]:
    """Maps in threads, in order, at most `most` results ahead of the consumer."""
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
