"""Frames of the executor protocol on a socket: a decimal length, a line feed, and so many bytes of one JSON object.

Owns reading, writing and the bound. Refuses to know what a frame means. `write` may be called by any thread, `read`
by one at a time.
"""

from __future__ import annotations

import socket
import threading
from typing import Any, Dict, Optional

from .values import dumps, loads

#: No frame is longer.
MOST = 16 << 20


class WireError(Exception):
    """What came is no frame; nothing after it can be trusted."""


class Wire:
    """Both directions of one stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self._lock = threading.Lock()

    def write(self, frame: Dict[str, Any]) -> None:
        """Sends one frame, whole; `ValueError` or `TypeError` when it cannot be one, `OSError` when nobody reads."""
        body = dumps(frame)
        if len(body) > MOST:
            raise ValueError(f"it has {len(body)} bytes, at most {MOST} can be carried")
        data = b"%d\n%b" % (len(body), body)
        with self._lock:
            self.sock.sendall(data)

    def read(self) -> Optional[Dict[str, Any]]:
        """The next frame; `None` once the other side has closed, also in the middle of one."""
        while True:
            end = self._buffer.find(b"\n", 0, 9)
            if end >= 0:
                break
            if len(self._buffer) >= 9:
                raise WireError(f"no length: {bytes(self._buffer[:20])!r}")
            if not self._more(65536):
                return None
        length = self._length(bytes(self._buffer[:end]))
        missing = end + 1 + length - len(self._buffer)
        while missing > 0:
            got = self._more(max(missing, 65536))
            if not got:
                return None
            missing -= got
        body = bytes(self._buffer[end + 1 : end + 1 + length])
        del self._buffer[: end + 1 + length]
        try:
            frame = loads(body)
        except ValueError as error:
            raise WireError(f"a frame is no JSON: {error}") from None
        if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
            raise WireError("a frame is no object with a `type`")
        return frame

    def close(self) -> None:
        """Lets go of the socket, in this process."""
        self.sock.close()

    def _length(self, digits: bytes) -> int:
        if not digits.isdigit() or (digits[0:1] == b"0" and len(digits) > 1):
            raise WireError(f"no length: {digits!r}")
        if int(digits) > MOST:
            raise WireError(f"a frame of {int(digits)} bytes, at most {MOST} are taken")
        return int(digits)

    def _more(self, most: int) -> int:
        try:
            data = self.sock.recv(min(most, 1 << 20))
        except ConnectionError:
            return 0
        self._buffer += data
        return len(data)
