from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NotCosignedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOT_COSIGNED_REASON_UNSPECIFIED: _ClassVar[NotCosignedReason]
    NOT_COSIGNED_REASON_FORK: _ClassVar[NotCosignedReason]
    NOT_COSIGNED_REASON_NOT_WITNESS: _ClassVar[NotCosignedReason]
    NOT_COSIGNED_REASON_INVALID: _ClassVar[NotCosignedReason]
NOT_COSIGNED_REASON_UNSPECIFIED: NotCosignedReason
NOT_COSIGNED_REASON_FORK: NotCosignedReason
NOT_COSIGNED_REASON_NOT_WITNESS: NotCosignedReason
NOT_COSIGNED_REASON_INVALID: NotCosignedReason

class CosignCheckpointRequest(_message.Message):
    __slots__ = ("log_key", "checkpoint", "old_size", "consistency_proof")
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_PROOF_FIELD_NUMBER: _ClassVar[int]
    log_key: bytes
    checkpoint: bytes
    old_size: int
    consistency_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, log_key: _Optional[bytes] = ..., checkpoint: _Optional[bytes] = ..., old_size: _Optional[int] = ..., consistency_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CosignCheckpointResponse(_message.Message):
    __slots__ = ("cosigned", "other_size", "not_cosigned")
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    OTHER_SIZE_FIELD_NUMBER: _ClassVar[int]
    NOT_COSIGNED_FIELD_NUMBER: _ClassVar[int]
    cosigned: Cosigned
    other_size: OtherSize
    not_cosigned: NotCosigned
    def __init__(self, cosigned: _Optional[_Union[Cosigned, _Mapping]] = ..., other_size: _Optional[_Union[OtherSize, _Mapping]] = ..., not_cosigned: _Optional[_Union[NotCosigned, _Mapping]] = ...) -> None: ...

class Cosigned(_message.Message):
    __slots__ = ("line", "witness_key")
    LINE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_KEY_FIELD_NUMBER: _ClassVar[int]
    line: bytes
    witness_key: bytes
    def __init__(self, line: _Optional[bytes] = ..., witness_key: _Optional[bytes] = ...) -> None: ...

class OtherSize(_message.Message):
    __slots__ = ("witnessed_size",)
    WITNESSED_SIZE_FIELD_NUMBER: _ClassVar[int]
    witnessed_size: int
    def __init__(self, witnessed_size: _Optional[int] = ...) -> None: ...

class NotCosigned(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: NotCosignedReason
    def __init__(self, reason: _Optional[_Union[NotCosignedReason, str]] = ...) -> None: ...
