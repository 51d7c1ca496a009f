"""Power cuts at every operation of the journal's flash, and with --long at every byte of each of them."""

from __future__ import annotations

import random

import pytest
from journal_cuts import Cuts, Dice, Record
from nor import SECTOR

PARTS = 8
# Bits of the byte that was under way.
MASKS = (0x00, 0x01, 0x0F, 0xA5, 0xF0, 0x7F, 0xFE)


def record(seed: int) -> Record:
    made = Record(seed, 3600, 4)
    assert made.unit.journal.next > 3000 and made.unit.journal.ring.serial >= 9 and made.unit.journal.dropped
    assert max(made.flash.erases) - min(made.flash.erases) <= 1
    return made


def test_a_cut_at_every_operation_costs_nothing_that_was_durable() -> None:
    cuts = Cuts(record(1))
    dice = random.Random(1)
    again = Dice(2)
    for i, size in enumerate(cuts.operations()):
        n = (0, 1, size - 1, size, dice.randrange(size + 1))[i % 5]
        grow = 0 if i % 4 else 10
        cuts.check(cuts.torn(n, 0xFF if i % 2 else dice.choice(MASKS)), i % 40 == 0, grow, again)
        if size == SECTOR:
            for prefix in (0, 64, 2000):
                cuts.check(cuts.torn(prefix, 0xFF, dice.randbytes(SECTOR)), True, 200, again)
    assert cuts.images > 2000


def test_a_cut_at_every_byte_of_a_change_of_sectors_costs_nothing() -> None:
    cuts = Cuts(record(3))
    for size in cuts.operations():
        if cuts.at % SECTOR == 0 and size < SECTOR:
            for n in range(size + 1):
                cuts.check(cuts.torn(n, MASKS[n % len(MASKS)] if n % 3 else 0xFF), n % 16 == 0, 0 if n % 4 else 10)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_cut_at_every_byte_costs_nothing_that_was_durable(part: int) -> None:
    cuts = Cuts(record(1))
    dice = random.Random(part)
    again = Dice(part)
    for i, size in enumerate(cuts.operations()):
        if i % PARTS != part:
            continue
        for n in range(0, size + 1, 16 if size == SECTOR else 1):
            cuts.check(cuts.torn(n), n % 50 == 0, 10)
            cuts.check(cuts.torn(n, dice.choice(MASKS)), False, 200 if n % 50 == 0 else 10, again)
            if size == SECTOR:
                cuts.check(cuts.torn(n, 0xFF, dice.randbytes(SECTOR)), False, 20)
