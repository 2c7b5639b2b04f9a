"""Errors across the wire: class -> status code on the way out, status -> the same class on the way in."""

import grpc

from fedcore import errors
from protos.wire import ERROR_KEY

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
    errors.RunError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TransportError: grpc.StatusCode.UNAVAILABLE,
}
_BY_NAME = {kind.__name__: kind for kind in STATUS}


def status_of(error: errors.FedcoreError) -> grpc.StatusCode:
    """Return the status code an error travels under."""
    return STATUS.get(type(error), grpc.StatusCode.UNKNOWN)


def error_of(fault: grpc.aio.AioRpcError, target: str) -> errors.FedcoreError:
    """Return the error a failed call stands for: the server's own, or TransportError naming the target."""
    for key, value in fault.trailing_metadata() or ():
        if key == ERROR_KEY and value in _BY_NAME:
            return _BY_NAME[str(value)](fault.details() or str(value))
    detail = (fault.details() or "no details").splitlines()[0]
    if fault.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.ProtocolError(f"{target}: message too large for the wire: {detail}")
    if "CERTIFICATE_VERIFY_FAILED" in detail or "Peer name" in detail or "SSL" in detail or "handshake" in detail:
        return errors.CertificateError(
            f"{target}: TLS handshake failed ({detail}); use certificates of the same authority, and a host name "
            "that the coordinator's certificate carries (fedcore certs --host)"
        )
    return errors.TransportError(f"{target}: {fault.code().name}: {detail}")
