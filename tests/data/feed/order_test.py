"""Tests of the order of records: permutations, epochs and steps."""

import collections

import numpy as np
from absl.testing import parameterized

from jaxlung.data.feed import order


class OrderTest(parameterized.TestCase):
    @parameterized.parameters(1, 7, 100)
    def test_every_record_exactly_once_in_each_epoch(self, num_records):
        record_at = order.shuffled(0, num_records)
        for epoch in range(3):
            positions = range(epoch * num_records, (epoch + 1) * num_records)
            seen = collections.Counter(record_at(position) for position in positions)
            assert seen == dict.fromkeys(range(num_records), 1)

    def test_epochs_and_seeds_differ_and_equal_seeds_agree(self):
        def epoch(seed, index):
            record_at = order.shuffled(seed, 50)
            return [record_at(50 * index + i) for i in range(50)]

        assert epoch(0, 0) != epoch(0, 1)
        assert epoch(0, 0) != epoch(1, 0)
        assert epoch(3, 4) == epoch(3, 4)

    def test_a_position_does_not_depend_on_those_asked_before(self):
        record_at = order.shuffled(0, 13)
        forward = [record_at(position) for position in range(100)]
        assert [order.shuffled(0, 13)(position) for position in range(99, -1, -1)] == forward[::-1]

    def test_in_turn_pads_with_the_last_record(self):
        assert [order.in_turn(3)(position) for position in range(5)] == [0, 1, 2, 2, 2]

    @parameterized.product(num_records=[1, 5, 16, 33], batch_size=[1, 4, 16], epochs=[1, 3])
    def test_steps_and_epochs_fit_each_other(self, num_records, batch_size, epochs):
        steps = order.steps_after_epochs(epochs, num_records, batch_size)
        assert order.epochs_after(steps, num_records, batch_size) >= epochs
        assert order.epochs_after(steps - 1, num_records, batch_size) < epochs
        assert steps == int(np.ceil(epochs * num_records / batch_size))

    def test_dispatches_end_with_epochs(self):
        # Of 10 records in batches of 4, epochs end after 3, 5 and 8 steps.
        got = list(order.dispatches(0, 8, 10, 4, 2))
        assert got == [range(0, 2), range(2, 3), range(3, 5), range(5, 7), range(7, 8)]

    @parameterized.product(
        num_records=[1, 5, 33], batch_size=[1, 4], steps=[1, 3, 10], first_step=[0, 5]
    )
    def test_dispatches_are_all_steps_in_groups_of_two_sizes(
        self, num_records, batch_size, steps, first_step
    ):
        got = list(order.dispatches(first_step, 40, num_records, batch_size, steps))
        assert [step for group in got for step in group] == list(range(first_step, 40))
        assert {len(group) for group in got} <= {1, steps}

    def test_a_run_that_goes_on_has_the_groups_of_the_whole_run(self):
        whole = list(order.dispatches(0, 100, 33, 2, 5))
        for index, group in enumerate(whole):
            assert list(order.dispatches(group.start, 100, 33, 2, 5)) == whole[index:]

    def test_positions_of_some_steps(self):
        np.testing.assert_array_equal(order.positions(range(2, 4), 3), [[6, 7, 8], [9, 10, 11]])
