"""Timing against a clock that we set ourselves."""

import numpy as np

from jaxlung.benchmark import timing


def test_seconds_per_dispatch_are_those_of_the_clock_and_slow_things_repeat_five_times(clock):
    cost = {"input": 0.02, "step": 0.5}
    calls = []

    def make(name):
        def run(count):
            calls.append((name, count))
            clock.spend(cost[name] * count)

        return run

    times = timing.measure({name: make(name) for name in cost}, seconds=1.0)
    np.testing.assert_allclose(times["input"], 5 * [0.02])
    np.testing.assert_allclose(times["step"], 5 * [0.5])
    # Ten dispatches of 0.02 s are a fifth of a second; one of 0.5 s is more already.
    assert calls == [("input", 1), ("step", 1)] + 5 * [("input", 10), ("step", 1)]


def test_fast_things_repeat_twenty_times_and_what_was_ready_does_not_count(clock):
    ready = [3]

    def run(count):
        for _ in range(count):
            clock.spend(0.0 if ready[0] else 0.01)
            ready[0] = max(0, ready[0] - 1)

    def settle():
        ready[0] = 1  # The dispatch after it is still quick.

    times = timing.measure({"input": lambda count: (clock.spend(0.01), run(count))}, 1.0, settle)
    assert len(times["input"]) == 20
    # 5 dispatches a repeat, all slow; and what each call costs by itself.
    np.testing.assert_allclose(times["input"], 20 * [0.01 + 0.01 / 5])
