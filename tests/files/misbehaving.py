"""A server that answers as it should not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CONTENT = bytes(range(256)) * 400  # 102 400 bytes
HALF = len(CONTENT) // 2
PLAIN = "application/octet-stream"

Answer = Callable[[socket.socket, bytes], None]  # the connection, and the request that came over it


def head(status: str = "200 OK", length: int | str | None = len(CONTENT), kind: str = PLAIN, **more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"Content-Length: {length}"] if length is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(content: bytes, *, end: bool) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content) + (b"0\r\n\r\n" if end else b"")


def endless(connection: socket.socket, request: bytes) -> None:
    connection.sendall(head(length=None))
    while True:
        connection.sendall(bytes(2**16))


def silent(connection: socket.socket, request: bytes) -> None:
    connection.sendall(head() + CONTENT[:HALF])
    connection.recv(1)  # until the other side gives up


def says(answer: bytes) -> Answer:
    return lambda connection, request: connection.sendall(answer)


MISBEHAVIOURS: dict[str, tuple[Answer, str]] = {
    "cut": (says(head() + CONTENT[:HALF]), "was cut short: 51200 of 102400 bytes came"),
    "short": (says(head(length=HALF) + CONTENT[:HALF]), "has 51200 bytes, expected 102400"),
    "cut in a chunk": (
        says(head(length=None, Transfer_Encoding="chunked") + chunked(CONTENT[:HALF], end=True)[: HALF // 2]),
        "broke off",
    ),
    "short, in chunks": (
        says(head(length=None, Transfer_Encoding="chunked") + chunked(CONTENT[:HALF], end=True)),
        "has 51200 bytes, expected 102400",
    ),
    "short, of no announced length": (says(head(length=None) + CONTENT[:HALF]), "has 51200 bytes, expected 102400"),
    "empty": (says(head(length=0)), "has 0 bytes, expected 102400"),
    "nothing": (says(b""), "cannot be reached"),
    "no http": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "cannot be reached"),
    "gzip": (says(head(Content_Encoding="gzip") + CONTENT), "answered in gzip encoding"),
    "web page": (says(head(kind="text/html; charset=utf-8") + CONTENT), "answered with a web page"),
    "too long": (says(head(length=2**40)), "has 1099511627776 bytes, expected 102400"),
    "a length that is none": (says(head(length="-5")), "announces a length of '-5' bytes"),
    "endless": (endless, "sends more than the expected 102400 bytes"),
    "silent": (silent, "broke off"),
    "other bytes": (says(head() + CONTENT[::-1]), "has other bytes than expected"),
    "missing": (says(head("404 Not Found", 0)), "answered 404 Not Found"),
    "broken": (says(head("503 Busy", 0)), "answered 503 Busy"),
    "in a circle": (says(head("302 Found", 0, Location="/again")), "answered 302"),
}


@contextmanager
def serve(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that treats every connection so, and the requests that it got."""
    requests: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                requests.append(connection.recv(2**16))
                answer(connection, requests[-1])
            except OSError:  # the other side has gone
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/file.bin", requests
        listening.shutdown(socket.SHUT_RDWR)
