from bus_fakes import Hal
from coupler.store.queue import Queue


def put(queue, value, name="field/meter/power"):
    return queue.put(name, value, None, 1764000000000, 7, "W")


def test_samples_leave_in_the_order_they_came():
    queue = Queue(4, Hal())
    first = put(queue, 1)
    put(queue, 2)
    assert queue.peek(10) == [
        (first, "field/meter/power", 1, None, 1764000000000, 7, "W"),
        (first + 1, "field/meter/power", 2, None, 1764000000000, 7, "W"),
    ]
    assert len(queue) == 2 and len(queue.peek(1)) == 1, "peek takes nothing away"


def test_acknowledged_samples_are_forgotten():
    queue = Queue(10, Hal())
    numbers = [put(queue, value) for value in range(5)]
    queue.ack(numbers[2])
    assert [sample[2] for sample in queue.peek(10)] == [3, 4]
    queue.ack(numbers[2])
    assert len(queue) == 2
    queue.ack(numbers[4] + 100)
    assert queue.peek(10) == [] and queue.acked == 5 and queue.dropped == 0


def test_a_full_queue_drops_the_oldest_and_counts():
    queue = Queue(3, Hal())
    for value in range(10):
        put(queue, value)
    assert [sample[2] for sample in queue.peek(10)] == [7, 8, 9]
    assert queue.dropped == 7 and len(queue) == 3


def test_an_acknowledgement_for_dropped_samples_does_no_harm():
    queue = Queue(3, Hal())
    numbers = [put(queue, value) for value in range(5)]
    queue.ack(numbers[1])
    assert [sample[2] for sample in queue.peek(10)] == [2, 3, 4] and queue.acked == 0
    queue.ack(numbers[3])
    assert [sample[2] for sample in queue.peek(10)] == [4]


def test_numbers_are_unique_and_rising_over_restarts():
    hal = Hal()
    last = 0
    for restart in range(5):
        queue = Queue(10, hal)
        for _ in range(700 * restart + 1):
            seq = put(queue, 0)
            assert seq > last
            last = seq


def test_numbers_are_reserved_before_they_are_given_out_and_seldom():
    hal = Hal()
    writes = []

    def number(name, value):
        writes.append(value)
        hal.numbers[name] = value

    hal.put_number = number
    queue = Queue(10, hal)
    for _ in range(3000):
        assert put(queue, 0) <= hal.numbers["seq"]
    assert len(writes) == 3


def test_whoever_waits_is_told_of_each_sample():
    queue = Queue(3, Hal())
    told = []
    queue.on_put = lambda: told.append(len(queue))
    put(queue, 1)
    put(queue, 2)
    assert told == [1, 2]


def test_samples_taken_before_the_clock_was_known_are_dated_when_it_is():
    hal = Hal()
    queue = Queue(10, hal)
    taken = hal.ticks_ms()
    queue.put("a", 1, None, None, taken, None)
    queue.put("b", 2, None, 1764000000000, taken, None)
    hal.us += 90000000
    hal.unix = 1764000100000
    queue.date()
    assert [sample[4] for sample in queue.peek(10)] == [1764000010000, 1764000000000]
