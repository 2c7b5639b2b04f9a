"""Counts the bytes of every gRPC message, in both directions, without touching the messages."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
from grpc import aio

from fedcore.server.run.run_log import Observer

Moved = Callable[[str, int], None]  # direction, "up" or "down", and bytes


class Meter(Observer, Protocol):
    """Gets everything that a run writes, and the bytes that its server moves; must not raise."""

    def moved(self, direction: str, num_bytes: int) -> None:
        """A message of `num_bytes` bytes went "up" or "down"."""
        ...


class MeterInterceptor(aio.ServerInterceptor):
    """Calls `moved` for every message when it is decoded ("up") or encoded ("down"), where its size is at hand.

    Sizes are of encoded messages, before HTTP/2 framing and TLS.
    """

    def __init__(self, moved: Moved) -> None:
        """Call `moved` on the event loop; it must be quick and not raise."""
        self._moved = moved

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wrap decoding and encoding of any kind of call."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:  # an unknown method
            return handler
        return handler._replace(
            request_deserializer=self._decoding(handler.request_deserializer),
            response_serializer=self._encoding(handler.response_serializer),
        )

    def _decoding(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def counted(data: bytes) -> Any:
            self._moved("up", len(data))
            return decode(data)

        return counted

    def _encoding(self, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def counted(message: Any) -> bytes:
            data = encode(message)
            self._moved("down", len(data))
            return data

        return counted
