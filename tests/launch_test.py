"""Processes on this machine, with small scripts in place of jaxlung."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from absl.testing import parameterized

from launch import local

ROOT = pathlib.Path(__file__).parent.parent


class ParseTest(parameterized.TestCase):
    def test_what_follows_two_dashes_goes_to_every_process(self):
        flags, arguments = local.parse(["--processes=3", "--", "--config=a", "--", "b"])
        assert (flags.processes, flags.devices_per_process) == (3, 1)
        assert arguments == ["--config=a", "--", "b"]

    @parameterized.parameters(
        (["--", "--config=a", "--processes=0"], None),  # Not ours after the dashes.
        (["--processes=0", "--", "--config=a"], "--processes: got 0, want 1 or more."),
        (["--devices_per_process=-1", "--", "a"], "--devices_per_process: got -1"),
        (["--processes=two", "--", "a"], "invalid int value: 'two'"),
        (["--process=2", "--", "a"], "unrecognized arguments: --process=2"),
        (["--processes=2"], "want -- and then the arguments"),
        (["--"], "want -- and then the arguments"),
        (["--", "--config=a", "--process_id=1"], "--process_id: got it after --"),
    )
    def test_a_bad_flag_is_told_in_one_sentence(self, argv, message):
        if message is None:
            local.parse(argv)
            return
        with pytest.raises(ValueError, match=re.escape(message)):
            local.parse(argv)


class EnvironTest(parameterized.TestCase):
    def test_devices_are_added_to_the_flags_that_are_there(self):
        env = local.make_environ({"XLA_FLAGS": "--a=1", "HOME": "/h"}, "localhost:5", 2, 1, 3)
        assert env["XLA_FLAGS"] == "--a=1 --xla_force_host_platform_device_count=3"
        assert env["JAX_PLATFORMS"] == "cpu"
        assert env["HOME"] == "/h"

    def test_another_platform_is_kept_and_its_devices_are_shared_out(self):
        env = local.make_environ({"JAX_PLATFORMS": "cuda"}, "localhost:5", 2, 1, 3)
        assert "XLA_FLAGS" not in env
        assert env["JAX_LOCAL_DEVICE_IDS"] == "3,4,5"


IDENTIFY = "import os, signal, sys, time; me = int(os.environ['JAX_PROCESS_ID'])\n"
# Says that it is there, then which signals come within half a second of the first.
COUNT_SIGNALS = (
    IDENTIFY
    + """
seen = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: seen.append(number))
print('ready', flush=True)
while not seen:
    time.sleep(0.02)
time.sleep(0.5)
print(*[signal.Signals(x).name for x in seen])
"""
)


class RunTest(parameterized.TestCase):
    def run_local(self, script, processes=2, grace_seconds=5.0, start_new_session=False):
        """Runs a child script in `local.run`, in a process that can be signalled."""
        code = (
            "import sys; from launch import local\n"
            f"sys.exit(local.run([sys.executable, '-c', {script!r}], {processes}, 1,"
            f" grace_seconds={grace_seconds}))"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=start_new_session,
        )
        self.enterContext(child)  # Closes its pipes, and waits for it,
        self.addCleanup(child.terminate)  # once it is stopped, if it is still there.
        return child

    def test_lines_bear_the_process_and_keep_their_stream(self):
        script = IDENTIFY + "print('out', me); print('two'); print('err', me, file=sys.stderr)"
        child = self.run_local(script, processes=3)
        out, err = child.communicate(timeout=20)
        assert child.returncode == 0
        want = ["[1] out 1", "[1] two", "[2] out 2", "[2] two", "out 0", "two"]
        assert sorted(out.splitlines()) == want
        assert sorted(err.splitlines()) == ["[1] err 1", "[2] err 2", "err 0"]

    def test_what_gloo_says_of_every_connection_is_left_out(self):
        script = IDENTIFY + "print('[Gloo] Rank 0 is connected to 1 peer ranks.'); print('ours')"
        out, _ = self.run_local(script).communicate(timeout=20)
        assert sorted(out.splitlines()) == ["[1] ours", "ours"]

    def test_a_line_comes_when_it_is_written(self):
        child = self.run_local(IDENTIFY + "print('now'); time.sleep(60)", processes=1)
        assert child.stdout.readline() == "now\n"
        child.terminate()
        child.communicate(timeout=20)
        assert child.returncode == 128 + signal.SIGTERM

    def test_processes_meet_at_one_port(self):
        script = (
            IDENTIFY
            + "print(os.environ['JAX_COORDINATOR_ADDRESS'], os.environ['JAX_NUM_PROCESSES'])"
        )
        out, _ = self.run_local(script).communicate(timeout=20)
        first, second = (line.removeprefix("[1] ") for line in out.splitlines())
        assert first == second
        assert re.fullmatch(r"localhost:[1-9]\d+ 2", first)

    @parameterized.parameters((3, "exited with code 3", 3), (-9, "was ended by SIGKILL", 137))
    def test_one_that_fails_ends_the_others(self, code, sentence, want):
        end = "sys.exit(3)" if code > 0 else "os.kill(os.getpid(), signal.SIGKILL)"
        ask = "signal.signal(signal.SIGTERM, lambda *_: (print('asked'), sys.exit(0)))\n"
        script = IDENTIFY + ask + f"time.sleep(0.5)\nif me == 1: {end}\ntime.sleep(60)"
        start = time.monotonic()
        child = self.run_local(script, processes=3)
        out, err = child.communicate(timeout=20)
        assert child.returncode == want
        assert sorted(out.splitlines()) == ["[2] asked", "asked"]
        assert err.count("launch.local:") == 1
        assert f"launch.local: process 1 {sentence};" in err
        assert time.monotonic() - start < 15  # Not the sixty seconds that they wanted to sleep.

    def test_one_that_ignores_sigterm_is_killed_after_the_grace(self):
        script = (
            IDENTIFY
            + "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True)\n"
            + "time.sleep(1)\nif me == 1: sys.exit(5)\ntime.sleep(60)"
        )
        child = self.run_local(script, grace_seconds=0.5)
        out, _ = child.communicate(timeout=20)
        assert child.returncode == 5
        for line in out.splitlines():
            with pytest.raises(ProcessLookupError):
                os.kill(int(line.removeprefix("[1] ")), 0)

    @parameterized.parameters("SIGTERM", "SIGINT")
    def test_a_signal_goes_to_every_process_once(self, name):
        child = self.run_local(COUNT_SIGNALS)
        for _ in range(2):
            assert "ready" in child.stdout.readline()
        child.send_signal(getattr(signal, name))
        out, err = child.communicate(timeout=20)
        assert set(out.splitlines()) == {f"[1] {name}", name}
        assert (child.returncode, err) == (0, "")

    def test_a_terminals_ctrl_c_reaches_a_process_once(self):
        child = self.run_local(COUNT_SIGNALS, start_new_session=True)
        for _ in range(2):
            assert "ready" in child.stdout.readline()
        os.killpg(child.pid, signal.SIGINT)  # As a terminal does, to the whole group.
        out, _ = child.communicate(timeout=20)
        assert set(out.splitlines()) == {"[1] SIGINT", "SIGINT"}

    def test_of_two_failures_seen_at_once_the_killed_one_came_first(self):
        assert local.first_failure([1, None, -9, 0]) == 2
        assert local.first_failure([None, 4, 1]) == 1

    def test_a_bad_flag_exits_with_2(self):
        done = subprocess.run(
            [sys.executable, "-m", "launch.local", "--processes=0", "--", "--config=a"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr == "launch.local: --processes: got 0, want 1 or more.\n"
