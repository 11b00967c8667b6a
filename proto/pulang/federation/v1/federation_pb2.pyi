from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetVersionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetVersionsResponse(_message.Message):
    __slots__ = ("root_version", "timestamp_version", "snapshot_version")
    ROOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_VERSION_FIELD_NUMBER: _ClassVar[int]
    root_version: int
    timestamp_version: int
    snapshot_version: int
    def __init__(self, root_version: _Optional[int] = ..., timestamp_version: _Optional[int] = ..., snapshot_version: _Optional[int] = ...) -> None: ...

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
