"""Enrol this machine: make a key, send its signing request with the join token, and store the certificate."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc

from fedcore.core.errors import FedcoreError, TransportError
from fedcore.protos.convert import enrolment as wire
from fedcore.protos.service import EnrolmentStub
from fedcore.protos.values import EnrolmentRequest
from fedcore.protos.wire import CHANNEL_OPTIONS
from fedcore.storage.pki.device_key import begin_enrolment, finish_enrolment, signing_request
from fedcore.storage.pki.pem_files import certificate_pem
from fedcore.storage.pki.token_text import JoinToken
from fedcore.transport.reaching import fault_error

ANSWER_S = 15.0  # for one try, including the connection
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


async def enrol(
    target: str,
    token: JoinToken,
    folder: Path,
    name: str,
    *,
    replace: bool = False,
    wait_s: float = 60.0,
    say: Callable[[str], None],
) -> Path:
    """Enrol at HOST:PORT `target` and return the path of NAME.pem in `folder`, with NAME.key and ca.pem beside it.

    Trusts only the authority in the token. Retries for `wait_s` seconds while no server answers; an interrupted try, of
    this process or an earlier one, continues with the same key. Raises CertificateError where the token is refused or
    the folder cannot be used, TransportError where no server answered.
    """
    key = begin_enrolment(folder, name, token, replace=replace)
    request = EnrolmentRequest(token=token.id, secret=token.secret, csr=signing_request(key, name), note=name)
    der = await _answered(target, certificate_pem(token.ca), request, wait_s, say)
    return finish_enrolment(folder, name, token, key, der)


async def _answered(
    target: str, ca: bytes, request: EnrolmentRequest, wait_s: float, say: Callable[[str], None]
) -> bytes:
    loop = asyncio.get_running_loop()
    until_s, pause_s, last_error = loop.time() + wait_s, FIRST_PAUSE_S, ""
    while True:
        try:
            return await _ask(target, ca, request)
        except TransportError as error:
            if loop.time() + pause_s > until_s:
                raise TransportError(
                    f"{error}; gave up after {wait_s:g} s: is `fedcore serve --enrol` running, and is this its port?"
                ) from None
            if str(error) != last_error:
                last_error = str(error)
                say(f"{error}; trying again for up to {wait_s:g} s")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _ask(target: str, ca: bytes, request: EnrolmentRequest) -> bytes:
    credentials = grpc.ssl_channel_credentials(root_certificates=ca)
    async with grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS) as channel:
        try:
            return wire.response_from_pb(
                await EnrolmentStub(channel).Enrol(wire.request_to_pb(request), timeout=ANSWER_S)
            )
        except grpc.aio.AioRpcError as fault:
            raise _fault(fault, target) from None


def _fault(fault: grpc.aio.AioRpcError, target: str) -> FedcoreError:
    if fault.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TransportError(f"{target}: too many machines enrol at once")
    return fault_error(fault, target)
