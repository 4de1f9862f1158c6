"""Cold storms: one compiles, the others wait, whoever dies is replaced, nobody waits too long."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casinductor.store.leads import Lead
from casinductor.storm.leader import BEAT_SECONDS
from casinductor.storm.waiting import ALONE, team_of
from casinductor.storm.watch import Watch
from tests.simulation.storm import Storm

#: A leader is dead after four beats; a look comes every five seconds at the latest.
NOTICED = 4 * BEAT_SECONDS + 5.0 + 2.0


def crowd(storm: Storm, workers: int, within: float, seed: int = 0) -> Storm:
    arrivals = random.Random(seed)
    for _ in range(workers):
        storm.arrive(arrivals.uniform(0, within))
    return storm.run()


@pytest.mark.parametrize("seed", range(5))
def test_of_a_thousand_workers_one_compiles(seed: int) -> None:
    storm = crowd(Storm(60.0, 300.0, seed=seed), 1000, 10.0, seed)
    assert storm.compiles == 1
    assert storm.compiled == pytest.approx(60.0)
    assert max(storm.waits) < 60.0 + 7.0


@pytest.mark.parametrize("seed", range(5))
def test_leaders_that_die_are_replaced_one_by_one(seed: int) -> None:
    storm = crowd(Storm(60.0, 600.0, deaths=0.5, seed=seed), 1000, 10.0, seed)
    assert storm.warm
    assert storm.compiles == storm.died + 1
    assert storm.compiled <= 60.0 * storm.compiles
    assert max(storm.waits) <= 60.0 + 7.0 + storm.died * (60.0 + NOTICED)


def test_nobody_waits_longer_than_allowed() -> None:
    storm = crowd(Storm(1000.0, 30.0), 50, 5.0)
    assert max(storm.waits) < 30.0 + 1.0
    assert storm.compiles == 50, "whose time is up compiles"


def test_who_comes_later_to_a_warm_cache_waits_for_nobody() -> None:
    storm = Storm(60.0, 300.0)
    storm.arrive(0.0)
    for late in range(20):
        storm.arrive(100.0 + late)
    storm.run()
    assert storm.compiles == 1
    assert sum(storm.waits) < 1.0


def test_processes_of_one_job_compile_together() -> None:
    storm = Storm(60.0, 300.0)
    for rank in range(8):
        storm.arrive(0.1 * rank, team="ab" * 4)
    storm.arrive(2.0)
    storm.run()
    assert storm.compiles == 8, "each rank has code of its own"
    assert sorted(storm.waits)[-2] < 5.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 30), min_size=1, max_size=12),
    st.floats(1, 90),
    st.floats(1, 200),
    st.floats(0, 1),
    st.integers(0, 2**16),
)
def test_whatever_happens_all_go_on(
    arrivals: list[float], compiling: float, limit: float, deaths: float, seed: int
) -> None:
    storm = Storm(compiling, limit, deaths=deaths, seed=seed)
    for moment in arrivals:
        storm.arrive(moment)
    storm.run()
    assert len(storm.waits) == len(arrivals)
    assert max(storm.waits) <= limit + 1.5
    assert storm.compiles <= len(arrivals)


class Script(random.Random):
    """Stands where a storm asks for chance: two answers a question, as ``bits`` say, then the
    second: late, alive.
    """

    def __init__(self, bits: tuple[int, ...]) -> None:
        super().__init__()
        self.bits = list(bits)

    def random(self) -> float:
        return 0.95 if not self.bits or self.bits.pop(0) else 0.05

    def uniform(self, a: float, b: float) -> float:
        return b if self.random() > 0.5 else a


@pytest.mark.parametrize("arrivals", [(0.0, 0.0, 0.0), (0.0, 0.1, 5.0), (0.0, 1.0, 1.1)])
def test_every_small_storm(arrivals: tuple[float, ...]) -> None:
    """All ways in which three workers' first ten steps are early or late and leaders die or not:
    each of them goes on, and nobody compiles while a leader lives.
    """
    for bits in itertools.product((0, 1), repeat=10):
        storm = Storm(20.0, 600.0, deaths=0.5)
        storm.random = Script(bits)
        for moment in arrivals:
            storm.arrive(moment)
        storm.run()
        assert len(storm.waits) == 3, bits
        assert storm.compiles == storm.died + storm.warm, bits
        assert storm.warm or storm.died == 3, bits
        assert max(storm.waits) <= 20.0 + 7.0 + storm.died * (20.0 + NOTICED), bits


def test_a_leader_lives_while_its_signs_move() -> None:
    watch = Watch("k", 10.0)

    def living(*leads: Lead, now: float) -> list[str]:
        return [lead.ulid for lead in watch.living(leads, now)]

    claim, other = Lead("2", "k", ALONE), Lead("1", "k", ALONE)
    assert living(claim, other, Lead("0", "x", ALONE), now=0) == ["1", "2"]
    assert living(Lead("2", "k", ALONE, 1), other, now=5) == ["2", "1"], "it leads already"
    assert living(Lead("2", "k", ALONE, 1), other, now=12) == ["2"], "the other is dead"
    assert living(Lead("2", "k", ALONE, 2, True), now=13) == []
    assert living(Lead("3", "k", ALONE, 99), now=10**9) == ["3"], "no clock but the looker's"


def test_teams_are_told_from_the_environment() -> None:
    assert team_of({}) == ALONE
    assert team_of({"WORLD_SIZE": "1", "SLURM_NTASKS": ""}) == ALONE
    job = {"WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert team_of(job) == team_of({**job, "RANK": "3"}) != ALONE
    assert team_of(job) != team_of({**job, "MASTER_PORT": "2"})
    assert team_of({"WORLD_SIZE": "8"}) != ALONE
