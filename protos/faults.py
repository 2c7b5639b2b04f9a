"""Errors on the wire: the sender maps a class to a status code, the receiver maps the status to the same class."""

import grpc

from fedcore.core import errors
from fedcore.protos.wire import ERROR_KEY

STATUS: dict[type[errors.FedcoreError], grpc.StatusCode] = {
    errors.ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DataError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CertificateError: grpc.StatusCode.PERMISSION_DENIED,
    errors.JoinRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BlobCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.UpdateRejected: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UpdateLate: grpc.StatusCode.ABORTED,
    errors.OutOfMemory: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RunError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TransportError: grpc.StatusCode.UNAVAILABLE,
}
_TLS_WORDS = ("CERTIFICATE_VERIFY_FAILED", "SSL_ERROR", "handshake failed", "Verification Check failed", "Peer name")
_HANG_UP_WORDS = ("Socket closed", "Connection reset", "Broken pipe")
BY_NAME = {kind.__name__: kind for kind in STATUS}


def status_of(error: errors.FedcoreError) -> grpc.StatusCode:
    """Return the status code that an error travels under."""
    return STATUS.get(type(error), grpc.StatusCode.UNKNOWN)


def error_of(fault: grpc.aio.AioRpcError, target: str) -> errors.FedcoreError:
    """Return the error that a failed call stands for; its message names `target`.

    This is the server's own error where it sent one, CertificateError where TLS failed on this side, ProtocolError
    where the two sides do not understand each other, else TransportError.
    """
    for key, value in fault.trailing_metadata() or ():
        if key == ERROR_KEY and value in BY_NAME:
            return BY_NAME[str(value)](fault.details() or str(value))
    detail = (fault.details() or "no details").splitlines()[0]
    if fault.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.ProtocolError(f"{target}: message too large for the wire: {detail}")
    if fault.code() is grpc.StatusCode.UNIMPLEMENTED:
        return errors.ProtocolError(f"{target}: no coordinator of this version ({detail}); check address and versions")
    return _unreachable(target, fault.code(), detail)


def _unreachable(target: str, code: grpc.StatusCode, detail: str) -> errors.FedcoreError:
    # gRPC distinguishes TLS failures only by the text of the detail.
    if "WRONG_VERSION_NUMBER" in detail:
        return errors.CertificateError(f"{target} does not talk TLS; give it certificates, or say --insecure here too")
    if any(word in detail for word in _TLS_WORDS):
        return errors.CertificateError(
            f"{target}: TLS handshake failed ({detail}); use certificates of the same authority, and a host name "
            "that the coordinator's certificate carries (fedcore certs --host)"
        )
    if "failed to connect" in detail and any(word in detail for word in _HANG_UP_WORDS):
        # A server that rejects our certificate just hangs up; so does a server that is shutting down.
        return errors.TransportError(
            f"{target} hung up before a word was said; if it goes on, the coordinator does not accept this side's "
            "certificate, or wants one (--certs)"
        )
    return errors.TransportError(f"{target}: {code.name}: {detail}")
