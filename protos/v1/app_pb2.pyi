from fedcore.protos.v1 import blob_pb2 as _blob_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AppTask(_message.Message):
    __slots__ = ("number", "head", "content", "deadline_s", "max_reply_bytes", "run_config")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUN_CONFIG_FIELD_NUMBER: _ClassVar[int]
    number: int
    head: bytes
    content: _blob_pb2.BlobRef
    deadline_s: float
    max_reply_bytes: int
    run_config: str
    def __init__(self, number: _Optional[int] = ..., head: _Optional[bytes] = ..., content: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ..., deadline_s: _Optional[float] = ..., max_reply_bytes: _Optional[int] = ..., run_config: _Optional[str] = ...) -> None: ...

class AppReply(_message.Message):
    __slots__ = ("number", "head", "content")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    head: bytes
    content: _blob_pb2.BlobRef
    def __init__(self, number: _Optional[int] = ..., head: _Optional[bytes] = ..., content: _Optional[_Union[_blob_pb2.BlobRef, _Mapping]] = ...) -> None: ...
