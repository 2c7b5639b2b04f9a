"""Enrolment over gRPC: a separate port for machines that have a join token and no certificate yet."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.contract.profile import NAME
from fedcore.core.errors import CertificateError
from fedcore.protos.convert import enrolment as wire
from fedcore.protos.service import EnrolmentServicer, add_EnrolmentServicer_to_server
from fedcore.protos.values import EnrolmentRequest
from fedcore.server.members.interceptor import ErrorInterceptor
from fedcore.server.process.listening import listen
from fedcore.storage.pki.authority import load_signer
from fedcore.storage.pki.certificates import TlsMaterial, certified_identity
from fedcore.storage.pki.tokens import UNKNOWN, redeem

REFUSAL_S = 0.5  # before a refusal, so that guessing tokens takes time
UNKNOWN_TOKEN_S = 60.0  # between two messages about unknown tokens
MAX_CALLS = 64  # at once; gRPC refuses further calls, and callers try again
MAX_REQUEST_BYTES = 8 << 10
GRACE_S = 3.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", MAX_REQUEST_BYTES),
    ("grpc.max_connection_idle_ms", 30_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.so_reuseport", 0),
)


class EnrolmentService(EnrolmentServicer):
    """Redeems join tokens of the authority in `certs`. `say` prints which machine has enrolled."""

    def __init__(self, certs: Path, say: Callable[[str], None]) -> None:
        """Serve the authority in `certs`."""
        self._certs = certs
        self._say = say
        self._unknown_again_s = -math.inf

    async def Enrol(self, request: Any, context: Any) -> Any:
        """Return a certificate for a token; every refusal is a CertificateError and takes REFUSAL_S seconds."""
        value = wire.request_from_pb(request)
        try:
            certificate = await asyncio.to_thread(_redeemed, self._certs, value)
        except CertificateError as error:
            self._say_refusal(str(error))
            await asyncio.sleep(REFUSAL_S)
            raise
        identity = certified_identity(certificate)
        self._say(f"enrolled {value.note or 'a machine'} as {identity}, serial {identity.serial:x}")
        return wire.response_to_pb(certificate.public_bytes(Encoding.DER))

    def _say_refusal(self, refusal: str) -> None:
        """Print a refusal; for unknown tokens at most once a minute, because any machine can send many of them."""
        now_s = asyncio.get_running_loop().time()
        if refusal == UNKNOWN:
            if now_s < self._unknown_again_s:
                return
            self._unknown_again_s = now_s + UNKNOWN_TOKEN_S
        self._say(f"enrolment refused: {refusal}")


def _redeemed(certs: Path, value: EnrolmentRequest) -> x509.Certificate:
    note = value.note if NAME.fullmatch(value.note) else ""
    return redeem(certs, value.token, value.secret, value.csr, note=note)


@asynccontextmanager
async def serving_enrolment(
    certs: Path, where: str, tls: TlsMaterial, say: Callable[[str], None]
) -> AsyncIterator[str]:
    """Serve enrolment at HOST:PORT `where` and yield its address. The server shows `tls`; callers need no certificate.

    Raises CertificateError if `certs` lacks the authority's key, RunError if the port is not available.
    """
    load_signer(certs)
    server = grpc.aio.server(
        options=list(_OPTIONS), interceptors=[ErrorInterceptor()], maximum_concurrent_rpcs=MAX_CALLS
    )
    add_EnrolmentServicer_to_server(EnrolmentService(certs, say), server)
    address = await listen(server, where, tls, remedy="choose another with --enrol HOST:PORT", ask_certificate=False)
    say(f"enrolling on {address}")
    try:
        yield address
    finally:
        await server.stop(GRACE_S)
