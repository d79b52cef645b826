"""What all bodies together may hold, and for how long a client may keep it."""

import asyncio

import pytest

from isthmus.edge.bodies import LEAST_PROGRESS_BYTES, Bodies
from isthmus.errors import BodyTooLargeError, BodyTooSlowError, BusyError

LONG_S = 30.0


async def chunks(*parts):
    for part in parts:
        yield part


async def stalled(*parts):
    for part in parts:
        yield part
    await asyncio.Event().wait()


async def read(bodies, source, limit_bytes=1000):
    async with bodies.read(source, limit_bytes=limit_bytes) as body:
        return bytes(body)


def test_a_body_is_held_until_its_request_is_answered():
    async def scenario():
        bodies = Bodies(limit_bytes=100, timeout_s=LONG_S)
        async with bodies.read(chunks(b"ab", b"", b"c"), limit_bytes=3) as body:
            assert body == b"abc"
            assert bodies.held_bytes == 3
        assert bodies.held_bytes == 0

    asyncio.run(scenario())


def test_unfinished_bodies_count_and_the_one_that_goes_beyond_is_refused():
    async def scenario():
        bodies = Bodies(limit_bytes=100, timeout_s=LONG_S)
        waiting = [asyncio.create_task(read(bodies, stalled(b"x" * 40))) for _ in range(2)]
        await asyncio.sleep(0)
        assert bodies.held_bytes == 80
        with pytest.raises(BusyError, match="hold 90 bytes, of at most 100"):
            await read(bodies, chunks(b"x" * 10, b"y" * 11))
        assert bodies.held_bytes == 80, "what was refused is given back"
        assert await read(bodies, chunks(b"y" * 20)) == b"y" * 20
        for task in waiting:  # their clients go away
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert bodies.held_bytes == 0

    asyncio.run(scenario())


def test_a_body_beyond_its_own_limit_is_refused():
    bodies = Bodies(limit_bytes=100, timeout_s=LONG_S)
    with pytest.raises(BodyTooLargeError, match="larger than 3 bytes"):
        asyncio.run(read(bodies, chunks(b"ab", b"cd"), limit_bytes=3))
    assert bodies.held_bytes == 0


def test_a_client_that_stops_is_given_up():
    bodies = Bodies(limit_bytes=100, timeout_s=0.01)
    with pytest.raises(BodyTooSlowError, match="2 bytes of the body came"):
        asyncio.run(read(bodies, stalled(b"ab")))
    assert bodies.held_bytes == 0


@pytest.mark.parametrize(("size", "is_enough"), [(1, False), (LEAST_PROGRESS_BYTES // 4, True)])
def test_dripping_is_no_progress(monkeypatch, size, is_enough):
    """Each chunk comes a fifth of the time-out after the one before."""

    async def scenario():
        loop, at_s = asyncio.get_running_loop(), [0.0]
        monkeypatch.setattr(loop, "time", lambda: at_s[0])

        async def dripping():
            for _ in range(12):
                at_s[0] += 0.2 * LONG_S
                for _ in range(3):  # timers that are due run
                    await asyncio.sleep(0)
                yield b"x" * size

        bodies = Bodies(limit_bytes=1 << 20, timeout_s=LONG_S)
        return await read(bodies, dripping(), limit_bytes=1 << 20)

    if is_enough:
        assert len(asyncio.run(scenario())) == 12 * size
    else:
        with pytest.raises(BodyTooSlowError):
            asyncio.run(scenario())
