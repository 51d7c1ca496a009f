# Every answer in the tables is computed by hand.
from bus_fakes import Hal
from coupler.points.load import reporting
from coupler.points.report import BOTH, SAMPLE

_PERIOD = 1 << 30
_BIG = 3e38 if 1.0 + 2.0**-30 == 1.0 else 1.7e308  # two of them are more than a float can be

diff = Hal().ticks_diff


def play(cfg, readings, begin=_PERIOD - 5000, period=1000):
    """Feed (ms, value or quality) after the start; (ms, value, quality) of each sample."""
    report = reporting(cfg, period, True, "r", begin)
    samples = []
    for ms, reading in readings:
        value, quality = (None, reading) if isinstance(reading, str) else (reading, None)
        due = report.feed(value, quality, (begin + ms) % _PERIOD, diff)
        if due == BOTH:
            samples.append((ms, report.rest, None))
        if due:
            assert due in (SAMPLE, BOTH)
            samples.append((ms, report.sent, quality))
    return samples


def every_second(*readings):
    return [(1000 * i, reading) for i, reading in enumerate(readings)]


def check(table):
    for cfg, readings, expected in table:
        for begin in (_PERIOD - 5000, 0, 123456789, _PERIOD // 2 - 2500, _PERIOD - 1):
            samples = play(cfg, readings, begin)
            assert samples == expected, (cfg, begin, samples)


def test_the_first_value_is_a_sample_whatever_the_aggregate():
    for agg, value in (("mean", 5.0), ("min", 5.0), ("max", 5.0), ("sum", 5.0), ("count", 1)):
        assert play({"agg": agg, "min": 5000, "db": 100}, [(700, 5.0)]) == [(700, value, None)], agg


def test_aggregates_are_of_what_came_since_the_last_sample():
    readings = every_second(10.0, 1.0, 1.0, 6.0, 4.0, 5.0, 3.0)
    for agg, values in (
        ("last", [10.0, 6.0, 3.0]),
        ("mean", [10.0, 4.0, 5.0]),  # (10 + 1 + 1) / 3, (6 + 4 + 5) / 3
        ("min", [10.0, 1.0, 3.0]),
        ("max", [10.0, 6.0, 5.0]),
        ("sum", [10.0, 8.0, 12.0]),
        ("count", [1, 3, 3]),
    ):
        check([({"agg": agg, "min": 3000}, readings, [(3000 * i, v, None) for i, v in enumerate(values)])])


def test_a_mean_weighs_each_reading_by_the_time_it_held():
    mean = {"agg": "mean", "min": 4000}
    check(
        [
            # 8 for 1 s, 2 and 4 for 1.5 s each are 17 / 4; 100, read at the end of the window, counts in the next one.
            (
                mean,
                [(0, 8), (1000, 2), (2500, 4), (4000, 100), (8000, 0)],
                [(0, 8, None), (4000, 4.25, None), (8000, 100, None)],
            ),
            # No other reading in the window: what held at its start holds all the time.
            (mean, [(0, 5), (4000, 7), (8000, 9)], [(0, 5, None), (8000, 6, None)]),
            # A first value late in its window: 3 for 1 s, 7 for 0.5 s would be the mean of the window without it.
            (mean, [(2500, 3), (3000, 9), (4000, 0), (8000, 4)], [(2500, 3, None), (4000, 7, None), (8000, 0, None)]),
            # Whole numbers beyond what a float tells apart: their distance is what is averaged.
            (
                mean,
                [(0, 2**60), (2000, 2**60 + 2**40), (4000, 0)],
                [(0, 2**60, None), (4000, float(2**60 + 2**39), None)],
            ),
        ]
    )


def test_a_mean_over_no_time_is_the_latest_reading():
    check(
        [
            ({"agg": "mean"}, [(0, 3), (0, 5), (0, "timeout")], [(0, 3, None), (0, 5, None), (0, None, "timeout")]),
            ({"agg": "mean", "min": 4000}, [(0, 3), (0, 5), (4000, 1)], [(0, 3, None), (4000, 5, None)]),
        ]
    )


def test_time_of_bad_quality_counts_in_no_mean():
    check(
        [
            (
                {"agg": "mean", "min": 10000},
                [(0, 2), (1000, 6), (2000, "timeout"), (3000, "timeout"), (5000, 10), (6000, 20), (10000, 0)],
                [
                    (0, 2, None),
                    (2000, 4, None),  # 2 for 1 s, 6 for 1 s
                    (2000, None, "timeout"),
                    (5000, 10, None),
                    (10000, 18, None),  # 10 for 1 s, 20 for 4 s
                ],
            ),
            # What held since the last sample goes before the change of quality, although nothing was read since.
            (
                {"agg": "mean", "min": 2000},
                [(0, 1), (2000, 9), (3000, "crc"), (4000, "frame")],
                [(0, 1, None), (3000, 3.6666666666666665, None), (3000, None, "crc"), (4000, None, "frame")],
            ),
            (
                {"agg": "mean", "min": 2000},
                [(0, 1), (1000, 2), (2000, 9), (3000, "crc")],
                [(0, 1, None), (2000, 1.5, None), (3000, 9, None), (3000, None, "crc")],
            ),
        ]
    )


def test_what_was_gathered_goes_before_a_change_of_quality():
    readings = every_second(1, 2, 4, "timeout", "timeout", 8, "stale")
    for agg, first, rest, again, last in (
        ("min", 1, 2, 8, []),
        ("max", 1, 4, 8, []),
        ("sum", 1, 6, 8, []),
        ("count", 1, 2, 1, []),
        ("mean", 1, 7 / 3, 8, [8]),  # 1, 2 and 4 for 1 s each; 8 for 1 s
    ):
        samples = play({"agg": agg, "min": 10000, "db": 100}, readings)
        assert abs(samples[1][1] - rest) < 1e-6
        assert samples[:1] + samples[2:] == (
            [(0, first, None), (3000, None, "timeout"), (5000, again, None)]
            + [(6000, v, None) for v in last]
            + [(6000, None, "stale")]
        ), agg


def test_bad_quality_is_confirmed_at_the_longest_interval():
    expected = [(at, None, "timeout") for at in (0, 10000, 20000)]
    for agg in ("mean", "count"):
        check([({"agg": agg, "min": 2000, "max": 10000}, every_second(*(["timeout"] * 25)), expected)])


def test_an_aggregate_within_the_deadband_goes_on_gathering():
    one = every_second(*([1] * 14))
    mean = {"agg": "mean", "min": 2000}
    check(
        [
            # (10 + 11) / 2 is within 2 of 10, (10 + 11 + 17 + 17) / 4 is not; of 3 s no window ends.
            (dict(mean, db=2.0), every_second(10, 11, 17, 17, 9), [(0, 10, None), (4000, 13.75, None)]),
            (dict(mean, pct=20), every_second(10, 11, 13, 14, 9), [(0, 10, None), (4000, 12, None)]),
            (dict(mean, agg="min", db=4), every_second(10, 7, 9, 9, 9, 1, 9), [(0, 10, None), (6000, 1, None)]),
            (dict(mean, agg="max"), every_second(5, 5, 2, 3, 4, 7, 1), [(0, 5, None), (6000, 7, None)]),
            # 2 and 4 are compared with 1, then 2, 4, 6 and 8 with 4. 1 + 4 + 8 is all there was.
            ({"agg": "sum", "min": 2000, "db": 3}, one, [(0, 1, None), (4000, 4, None), (12000, 8, None)]),
            ({"agg": "count", "min": 2000, "db": 3}, one, [(0, 1, None), (4000, 4, None), (12000, 8, None)]),
        ]
    )  # fmt: skip


def test_a_sum_or_count_without_a_deadband_is_sent_also_when_it_is_the_same_again():
    expected = [(0, 1, None), (2000, 2, None), (4000, 2, None), (6000, 2, None)]
    for agg in ("sum", "count"):
        check([({"agg": agg, "min": 2000}, every_second(*([1] * 8)), expected)])
    check([({"agg": "sum", "min": 2000, "db": 1}, every_second(*([0] * 8)), [(0, 0, None)])])


def test_the_longest_interval_ends_also_within_a_window():
    cfg = {"agg": "mean", "min": 4000, "max": 6000, "db": 1000}
    # 6 s, with windows of 4 s: (10 + 5 * 16) / 6. All windows are within the deadband.
    readings = every_second(10, *([16] * 13))
    check([(cfg, readings, [(0, 10, None), (6000, 15, None), (12000, 16, None)])])
    cfg = {"agg": "count", "min": 4000, "max": 4000, "db": 1000}
    check([(cfg, every_second(*([5] * 13)), [(0, 1, None), (4000, 4, None), (8000, 4, None), (12000, 4, None)])])


def test_a_window_ends_at_the_reading_nearest_to_its_end():
    cfg = {"agg": "max", "min": 4000}
    check(
        [
            (
                cfg,
                [(0, 1), (3499, 3), (4400, 5), (7500, 9), (8499, 8), (11499, 2), (11500, 1)],
                [(0, 1, None), (4400, 5, None), (7500, 9, None), (11500, 8, None)],
            ),
            # Windows that passed without a reading end at the next one, once.
            (
                {"agg": "sum", "min": 2000},
                [(0, 1), (7000, 5), (8000, 2), (9000, 3)],
                [(0, 1, None), (7000, 5, None), (8000, 2, None)],
            ),
            # Ends are counted from the start, not from the last sample: polls that are always late do not put them off.
            (
                {"agg": "count", "min": 2500},
                [(i * 1010, 7) for i in range(10)],
                [(0, 1, None), (2020, 2, None), (5050, 3, None), (7070, 2, None)],
            ),
        ]
    )


def test_with_no_shortest_interval_each_reading_is_a_window():
    for least in (0, 400, 1000):
        check(
            [
                ({"agg": "sum", "min": least}, every_second(4, 5, 5), [(0, 4, None), (1000, 5, None), (2000, 5, None)]),
                ({"agg": "min", "min": least}, every_second(4, 5, 5), [(0, 4, None), (1000, 5, None)]),
                # A mean is a reading late: the newest has not held yet.
                (
                    {"agg": "mean", "min": least},
                    every_second(1, 2, 3, 4),
                    [(0, 1, None), (2000, 1.5, None), (3000, 3, None)],
                ),
            ]
        )  # fmt: skip


def test_windows_of_the_same_length_end_together():
    # From (first reading, lateness of all others), and with a reading that failed: the window in which each sample is.
    for first, late in ((0, 0), (1700, 30), (2300, 450), (3100, -300)):
        for agg in ("mean", "sum", "min", "count"):
            rows = [(first, 0)] + [(1000 * i + late, "crc" if i == 7 else i) for i in range(4, 31)]
            ends = [ms - late for ms, _, _ in play({"agg": agg, "min": 5000}, rows) if ms > 9500]
            assert ends == [10000, 15000, 20000, 25000, 30000], (first, late, agg, ends)


def test_windows_still_end_together_after_ticks_have_wrapped():
    # 7 s is no divisor of the period of the ticks: an end that is computed from the ticks alone would jump.
    for begin in (_PERIOD - 10000, 0):
        samples = play({"agg": "count", "min": 7000}, [(1000 * i, 1) for i in range(29)], begin)
        assert [ms for ms, _, _ in samples] == [0, 7000, 14000, 21000, 28000], begin


def test_time_that_ticks_cannot_tell_counts_in_no_mean_and_ends_the_window():
    long = _PERIOD // 2 + 1000
    cfg = {"agg": "mean", "min": 10000, "max": 86400000, "db": 100}
    # 4 for 1 s; then 8, nobody knows for how long.
    readings = [(0, 4), (1000, 8), (long, 2), (long + 1000, 2)]
    check([(cfg, readings, [(0, 4, None), (long, 4, None)])])
    check([(cfg, [(0, 4), (long, 8)], [(0, 4, None), (long, 8, None)])])
    # The first reading may be as late.
    cfg = {"agg": "count", "min": 10000}
    check([(cfg, [(long, 8), (long + 10000, 8)], [(long, 1, None), (long + 10000, 1, None)])])


def test_what_no_float_can_hold_is_no_value_and_poisons_nothing_after_it():
    check(
        [
            (
                {"agg": "sum", "min": 2000},
                every_second(1.0, _BIG, _BIG, 1.0, 2.0, 3.0, 4.0),
                [(0, 1, None), (2000, None, None), (3000, 1, None), (4000, 2, None), (6000, 7, None)],
            ),
            (
                {"agg": "sum", "min": 5000},
                every_second(1.0, _BIG, _BIG, "timeout", 1.0),
                [(0, 1, None), (3000, None, None), (3000, None, "timeout"), (4000, 1, None)],
            ),
            (
                {"agg": "mean", "min": 2000},
                every_second(_BIG, -_BIG, 2.0, 3.0, 5.0, 7.0),
                # -BIG is too far from BIG. Then 2 for 1 s goes before the change of quality, 3 is as before.
                [(0, _BIG, None), (2000, None, None), (3000, 2, None), (3000, 3, None)],
            ),
        ]
    )


def test_the_same_readings_give_the_same_samples():
    readings = [(900 * i + i * i % 130, "crc" if i % 17 == 16 else i * i % 23 / 8) for i in range(200)]
    for agg in ("mean", "min", "max", "sum", "count"):
        cfg = {"agg": agg, "min": 5000, "max": 20000, "pct": 30}
        samples = play(cfg, readings, 0)
        assert len(samples) > 20
        for begin in (0, 1, _PERIOD // 2, _PERIOD - 100000):
            assert play(cfg, readings, begin) == samples, (agg, begin)
