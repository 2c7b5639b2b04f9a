"""Arriving at a run: which parent, what run, which model. Everything a client needs before it joins."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from fedcore.client.device.base_model import base_model
from fedcore.client.options import ClientOptions
from fedcore.core.errors import TransportError
from fedcore.protos.values import Newcomer, RunDescription
from fedcore.transport.link import Link

T = TypeVar("T")

PAUSE_S = 1.0


async def arrive(link: Link, options: ClientOptions, newcomer: Newcomer | None = None) -> tuple[RunDescription, Path]:
    """Learn about the run and have its base model's folder.

    Who asks as a newcomer goes to the parent it is sent to, with the configured ones behind; an evaluator stays.
    Raises TransportError where no parent answered for `reconnect_s`.
    """
    description = await _reached(functools.partial(link.describe, newcomer), link, options)
    if newcomer is not None and description.parents:
        await link.prefer(description.parents)
        options.say(f"sent to {link.target}")
    fetch = functools.partial(base_model, link, description, options.model, options.state)
    return description, await _reached(fetch, link, options)


async def _reached(call: Callable[[], Awaitable[T]], link: Link, options: ClientOptions) -> T:
    """Repeat `call`, at one parent after the other, until one can be reached; every parent gets its try."""
    loop = asyncio.get_running_loop()
    begin, tries, told = loop.time(), 0, ""
    while True:
        try:
            return await call()
        except TransportError as error:
            tries += 1
            passed = tries % len(link.targets) == 0
            if passed and loop.time() - begin > options.reconnect_s:
                raise TransportError(
                    f"{error}; gave up after {options.reconnect_s:g} s: is the coordinator running and reachable?"
                ) from None
            if str(error) != told:  # once for every reason, not once a second
                told = str(error)
                options.say(f"{error}; trying again for up to {options.reconnect_s:g} s")
            await link.switch()
            if passed:
                await asyncio.sleep(PAUSE_S)
