from hypothesis import given
from hypothesis import strategies as st

from fedcore.protos.convert import enrolment as wire
from fedcore.protos.v1 import enrolment_pb2
from fedcore.protos.values import EnrolmentRequest


@given(token=st.text(max_size=16), secret=st.binary(max_size=32), csr=st.binary(max_size=99), note=st.text(max_size=9))
def test_a_request_arrives_as_it_was_said(token: str, secret: bytes, csr: bytes, note: str) -> None:
    value = EnrolmentRequest(token=token, secret=secret, csr=csr, note=note)
    data = wire.request_to_pb(value).SerializeToString()
    assert wire.request_from_pb(enrolment_pb2.EnrolRequest.FromString(data)) == value


@given(st.binary(max_size=99))
def test_a_certificate_arrives_as_it_was_sent(certificate: bytes) -> None:
    data = wire.response_to_pb(certificate).SerializeToString()
    assert wire.response_from_pb(enrolment_pb2.EnrolResponse.FromString(data)) == certificate


def test_a_secret_is_not_shown() -> None:
    value = EnrolmentRequest(token="id", secret=b"hush", csr=b"request")
    assert "hush" not in repr(value)
