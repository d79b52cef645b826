import asyncio
import gc
import threading
import weakref

import pytest

from isthmus.edge import worker as worker_module
from isthmus.edge.worker import Worker
from isthmus.errors import BusyError


def test_jobs_run_one_at_a_time_in_order_and_tell_their_wait(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(worker_module, "now_s", lambda: clock[0])

    async def scenario():
        worker, release, ran = Worker("test", longest_queue=8), threading.Event(), []

        def first():
            release.wait(60)
            clock[0] += 7
            ran.append("first")
            return threading.current_thread()

        jobs = [asyncio.create_task(worker.run(first))]
        jobs += [asyncio.create_task(worker.run(lambda k=k: ran.append(k))) for k in range(3)]
        await asyncio.sleep(0)
        assert worker.queue_length == 4
        release.set()
        results = await asyncio.gather(*jobs)
        assert ran == ["first", 0, 1, 2]
        assert results[0][0] is not threading.main_thread()
        assert [waited_s for _, waited_s in results] == [0, 7, 7, 7]
        assert worker.queue_length == 0
        worker.close()

    asyncio.run(scenario())


def test_one_job_too_many_is_refused_and_the_next_is_not():
    async def scenario():
        worker, release = Worker("test", longest_queue=2), threading.Event()
        jobs = [asyncio.create_task(worker.run(lambda: release.wait(60))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="2 requests are waiting"):
            await worker.run(lambda: None)
        release.set()
        await asyncio.gather(*jobs)
        assert (await worker.run(lambda: 5))[0] == 5
        worker.close()

    asyncio.run(scenario())


def test_a_job_whose_caller_is_gone_is_dropped_with_all_it_holds():
    class Held:
        def __call__(self):
            raise AssertionError("it must not run")

    async def scenario():
        worker, release = Worker("test", longest_queue=8), threading.Event()
        first = asyncio.create_task(worker.run(lambda: release.wait(10)))
        held = Held()
        is_there = weakref.ref(held)
        second = asyncio.create_task(worker.run(held))
        del held
        await asyncio.sleep(0)
        assert worker.queue_length == 2
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await asyncio.sleep(0)
        assert worker.queue_length == 1
        del second
        gc.collect()
        assert is_there() is None
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert worker.queue_length == 1, "it cannot be stopped, so it counts"
        release.set()
        await worker.run(lambda: None)
        assert worker.queue_length == 0
        worker.close()

    asyncio.run(scenario())


def test_what_a_job_raises_is_raised_and_the_thread_lives_on():
    async def scenario():
        worker = Worker("test", longest_queue=2)
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 / 0)
        assert (await worker.run(lambda: 5))[0] == 5
        worker.close()

    asyncio.run(scenario())


def test_the_load_is_the_busy_share_of_the_last_seconds(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(worker_module, "now_s", lambda: clock[0])

    async def scenario():
        worker, release = Worker("test", longest_queue=2), threading.Event()
        clock[0] += 10
        assert worker.load_ratio == 0
        job = asyncio.create_task(worker.run(lambda: release.wait(60)))
        await asyncio.sleep(0)
        clock[0] += 60
        assert worker.load_ratio == pytest.approx(1, abs=1e-4)
        release.set()
        await job
        clock[0] += 5
        assert worker.load_ratio == pytest.approx(0.368, abs=0.001)
        worker.close()

    asyncio.run(scenario())
