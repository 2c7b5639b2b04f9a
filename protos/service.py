"""The generated services under the names that the shells use; chunks bypass protobuf (`fedcore.protos.chunk`)."""

from typing import Any

import grpc

from fedcore.protos.chunk import read_get_response, read_put_request, write_message
from fedcore.protos.v1 import blob_pb2 as pb
from fedcore.protos.v1 import fleet_pb2_grpc as generated
from fedcore.protos.v1.enrolment_pb2_grpc import EnrolmentServicer, EnrolmentStub, add_EnrolmentServicer_to_server
from fedcore.protos.v1.fleet_pb2_grpc import FleetServicer

__all__ = [
    "EnrolmentServicer",
    "EnrolmentStub",
    "FleetServicer",
    "FleetStub",
    "add_EnrolmentServicer_to_server",
    "add_FleetServicer_to_server",
]

SERVICE = "fedcore.v1.Fleet"


class FleetStub(generated.FleetStub):
    """The client's side of every call; GetBlob and PutBlob handle chunks without protobuf."""

    def __init__(self, channel: Any) -> None:
        """Make calls over `channel`."""
        super().__init__(channel)
        self.GetBlob = channel.unary_stream(
            f"/{SERVICE}/GetBlob",
            request_serializer=pb.GetBlobRequest.SerializeToString,
            response_deserializer=read_get_response,
        )
        self.PutBlob = channel.stream_unary(
            f"/{SERVICE}/PutBlob",
            request_serializer=write_message,
            response_deserializer=pb.PutBlobResponse.FromString,
        )


def add_FleetServicer_to_server(servicer: FleetServicer, server: Any) -> None:
    """Serve every call of `servicer`; GetBlob and PutBlob handle chunks without protobuf."""
    transfers = {
        "GetBlob": grpc.unary_stream_rpc_method_handler(
            servicer.GetBlob,
            request_deserializer=pb.GetBlobRequest.FromString,
            response_serializer=write_message,
        ),
        "PutBlob": grpc.stream_unary_rpc_method_handler(
            servicer.PutBlob,
            request_deserializer=read_put_request,
            response_serializer=pb.PutBlobResponse.SerializeToString,
        ),
    }
    generated.add_FleetServicer_to_server(servicer, server)
    server.add_registered_method_handlers(SERVICE, transfers)
