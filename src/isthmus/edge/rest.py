"""REST: a thin translation between HTTP and the data plane. The only importer of starlette.

It puts work on the worker's queue, drops it again for clients that go away, and turns errors into
statuses with ``{"error": "..."}``. It decides nothing about models.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.edge.bodies import Bodies
from isthmus.edge.data_plane import DataPlane
from isthmus.edge.measuring import measure
from isthmus.edge.worker import Worker
from isthmus.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    BusyError,
    CodecError,
    CutError,
    GraphMismatchError,
    ImageError,
    IsthmusError,
    ProtocolError,
    RepositoryError,
)
from isthmus.runtime.clock import now_s
from isthmus.runtime.protocol import format_server_timing, pack_reply, unpack_request

__all__ = ["application"]

T = TypeVar("T")

_STATUSES: tuple[tuple[type[IsthmusError], int], ...] = (
    (BodyTooLargeError, 413),  # before their parent
    (BodyTooSlowError, 408),
    (ProtocolError, 400),
    (CodecError, 400),
    (ImageError, 400),
    (GraphMismatchError, 409),  # before its parent
    (CutError, 400),
    (RepositoryError, 404),
    (BusyError, 503),
)
"""Status of each error; of all others 500."""

_SMALL_BODY_BYTES = 1 << 20  # for requests that hold no tensors
_CLIENT_IS_GONE = Response(status_code=400)  # nobody reads it

_log = logging.getLogger("isthmus.edge")

_Endpoint = Callable[[Request], Awaitable[Response]]


def application(
    plane: DataPlane, worker: Worker, loader: Worker, bodies: Bodies, *, max_body_bytes: int
) -> Starlette:
    """Return the ASGI application.

    Args:
        plane: Answers.
        worker: Runs inferences, one at a time.
        loader: Loads tails, one at a time.
        bodies: Holds what requests send until they are answered.
        max_body_bytes: Largest body of a request.
    """
    api = _Api(plane, worker, loader, bodies, max_body_bytes)
    model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    routes = [
        ("POST", f"{model}/infer", api.infer),
        ("POST", f"{version}/infer", api.infer),
        ("GET", "/v2/isthmus/status", api.status),
        ("GET", "/v2/health/live", api.live),
        ("GET", "/v2/health/ready", api.ready),
        ("GET", "/v2", api.metadata),
        ("GET", model, api.model_metadata),
        ("GET", version, api.model_metadata),
        ("GET", f"{model}/ready", api.model_ready),
        ("GET", f"{version}/ready", api.model_ready),
        ("POST", "/v2/repository/index", api.index),
        ("POST", "/v2/isthmus/models/{model}/cuts", api.cuts),
        ("POST", "/v2/isthmus/models/{model}/measure", api.measure),
    ]
    app = Starlette(
        routes=[
            Route(path, _naming_errors(endpoint), methods=[method])
            for method, path, endpoint in routes
        ],
        exception_handlers={HTTPException: _refusal},
    )
    app.router.redirect_slashes = False
    return app


class _Api:
    """The endpoints."""

    def __init__(
        self,
        plane: DataPlane,
        worker: Worker,
        loader: Worker,
        bodies: Bodies,
        max_body_bytes: int,
    ) -> None:
        self._plane = plane
        self._worker = worker
        self._loader = loader
        self._bodies = bodies
        self._max_body_bytes = max_body_bytes

    async def infer(self, request: Request) -> Response:
        name, version = _model(request)
        async with self._body(request, self._max_body_bytes) as body:
            return await self._answered(request, name, version, body)

    async def _answered(
        self, request: Request, name: str, version: str, body: bytearray
    ) -> Response:
        received_at_s = now_s()
        self._plane.unit(name, version)  # an unknown model need not wait for its turn

        def job() -> tuple[dict[str, float], dict[str, str], bytes]:
            started_at_s = now_s()
            message = unpack_request(request.headers, body)
            unpacked_s = now_s() - started_at_s
            answer = self._plane.infer(name, version, message)
            binary = message.binary_outputs([tensor.name for tensor in answer.reply.outputs])
            headers, content = pack_reply(answer.reply, binary=binary)
            spent_s = {"decode": unpacked_s + answer.decode_s, "infer": answer.infer_s}
            return spent_s, headers, content

        is_waiting = self._worker.queue_length > 0  # else it runs before the client can go away
        work = self._worker.run(job)
        done = await (_for_client(request, work) if is_waiting else work)
        (spent_s, headers, content), queue_s = done
        durations_s = {"queue": queue_s, **spent_s, "total": now_s() - received_at_s}
        headers["Server-Timing"] = format_server_timing(durations_s)
        return Response(content, headers=headers)

    async def metadata(self, request: Request) -> Response:
        return JSONResponse(self._plane.metadata())

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        if not self._plane.is_ready:
            raise BusyError("models are still being loaded")
        return JSONResponse({"ready": True})

    async def model_metadata(self, request: Request) -> Response:
        return JSONResponse(self._plane.model_metadata(*_model(request)))

    async def model_ready(self, request: Request) -> Response:
        unit = self._plane.unit(*_model(request))
        return JSONResponse({"name": unit.name, "ready": True})

    async def index(self, request: Request) -> Response:
        async with self._body(request, _SMALL_BODY_BYTES):
            return JSONResponse(self._plane.index())

    async def status(self, request: Request) -> Response:
        return JSONResponse(
            {
                "models": self._plane.status(),
                "queue_length": self._worker.queue_length,
                "load_ratio": round(self._worker.load_ratio, 4),
            }
        )

    async def cuts(self, request: Request) -> Response:
        cut = await self._json_object(request)
        name, _ = _model(request)
        made = self._plane.known_cut(name, cut)
        if made is None:
            made, _ = await self._loader.run(lambda: self._plane.make_cut(name, cut))
        return JSONResponse(made)

    async def measure(self, request: Request) -> Response:
        wanted = await self._json_object(request)
        work = measure(self._worker, self._plane.unit(*_model(request)), wanted)
        return JSONResponse(await _for_client(request, work))

    @asynccontextmanager
    async def _body(self, request: Request, limit_bytes: int) -> AsyncIterator[bytearray]:
        """Hold a request's body.

        Raises:
            HTTPException: 415 if it is compressed as a whole.
            IsthmusError: As ``Bodies.read``.
        """
        request.state.is_body_left = True
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "a body must not be compressed as a whole; tensors may be")
        declared = request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit_bytes:
            raise BodyTooLargeError(f"the body is larger than {limit_bytes} bytes")
        async with self._bodies.read(request.stream(), limit_bytes=limit_bytes) as body:
            request.state.is_body_left = False
            yield body

    async def _json_object(self, request: Request) -> dict[str, Any]:
        async with self._body(request, _SMALL_BODY_BYTES) as body:
            return _json_object(body)


def _model(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


async def _for_client(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await work whose body has come whole, or drop it as soon as the client goes away.

    Raises:
        ClientDisconnect: If it does. What the work raises is raised too.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.ensure_future(request.receive())  # there is nothing left to receive but that
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _json_object(body: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(str(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError("the body must be a JSON object")
    return value


def _naming_errors(endpoint: _Endpoint) -> _Endpoint:
    """Turn whatever an endpoint raises into a reply that says what is wrong."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except ClientDisconnect:
            return _CLIENT_IS_GONE
        except asyncio.CancelledError:  # this is the task's outermost frame but for the framework
            return _error(503, "the server is stopping")
        except IsthmusError as error:
            status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
            if status == 500:
                _log.error("%s %s: %s", request.method, request.url.path, error)
            return _closing(request, _error(status, str(error)))
        except Exception as error:  # noqa: BLE001  the server lives on, and its log says why
            _log.exception("%s %s", request.method, request.url.path)
            return _error(500, f"internal error: {type(error).__name__}; the server's log has more")

    return answer


def _error(status: int, text: str) -> Response:
    # In ASCII: what a stranger sent may be quoted, and half a surrogate pair has no UTF-8.
    return Response(json.dumps({"error": text}), status, media_type="application/json")


async def _refusal(request: Request, error: Exception) -> Response:
    """Answer what starlette itself refuses: unknown paths, wrong methods, compressed bodies."""
    assert isinstance(error, HTTPException)
    reply = _error(error.status_code, error.detail)
    reply.headers.update(error.headers or {})
    return _closing(request, reply)


def _closing(request: Request, reply: Response) -> Response:
    """Have the connection end where the rest of a body is still to come: it will not be read."""
    if getattr(request.state, "is_body_left", False):
        reply.headers["Connection"] = "close"
    return reply
