"""Telling whoever waits that something happened, without a queue: they look for themselves."""

import asyncio


class Signal:
    """Take `next`, look, and await what was taken if there was nothing: so nothing that happens meanwhile is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.is_over = False

    @property
    def next(self) -> asyncio.Event:
        return self._event

    def end(self) -> None:
        """Nothing will happen any more."""
        self.is_over = True
        self.fire()

    def fire(self) -> None:
        self._event.set()
        self._event = asyncio.Event()


async def either(*events: asyncio.Event) -> None:
    """Wait until one of these happens."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
