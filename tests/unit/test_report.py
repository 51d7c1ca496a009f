from check import raises
from coupler.points.load import reporting
from coupler.points.report import NOTHING, SAMPLE

_PERIOD = 1 << 30


def diff(end, start):
    return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2


class Player:
    """Feeds readings, one a period, and notes (seconds, value, quality) of each sample."""

    def __init__(self, cfg, period=1000, numeric=True, begin=_PERIOD - 5000):
        self.report = reporting(cfg, period, numeric, "r", begin)
        self.period = period
        self.now = self.begin = begin
        self.samples = []

    def feed(self, *readings):
        for reading in readings:
            value, quality = (None, reading) if isinstance(reading, str) else (reading, None)
            due = self.report.feed(value, quality, self.now, diff)
            at = diff(self.now, self.begin) // 1000
            if due:
                self.samples.append((at, self.report.sent, quality))
            assert due in (NOTHING, SAMPLE)
            self.now = (self.now + self.period) % _PERIOD
        return self.samples


def test_the_first_value_is_always_a_sample():
    for cfg in (None, {}, {"db": 1000.0}, {"min": 3600000, "max": 7200000}):
        assert Player(cfg).feed(5.0) == [(0, 5.0, None)]


def test_without_a_setting_every_change_is_a_sample_and_a_still_value_one_a_minute():
    assert Player(None).feed(1, 1, 2, 2) == [(0, 1, None), (2, 2, None)]
    assert [s[0] for s in Player(None).feed(*([7] * 130))] == [0, 60, 120]


def test_the_absolute_deadband_counts_from_the_last_sample():
    samples = Player({"db": 5.0}).feed(100.0, 104.9, 95.1, 105.0, 109.0, 100.0, 96.0)
    assert samples == [(0, 100.0, None), (3, 105.0, None), (5, 100.0, None)]


def test_slow_drift_passes_the_deadband_at_last():
    assert [s[1] for s in Player({"db": 5}).feed(*range(100, 112))] == [100, 105, 110]


def test_the_relative_deadband_is_a_part_of_the_last_sample():
    samples = Player({"pct": 10}).feed(100.0, 109.0, 110.0, 120.0, 121.5, -1.0)
    assert [s[1] for s in samples] == [100.0, 110.0, 121.5, -1.0]
    assert [s[1] for s in Player({"pct": 10}).feed(0, 0, 0.001)] == [0, 0.001]


def test_no_sample_before_the_shortest_interval_one_at_the_longest():
    samples = Player({"min": 3000, "max": 10000}).feed(*range(8))
    assert [s[0] for s in samples] == [0, 3, 6]
    samples = Player({"db": 1000, "min": 1000, "max": 10000}).feed(*([5] * 25))
    assert [s[0] for s in samples] == [0, 10, 20]


def test_an_interval_of_one_period_means_every_reading_although_polls_jitter():
    player = Player({"min": 1000})
    for i, jitter in enumerate((0, -30, 30, -30, 0)):
        player.now += jitter
        player.feed(i)
    assert len(player.samples) == 5


def test_a_change_of_quality_is_a_sample_at_once_and_its_repetition_is_not():
    samples = Player({"db": 5.0, "min": 10000}).feed(1.0, "timeout", "timeout", 1.0, "crc", "exception:2")
    assert samples == [
        (0, 1.0, None),
        (1, None, "timeout"),
        (3, 1.0, None),
        (4, None, "crc"),
        (5, None, "exception:2"),
    ]


def test_bad_quality_is_confirmed_at_the_longest_interval():
    samples = Player({"max": 10000}).feed(*(["timeout"] * 25))
    assert samples == [(0, None, "timeout"), (10, None, "timeout"), (20, None, "timeout")]


def test_text_and_switches_are_samples_when_they_change():
    assert [s[1] for s in Player({"min": 1000}, numeric=False).feed(True, True, False)] == [True, False]
    report = reporting(None, 1000, False, "r", 0)
    assert report.feed("off", None, 0, diff) == SAMPLE
    assert report.feed("off", None, 1000, diff) == NOTHING
    assert report.feed("on", None, 2000, diff) == SAMPLE and report.sent == "on"


def test_a_value_that_was_still_for_longer_than_ticks_can_tell_is_reported_again():
    report = reporting({"min": 60000, "max": 86400000}, 1000, True, "r", 0)
    report.feed(1, None, 0, diff)
    assert report.feed(1, None, _PERIOD // 2 + 1000, diff) == SAMPLE


def test_a_value_that_is_no_number_keeps_no_later_one_back():
    nan = float("nan")
    for cfg in ({}, {"db": 5.0}, {"pct": 10}):
        report = reporting(cfg, 1000, True, "r", 0)
        assert [report.feed(v, None, 1000 * i, diff) for i, v in enumerate((1.0, nan, 1.0, 1.0))] == [1, 1, 1, 0], cfg


def test_settings_that_contradict_themselves_are_refused_by_name():
    for cfg, path in (
        ([], "p.r"),
        ({"db": 1, "pct": 1}, "p.r"),
        ({"db": -1}, "p.r.db"),
        ({"pct": 101}, "p.r.pct"),
        ({"min": "1s"}, "p.r.min"),
        ({"min": 5000, "max": 1000}, "p.r.min"),
        ({"max": 0}, "p.r.max"),
        ({"max": True}, "p.r.max"),
        ({"agg": "median"}, "p.r.agg"),
    ):
        error = raises(ValueError, reporting, cfg, 1000, True, "p.r", 0)
        assert str(error).startswith(path + ":") or str(error).startswith(path + "."), (path, str(error))
    for cfg in ({"db": 1.0}, {"pct": 1.0}, {"agg": "mean"}):
        raises(ValueError, reporting, cfg, 1000, False, "r", 0)
