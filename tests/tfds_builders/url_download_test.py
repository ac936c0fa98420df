"""Tests of downloads from a local server that fails in many ways."""

import errno
import hashlib
import http.server
import logging
import os
import pathlib
import socket
import threading
from unittest import mock

import pytest
from absl.testing import absltest

from jaxlung.host import progress
from tfds_builders import url_download

_CONTENT = bytes(range(256)) * 10_000  # 2.4 MiB
_SHA256 = hashlib.sha256(_CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        _Handler.requests += 1
        if self.path == "/absent.zip":
            self.send_error(404)
            return
        if self.path == "/moved.zip":
            self.send_response(302)
            self.send_header("Location", "/whole.zip")
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/unknown_length.zip":
            self.send_header("Content-Length", str(len(_CONTENT)))
        self.end_headers()
        self.wfile.write(_CONTENT[:5000] if self.path == "/broken.zip" else _CONTENT)

    def log_message(self, *args):
        pass


class DownloadTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "new" / "file.zip"
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.enter_context(mock.patch.dict(os.environ, no_proxy="*"))
        _Handler.requests = 0

    def _assert_fails_and_leaves_nothing(self, name, match, sha256=None):
        with pytest.raises(ValueError, match=match) as caught:
            url_download.download(f"{self.url}/{name}", self.path, sha256)
        assert "\n" not in str(caught.value)
        self.assertEmpty(list(self.path.parent.iterdir()))

    def test_file_is_whole(self):
        for name in ("whole.zip", "moved.zip", "unknown_length.zip"):
            path = self.path.with_name(name)
            url_download.download(f"{self.url}/{name}", path, _SHA256)
            assert path.read_bytes() == _CONTENT
        self.assertLen(list(self.path.parent.iterdir()), 3)

    def test_a_file_that_is_there_is_not_fetched_again(self):
        for sha256 in (None, _SHA256):
            url_download.download(f"{self.url}/whole.zip", self.path, sha256)
        assert _Handler.requests == 1

    def test_a_wrong_file_that_is_there_is_named_and_kept(self):
        self.path.parent.mkdir()
        self.path.write_bytes(b"mine")
        with pytest.raises(ValueError, match=r"file\.zip: want SHA-256 .*remove it to get"):
            url_download.download(f"{self.url}/whole.zip", self.path, _SHA256)
        assert self.path.read_bytes() == b"mine"
        assert _Handler.requests == 0

    def test_remains_of_a_killed_download_do_no_harm(self):
        self.path.parent.mkdir()
        self.path.with_name("file.zip.part").write_bytes(b"x" * 3_000_000)
        url_download.download(f"{self.url}/whole.zip", self.path, _SHA256)
        assert self.path.read_bytes() == _CONTENT

    def test_refusal_is_told_by_its_number(self):
        self._assert_fails_and_leaves_nothing("absent.zip", "absent.zip: .* answered 404 Not Found")

    def test_other_content_is_refused(self):
        match = f"want SHA-256 {'0' * 64}, got {_SHA256}; .*whole.zip gave another file"
        self._assert_fails_and_leaves_nothing("whole.zip", match, "0" * 64)

    def test_short_file_is_refused_without_a_checksum(self):
        match = f"broken.zip: broke off after 5000 of {len(_CONTENT)} bytes"
        self._assert_fails_and_leaves_nothing("broken.zip", match)

    def test_connection_lost_on_the_way(self):
        lost = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        with mock.patch("http.client.HTTPResponse.read", side_effect=lost):
            self._assert_fails_and_leaves_nothing("whole.zip", "whole.zip: the download broke off")

    def test_no_server(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        self._assert_fails_and_leaves_nothing("a.zip", "a.zip: .*can't be reached .*refused")

    def test_no_network(self):
        lost = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with mock.patch("socket.getaddrinfo", side_effect=lost):
            self._assert_fails_and_leaves_nothing("a.zip", "can't be reached .*not known")

    def test_full_disk_names_the_file(self):
        self.path.parent.mkdir()
        self.path.with_name("file.zip.part").symlink_to("/dev/full")
        with pytest.raises(OSError, match=r"No space left on device: .*file\.zip") as caught:
            url_download.download(f"{self.url}/whole.zip", self.path)
        assert caught.value.errno == errno.ENOSPC
        self.assertEmpty(list(self.path.parent.iterdir()))

    def test_progress_is_told_in_mebibytes(self):
        with (
            mock.patch.object(progress, "SECONDS_BETWEEN_LINES", 0),
            self.assertLogs("absl", logging.INFO) as logs,
        ):
            url_download.download(f"{self.url}/whole.zip", self.path)
        assert "whole.zip, 3 MiB" in logs.output[0]
        self.assertLen([line for line in logs.output if "2 of 3 MiB" in line], 1)


if __name__ == "__main__":
    absltest.main()
