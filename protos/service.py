"""The generated service, under the names the shells use."""

from protos.v1.fleet_pb2_grpc import FleetServicer, FleetStub, add_FleetServicer_to_server

__all__ = ["FleetServicer", "FleetStub", "add_FleetServicer_to_server"]
