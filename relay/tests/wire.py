"""A wire to a server that tests can hold and cut."""

import contextlib
import socket
import threading


class Wire:
    """Forwards connections of a port of this machine to another. While `holding` nothing reaches the server."""

    def __init__(self, host, port):
        self._target = (host, port)
        self._open = threading.Event()
        self._open.set()
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        self._open.clear()

    def cut(self):
        """Every connection breaks, what was held is lost; new ones are let through."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()
        self._open.set()

    def close(self):
        self._listener.close()
        self.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink, held in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._forward, args=(source, sink, held), daemon=True).start()

    def _forward(self, source, sink, held):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if held:
                    self._open.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
