"""The one place where errors become gRPC status codes."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from fedcore.core.errors import FedcoreError
from fedcore.protos.faults import status_of
from fedcore.protos.wire import ERROR_KEY

MAX_DETAIL = 1000  # bytes; in the header a byte may become three, and peers refuse headers above 8 KiB


class ErrorInterceptor(aio.ServerInterceptor):
    """If a call raises a FedcoreError, abort it with the error's status code, message and class name.

    Behaviours are coroutines: streaming ones write to the context, so that every write can have a time limit.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wrap a handler of any kind."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler
        if handler.response_streaming:
            wrapped = _guarded(handler.stream_stream or handler.unary_stream)
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            wrapped = _guarded(handler.stream_unary or handler.unary_unary)
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


async def _abort(context: Any, error: FedcoreError) -> None:
    message = str(error).encode()
    if len(message) > MAX_DETAIL:
        message = message[: MAX_DETAIL - 3] + b"..."
    detail = message.decode(errors="ignore")
    await context.abort(status_of(error), detail, ((ERROR_KEY, type(error).__name__),))


def _guarded(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except FedcoreError as error:
            await _abort(context, error)

    return call
