"""A server that answers as its script says, and transports to it."""

import contextlib
import socket
import threading

import pytest

from isthmus.runtime.transport import HttpTransport


class Server:
    """Accepts connections on loopback and answers each as ``script`` does; records the wire."""

    def __init__(self, script):
        self.script = script
        self.received = []  # bytes, by connection
        self.done = threading.Event()
        self.answered = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while not self.done.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.received.append(b"")
            with connection, contextlib.suppress(OSError):
                self.script(self, connection)
            self.answered.set()

    def read_request(self, connection):
        """Read one request whole; False when the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(1 << 16)
            if not chunk:
                return False
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            chunk = connection.recv(1 << 16)
            data, body = data + chunk, body + chunk
        self.received[-1] += data
        return True

    def close(self):
        self.done.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


@pytest.fixture
def serve():
    servers = []

    def start(script):
        servers.append(Server(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect():
    transports = []

    def start(url):
        transports.append(HttpTransport(url))
        return transports[-1]

    yield start
    for transport in transports:
        transport.close()
