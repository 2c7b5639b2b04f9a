"""What a client needs before it joins a run: its parent, the run's description, the base model."""

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
    """Return the run's description and the folder of its base model.

    A newcomer moves on to the parent that the coordinator names; the configured ones stay behind it in the list. An
    evaluator, which is no newcomer, stays where it is.
    Raises TransportError where no parent answered for `reconnect_s`.
    """
    description = await _retry(functools.partial(link.describe, newcomer), link, options)
    if newcomer is not None and description.parents:
        await link.prefer(description.parents)
        options.say(f"sent to {link.target}")
    fetch = functools.partial(base_model, link, description, options.model, options.state)
    return description, await _retry(fetch, link, options)


async def _retry(call: Callable[[], Awaitable[T]], link: Link, options: ClientOptions) -> T:
    """Return what `call` does, tried at one parent after the other until one can be reached."""
    loop = asyncio.get_running_loop()
    begin, tries, last_error = loop.time(), 0, ""
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
            if str(error) != last_error:  # once for every reason, not once a second
                last_error = str(error)
                options.say(f"{error}; trying again for up to {options.reconnect_s:g} s")
            await link.switch()
            if passed:
                await asyncio.sleep(PAUSE_S)
