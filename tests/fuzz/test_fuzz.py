"""Brief fuzzing of every parser; ``python -m tools.soak.fuzz`` runs it as long as one likes."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, survive
from tools.soak.fuzz import mutate

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_accepted(name: str) -> None:
    target, good = TARGETS[name]
    if name == "zip":
        survive(name, good())  # it climbs out of its directory, which is refused
    else:
        target(good())


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_broke(name: str) -> None:
    for path in sorted(CORPUS.glob(f"{name}-*")):
        survive(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    choose = random.Random(name)
    good = TARGETS[name][1]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(400 if name == "zip" else 2000):
        survive(name, mutate(good, choose))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 << 10, "kilobytes of memory for a few hundred bytes of input"


@pytest.mark.parametrize("name", TARGETS)
def test_noise(name: str) -> None:
    choose = random.Random(name)
    for size in range(0, 300, 7):
        survive(name, choose.randbytes(size))
