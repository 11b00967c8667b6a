import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetVersionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetVersionsResponse(_message.Message):
    __slots__ = ("root_version", "timestamp_version", "snapshot_version", "clock")
    ROOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    root_version: int
    timestamp_version: int
    snapshot_version: int
    clock: _timestamp_pb2.Timestamp
    def __init__(self, root_version: _Optional[int] = ..., timestamp_version: _Optional[int] = ..., snapshot_version: _Optional[int] = ..., clock: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetMetadataRequest(_message.Message):
    __slots__ = ("file", "offset")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    file: str
    offset: int
    def __init__(self, file: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class GetMetadataResponse(_message.Message):
    __slots__ = ("found", "content", "last")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    found: bool
    content: bytes
    last: bool
    def __init__(self, found: _Optional[bool] = ..., content: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class GetStandingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStandingResponse(_message.Message):
    __slots__ = ("certificate_serial", "certificate_ends_at", "list_version", "list_ends_at", "schema_fingerprint", "key_epochs", "ready")
    CERTIFICATE_SERIAL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_AT_FIELD_NUMBER: _ClassVar[int]
    LIST_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIST_ENDS_AT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    KEY_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    certificate_serial: bytes
    certificate_ends_at: _timestamp_pb2.Timestamp
    list_version: int
    list_ends_at: _timestamp_pb2.Timestamp
    schema_fingerprint: bytes
    key_epochs: _containers.RepeatedScalarFieldContainer[int]
    ready: bool
    def __init__(self, certificate_serial: _Optional[bytes] = ..., certificate_ends_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., list_version: _Optional[int] = ..., list_ends_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., schema_fingerprint: _Optional[bytes] = ..., key_epochs: _Optional[_Iterable[int]] = ..., ready: _Optional[bool] = ...) -> None: ...
