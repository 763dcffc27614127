"""What is written in one turn of the loop is sent in one piece, in order, and before the connection closes."""

from __future__ import annotations

import asyncio

from endcap.serve.transport import Gathering


class Wire:
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.sent.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.sent


def test_head_and_body_are_one_piece() -> None:
    async def answer() -> Wire:
        wire = Wire()
        transport = Gathering(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        transport.write(b"head ")
        transport.write(b"body")
        assert wire.sent == []
        await asyncio.sleep(0)
        transport.write(b"next")
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(answer()).sent == [b"head body", b"next"]


def test_closing_sends_what_was_written_and_nothing_after() -> None:
    async def answer() -> Wire:
        wire = Wire()
        transport = Gathering(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        transport.write(b"last")
        transport.close()
        assert transport.is_closing()
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(answer()).sent == [b"last", "closed"]
