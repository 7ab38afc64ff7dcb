"""Ten thousand devices read page by page while others write: each is seen once."""

import concurrent.futures
import threading

import pytest

from hub import LocalHub
from judges import HUB_SDK
from test_queries import ask, every_row

operation = pytest.mark.operation
pytestmark = [pytest.mark.sdk(HUB_SDK), pytest.mark.local_only("fills a hub with ten thousand devices")]

COUNT = 10_000
WRITERS = 3


def bulk(hub, entries):
    answer = hub.https.post("/devices", entries)
    assert answer.status == 200, answer


@pytest.fixture
def new_crowd():
    """Makes a hub with devices `d00000` and so on, which stay, and room between them for some that do not."""
    made = []

    def make(count):
        hub = LocalHub()
        made.append(hub)
        entries = [{"id": f"d{n:05}", "importMode": "create", "tags": {"stays": True, "n": n}} for n in range(count)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda start: bulk(hub, entries[start : start + 100]), range(0, count, 100)))
        return hub

    yield make
    for hub in made:
        hub.discard()


class Writers:
    """Threads that patch the devices that stay, and register and delete others between them, until told to stop."""

    def __init__(self, hub):
        self.hub = hub
        self.over = threading.Event()
        self.writes = 0
        self.pool = concurrent.futures.ThreadPoolExecutor(WRITERS)

    def __enter__(self):
        self.running = [self.pool.submit(self._write, number) for number in range(WRITERS)]
        return self

    def __exit__(self, *_):
        self.over.set()
        for running in self.running:
            running.result()
        self.pool.shutdown()

    def _write(self, writer):
        step = 0
        while not self.over.is_set():
            step += 1
            device = f"d{(step * 7919 + writer * 37) % COUNT:05}"
            bulk(self.hub, [{"id": device, "importMode": "updateTwin", "tags": {"touched": step}}])
            passing = [f"{device}-{writer}-{number}" for number in range(20)]
            bulk(self.hub, [{"id": name, "importMode": "create", "tags": {"passing": True}} for name in passing])
            bulk(self.hub, [{"id": name, "importMode": "delete"} for name in passing])
            self.writes += 41


@operation("query: paging")
@pytest.mark.timeout(300)
def test_pages_miss_none_and_repeat_none_while_writers_run(new_crowd):
    hub = new_crowd(COUNT)
    for text in (
        "SELECT * FROM devices WHERE tags.stays = true",
        "SELECT deviceId FROM devices",
        "SELECT deviceId, tags.n FROM devices WHERE tags.stays = true ORDER BY tags.n DESC",
    ):
        with Writers(hub) as writers:
            rows, sizes = every_row(hub.registry, text, page=1000)
            written = writers.writes
        seen = [row.device_id for row in rows]
        staying = [name for name in seen if "-" not in name]
        assert len(seen) == len(set(seen)), "none is repeated"
        assert sorted(staying) == [f"d{n:05}" for n in range(COUNT)], "none is missed"
        assert len(sizes) >= 10
        assert written > 0, "something was written meanwhile"


@operation("query: projections and aggregates")
def test_a_count_holds_at_one_point_in_time(new_crowd):
    """Devices move from one half to the other all the time, and the halves always add up."""
    count = 2000
    hub = new_crowd(count)
    text = "SELECT tags.half AS half, COUNT() AS n FROM devices WHERE tags.stays = true GROUP BY tags.half"
    over = threading.Event()

    def move():
        step = 0
        while not over.is_set():
            step += 1
            ids = [f"d{(step * 100 + n) % count:05}" for n in range(50)]
            bulk(hub, [{"id": name, "importMode": "updateTwin", "tags": {"half": step % 2}} for name in ids])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        try:
            for _ in range(20):
                rows = ask(hub.registry, text).items
                assert sum(row.additional_properties["n"] for row in rows) == count
        finally:
            over.set()
        moving.result()
