"""Enrolment: the request of a machine with a join token, and the certificate that answers it."""

from fedcore.protos.v1 import enrolment_pb2 as pb
from fedcore.protos.values import EnrolmentRequest


def request_to_pb(value: EnrolmentRequest) -> pb.EnrolRequest:
    """EnrolmentRequest value -> message."""
    return pb.EnrolRequest(token=value.token, secret=value.secret, csr=value.csr, note=value.note)


def request_from_pb(message: pb.EnrolRequest) -> EnrolmentRequest:
    """Message -> EnrolmentRequest value."""
    return EnrolmentRequest(token=message.token, secret=message.secret, csr=message.csr, note=message.note)


def response_to_pb(certificate: bytes) -> pb.EnrolResponse:
    """Certificate (DER) -> message."""
    return pb.EnrolResponse(certificate=certificate)


def response_from_pb(message: pb.EnrolResponse) -> bytes:
    """Message -> certificate (DER)."""
    return message.certificate
