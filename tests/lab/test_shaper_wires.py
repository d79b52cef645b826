"""The emulated link's wires in virtual time: exact, however busy the machine is."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from collections.abc import AsyncIterator

import pytest

from isthmus.lab import shaper
from isthmus.lab.link_shape import checked_shape
from isthmus.lab.shaper import _pump, _Relay, _Wire

MBIT = 1e6
EXACT_S = 0.0005


class VirtualTime(selectors.SelectSelector):
    """Waits for nothing: where nobody is ready, time moves on to the next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for everybody"
            self.now += max(timeout, 1e-6)  # for those that poll
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is its selector's."""

    def __init__(self) -> None:
        self.clock = VirtualTime()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


@pytest.fixture
def run(monkeypatch):
    """Run a coroutine in virtual time."""
    monkeypatch.setattr(shaper, "_POLL_S", 0.0)

    def run_it(coroutine):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run_it


def relay_of(bits_per_s: float, rtt_s: float, downlink_bits_per_s: float | None = None) -> _Relay:
    relay = _Relay(("", 0), _Wire(), _Wire())
    relay.shape(checked_shape(bits_per_s, downlink_bits_per_s, rtt_s))
    return relay


@contextlib.asynccontextmanager
async def connection(relay: _Relay) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """Join a client and a server by the relay's wires."""
    client, near = socket.socketpair()
    far, server = socket.socketpair()
    with client, near, far, server:
        for end in (client, near, far, server):
            end.setblocking(False)
        pumps = [
            asyncio.create_task(_pump(near, far, relay.up)),
            asyncio.create_task(_pump(far, near, relay.down)),
        ]
        yield client, server
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def carried_s(source: socket.socket, target: socket.socket, size_bytes: int) -> float:
    """Send bytes and return when the last of them arrives, seconds."""
    loop = asyncio.get_running_loop()
    begun_at_s = loop.time()
    sending = asyncio.create_task(loop.sock_sendall(source, bytes(size_bytes)))
    left = size_bytes
    while left:
        left -= len(await loop.sock_recv(target, left))
    await sending
    return loop.time() - begun_at_s


@pytest.mark.parametrize(
    ("mbit_per_s", "size_bytes"),
    [(1, 1), (1, 700), (1, 30_000), (4, 150_000), (16, 300_000), (64, 600_000), (400, 2_000_000)],
)
def test_takes_the_time_of_its_rate_and_half_a_round_trip(run, mbit_per_s, size_bytes):
    async def scenario():
        relay = relay_of(mbit_per_s * MBIT, 0.040)
        async with connection(relay) as (client, server):
            up_s = await carried_s(client, server, size_bytes)
            down_s = await carried_s(server, client, size_bytes)
        assert relay.up.carried_bytes == relay.down.carried_bytes == size_bytes
        return up_s, down_s

    ideal_s = size_bytes * 8 / (mbit_per_s * MBIT) + 0.020
    assert run(scenario()) == pytest.approx((ideal_s, ideal_s), abs=EXACT_S)


def test_the_two_directions_have_rates_of_their_own(run):
    async def scenario():
        async with connection(relay_of(64 * MBIT, 0.0, 2 * MBIT)) as (client, server):
            return (
                await carried_s(client, server, 50_000),
                await carried_s(server, client, 50_000),
            )

    assert run(scenario()) == pytest.approx((0.00625, 0.2), abs=EXACT_S)


def test_connections_share_one_wire(run):
    async def scenario():
        relay = relay_of(8 * MBIT, 0.0)
        async with connection(relay) as first, connection(relay) as second:
            return await asyncio.gather(carried_s(*first, 100_000), carried_s(*second, 100_000))

    both_s = run(scenario())
    assert max(both_s) == pytest.approx(0.2, abs=EXACT_S)
    assert min(both_s) > 0.18, "they take turns"


def test_rate_and_delay_change_while_it_runs(run):
    async def scenario():
        relay = relay_of(100 * MBIT, 0.0)
        async with connection(relay) as (client, server):
            took_s = [await carried_s(client, server, 25_000)]
            for bits_per_s, rtt_s in ((2 * MBIT, 0.0), (2 * MBIT, 0.060), (100 * MBIT, 0.0)):
                relay.shape(checked_shape(bits_per_s, None, rtt_s))
                took_s.append(await carried_s(client, server, 25_000))
            return took_s

    assert run(scenario()) == pytest.approx([0.002, 0.1, 0.13, 0.002], abs=EXACT_S)


def test_what_is_under_way_arrives_as_it_would_have(run):
    async def scenario():
        relay = relay_of(1 * MBIT, 0.200)
        async with connection(relay) as (client, server):
            arriving = asyncio.create_task(carried_s(client, server, 1000))
            await asyncio.sleep(0.050)
            relay.shape(checked_shape(100 * MBIT, None, 0.0))
            return await arriving

    assert run(scenario()) == pytest.approx(0.108, abs=EXACT_S)


def test_bytes_are_read_no_sooner_than_the_wire_can_take_them(run):
    async def scenario():
        relay = relay_of(1 * MBIT, 0.0)
        async with connection(relay) as (client, server):
            sending = asyncio.create_task(carried_s(client, server, 100_000))
            await asyncio.sleep(0.1)
            carried = relay.up.carried_bytes
            await sending
            return carried

    ahead = shaper._QUEUE_S + 2 * shaper._CHUNK_BYTES[0] / (MBIT / 8)
    assert 12_500 <= run(scenario()) <= (0.1 + ahead) * MBIT / 8
