"""The simulation of the service on the databases: what a killed service had written is all that it knows."""

import os
from random import Random

import pytest

from imagechain.store.database import open_database
from imagechain.store.migrate import migrate
from sim.conftest import quiet_logs
from sim.test_simulation import live, random_world
from sim.virtual import run_virtual
from sim.world import Faults
from store.inline import InlineStore

__all__ = ["quiet_logs"]

SEEDS = int(os.environ.get("IMAGECHAIN_SIM_STORE_SEEDS", "4"))
ONE_SEED = os.environ.get("SIMULATION_STORE_SEED")


@pytest.mark.parametrize("seed", [int(ONE_SEED)] if ONE_SEED is not None else range(SEEDS))
def test_a_faulty_world_ends_well_on_every_database(seed: int, url: str) -> None:
    random = Random(seed)  # noqa: S311 - replays by its seed
    faults = Faults(
        crash=0.01, unsure=0.2, busy=0.05, image=0.1, hook_lost=0.3, hook_doubled=0.3, hook_delay=5.0
    )
    database = open_database(url)
    with database.writing.begin() as connection:
        migrate(connection)
    store = InlineStore(database)
    try:
        world = random_world(random, faults, store=store)
        run_virtual(live(world, 1 + seed % 2, noise=True))
        assert world.crashes, "nobody was killed, so nothing was shown"
    finally:
        store.close()
