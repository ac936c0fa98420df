"""Downloads one file from a plain URL, whole or not at all."""

import hashlib
import http.client
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO

from absl import logging

from jaxlung.host import progress

_MEBIBYTE = 2**20
_TIMEOUT_S = 60  # Longest time without a byte from the server.


def download(url: str, path: pathlib.Path, sha256: str | None = None) -> None:
    """Downloads `url` to `path`, through a ".part" file beside it.

    An existing file is not downloaded again, but its checksum is compared if one is known.

    Args:
        url: address, http or https.
        path: file to make, with the folders above it.
        sha256: checksum of the whole file in hexadecimal, or None if it is not known.

    Raises:
        ValueError: the server can't be reached, refuses, or breaks off; or the checksum is wrong.
        OSError: the file can't be written, for example because the disk is full.
    """
    if path.exists():
        _require_checksum(path, sha256, f"remove it to get it again from {url}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            _fetch(url, file)
        _require_checksum(part, sha256, f"{url} gave another file")
        part.replace(path)
    except OSError as error:  # An error of writing doesn't name the file.
        raise OSError(error.errno, error.strerror, str(part)) from error
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, file: BinaryIO) -> None:
    """Copies the server's response into `file`."""
    try:
        response = urllib.request.urlopen(url, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"{url}: the server answered {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"{url}: the server can't be reached ({reason}).") from error
    with response:
        total = int(response.headers.get("Content-Length") or 0)
        mebibytes = -(-total // _MEBIBYTE)
        logging.info("downloading %s, %s", url, f"{mebibytes} MiB" if total else "of unknown size")
        blocks = _blocks(response, url)
        if total:
            blocks = progress.report(blocks, f"downloading {file.name}", "MiB", mebibytes)
        for block in blocks:
            file.write(block)
    if total > file.tell():
        raise ValueError(f"{url}: broke off after {file.tell()} of {total} bytes; try again.")


def _blocks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    """Yields the response in mebibytes; only errors of reading become ValueError."""
    while True:
        try:
            block = response.read(_MEBIBYTE)
        except (OSError, http.client.HTTPException) as error:
            raise ValueError(f"{url}: the download broke off ({error}); try again.") from error
        if not block:
            return
        yield block


def _require_checksum(path: pathlib.Path, sha256: str | None, advice: str) -> None:
    if sha256 is None:
        return
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256:
        raise ValueError(f"{path}: want SHA-256 {sha256}, got {got}; {advice}.")
