"""The edge server's process: listens, loads the models, answers until told to stop.

It prints nothing; who starts it may be told of the progress and of the moment when it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from isthmus import __version__
from isthmus.edge.bodies import Bodies
from isthmus.edge.connection import connections
from isthmus.edge.data_plane import DataPlane
from isthmus.edge.descriptors import connections_possible, telling_of_exhaustion
from isthmus.edge.residency import Residency
from isthmus.edge.rest import application
from isthmus.edge.settings import Settings
from isthmus.edge.worker import Worker
from isthmus.errors import AddressError
from isthmus.runtime.memory import keep_freed_memory
from isthmus.types.progress import SILENT, Progress

__all__ = ["serve"]

_LONGEST_QUEUE = 128  # requests; more would only wait for their deadlines to pass
_KEEP_ALIVE_S = 300  # a device asks rarely, and a new connection costs it a round trip
_FINISH_S = 10  # for requests that run when the server is told to stop
_BACKLOG = 256
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    settings: Settings,
    *,
    progress: Progress = SILENT,
    on_ready: Callable[[str, int], None] | None = None,
) -> None:
    """Serve a model repository until SIGINT or SIGTERM, then finish what runs and return.

    Requests are answered from the start, but refused until all models are loaded.

    Args:
        settings: How to serve.
        progress: Told about each model that is loaded.
        on_ready: Called once with the address, e.g. ``http://127.0.0.1:8000``, and the number
            of models.

    Raises:
        RepositoryError: If the repository cannot be read or has no models.
        AddressError: If the address cannot be listened on.
        ModelError: If a model cannot be loaded.
    """
    keep_freed_memory()
    residency = Residency(
        settings.models_dir, threads=settings.threads, max_image_pixels=settings.max_image_pixels
    )
    with contextlib.closing(_listen(settings.host, settings.port)) as listening:
        asyncio.run(_serve(settings, residency, listening, progress, on_ready))


async def _serve(
    settings: Settings,
    residency: Residency,
    listening: socket.socket,
    progress: Progress,
    on_ready: Callable[[str, int], None] | None,
) -> None:
    plane = DataPlane(residency, version=__version__)
    worker = Worker("isthmus-infer", longest_queue=_LONGEST_QUEUE)
    loader = Worker("isthmus-load", longest_queue=_LONGEST_QUEUE)
    timeout_s = settings.client_timeout_s
    bodies = Bodies(limit_bytes=settings.max_bodies_bytes, timeout_s=timeout_s)
    app = application(plane, worker, loader, bodies, max_body_bytes=settings.max_body_bytes)
    most = connections_possible(settings.max_connections)
    asyncio.get_running_loop().set_exception_handler(telling_of_exhaustion())
    server = _Server(
        uvicorn.Config(
            app,
            http=connections(most=most, timeout_s=timeout_s),
            backlog=_BACKLOG,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_FINISH_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    address = _address(listening)
    try:
        loading = asyncio.create_task(loader.run(lambda: residency.load_all(progress)))
        await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
        residency.stop()
        await loading
        if residency.is_ready and not server.should_exit and on_ready is not None:
            on_ready(address, len(residency.models))
        await serving
    finally:
        server.should_exit = True
        residency.stop()  # also if Ctrl-C came before the server's own handler was there
        await asyncio.gather(serving, return_exceptions=True)
        loader.close()
        worker.close()


class _Server(uvicorn.Server):
    """Uvicorn that returns when told to stop, rather than raising the signal once more."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have SIGINT and SIGTERM end the server; a second SIGINT ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        AddressError: If the address is unknown, taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        # Without the protocol asyncio would not set TCP_NODELAY, and replies come 40 ms late.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        raise AddressError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}; "
            "choose another with --port or --host"
        ) from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
