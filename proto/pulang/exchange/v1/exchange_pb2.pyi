import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_RETURN_HOME: _ClassVar[Purpose]
    PURPOSE_NOTIFY_FAMILY: _ClassVar[Purpose]
    PURPOSE_SELF_TEST: _ClassVar[Purpose]

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_ALLOWED: _ClassVar[RefusalReason]
    REFUSAL_REASON_SCHEMA_MISMATCH: _ClassVar[RefusalReason]
    REFUSAL_REASON_MALFORMED: _ClassVar[RefusalReason]
    REFUSAL_REASON_CLOCK: _ClassVar[RefusalReason]
    REFUSAL_REASON_BUDGET: _ClassVar[RefusalReason]
    REFUSAL_REASON_NONCE_REUSED: _ClassVar[RefusalReason]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_RETURN_HOME: Purpose
PURPOSE_NOTIFY_FAMILY: Purpose
PURPOSE_SELF_TEST: Purpose
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_NOT_ALLOWED: RefusalReason
REFUSAL_REASON_SCHEMA_MISMATCH: RefusalReason
REFUSAL_REASON_MALFORMED: RefusalReason
REFUSAL_REASON_CLOCK: RefusalReason
REFUSAL_REASON_BUDGET: RefusalReason
REFUSAL_REASON_NONCE_REUSED: RefusalReason

class AskRequest(_message.Message):
    __slots__ = ("header", "match")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MATCH_FIELD_NUMBER: _ClassVar[int]
    header: QuestionHeader
    match: MatchStage
    def __init__(self, header: _Optional[_Union[QuestionHeader, _Mapping]] = ..., match: _Optional[_Union[MatchStage, _Mapping]] = ...) -> None: ...

class QuestionHeader(_message.Message):
    __slots__ = ("schema_fingerprint", "key_epoch", "nonce", "case_reference", "purpose", "operator_pseudonym", "issued_at", "deadline")
    SCHEMA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    KEY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CASE_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    schema_fingerprint: bytes
    key_epoch: int
    nonce: bytes
    case_reference: str
    purpose: Purpose
    operator_pseudonym: bytes
    issued_at: _timestamp_pb2.Timestamp
    deadline: _timestamp_pb2.Timestamp
    def __init__(self, schema_fingerprint: _Optional[bytes] = ..., key_epoch: _Optional[int] = ..., nonce: _Optional[bytes] = ..., case_reference: _Optional[str] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., operator_pseudonym: _Optional[bytes] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class MatchStage(_message.Message):
    __slots__ = ("name", "mother_name", "father_name", "birthplace", "birth_date", "sex", "title")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MOTHER_NAME_FIELD_NUMBER: _ClassVar[int]
    FATHER_NAME_FIELD_NUMBER: _ClassVar[int]
    BIRTHPLACE_FIELD_NUMBER: _ClassVar[int]
    BIRTH_DATE_FIELD_NUMBER: _ClassVar[int]
    SEX_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    name: EncodedName
    mother_name: EncodedName
    father_name: EncodedName
    birthplace: EncodedPlace
    birth_date: EncodedDate
    sex: int
    title: int
    def __init__(self, name: _Optional[_Union[EncodedName, _Mapping]] = ..., mother_name: _Optional[_Union[EncodedName, _Mapping]] = ..., father_name: _Optional[_Union[EncodedName, _Mapping]] = ..., birthplace: _Optional[_Union[EncodedPlace, _Mapping]] = ..., birth_date: _Optional[_Union[EncodedDate, _Mapping]] = ..., sex: _Optional[int] = ..., title: _Optional[int] = ...) -> None: ...

class EncodedName(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[EncodedToken]
    def __init__(self, tokens: _Optional[_Iterable[_Union[EncodedToken, _Mapping]]] = ...) -> None: ...

class EncodedToken(_message.Message):
    __slots__ = ("variants", "weight", "initial", "near", "call")
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    NEAR_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    variants: _containers.RepeatedScalarFieldContainer[bytes]
    weight: int
    initial: bool
    near: _containers.RepeatedScalarFieldContainer[int]
    call: int
    def __init__(self, variants: _Optional[_Iterable[bytes]] = ..., weight: _Optional[int] = ..., initial: _Optional[bool] = ..., near: _Optional[_Iterable[int]] = ..., call: _Optional[int] = ...) -> None: ...

class EncodedPlace(_message.Message):
    __slots__ = ("text", "regencies", "related", "provinces", "district")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REGENCIES_FIELD_NUMBER: _ClassVar[int]
    RELATED_FIELD_NUMBER: _ClassVar[int]
    PROVINCES_FIELD_NUMBER: _ClassVar[int]
    DISTRICT_FIELD_NUMBER: _ClassVar[int]
    text: bytes
    regencies: _containers.RepeatedScalarFieldContainer[int]
    related: _containers.RepeatedScalarFieldContainer[int]
    provinces: _containers.RepeatedScalarFieldContainer[int]
    district: bool
    def __init__(self, text: _Optional[bytes] = ..., regencies: _Optional[_Iterable[int]] = ..., related: _Optional[_Iterable[int]] = ..., provinces: _Optional[_Iterable[int]] = ..., district: _Optional[bool] = ...) -> None: ...

class EncodedDate(_message.Message):
    __slots__ = ("years", "year_classes", "month", "day", "swapped_month", "swapped_day")
    YEARS_FIELD_NUMBER: _ClassVar[int]
    YEAR_CLASSES_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    SWAPPED_MONTH_FIELD_NUMBER: _ClassVar[int]
    SWAPPED_DAY_FIELD_NUMBER: _ClassVar[int]
    years: _containers.RepeatedScalarFieldContainer[int]
    year_classes: bytes
    month: int
    day: int
    swapped_month: int
    swapped_day: int
    def __init__(self, years: _Optional[_Iterable[int]] = ..., year_classes: _Optional[bytes] = ..., month: _Optional[int] = ..., day: _Optional[int] = ..., swapped_month: _Optional[int] = ..., swapped_day: _Optional[int] = ...) -> None: ...

class AskResponse(_message.Message):
    __slots__ = ("header", "answered", "need_more", "busy", "refused", "unavailable")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    NEED_MORE_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    header: AnswerHeader
    answered: Answered
    need_more: NeedMore
    busy: Busy
    refused: Refused
    unavailable: Unavailable
    def __init__(self, header: _Optional[_Union[AnswerHeader, _Mapping]] = ..., answered: _Optional[_Union[Answered, _Mapping]] = ..., need_more: _Optional[_Union[NeedMore, _Mapping]] = ..., busy: _Optional[_Union[Busy, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., unavailable: _Optional[_Union[Unavailable, _Mapping]] = ...) -> None: ...

class AnswerHeader(_message.Message):
    __slots__ = ("schema_fingerprint", "key_epoch", "province", "request_sha256", "answered_at")
    SCHEMA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    KEY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROVINCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AT_FIELD_NUMBER: _ClassVar[int]
    schema_fingerprint: bytes
    key_epoch: int
    province: str
    request_sha256: bytes
    answered_at: _timestamp_pb2.Timestamp
    def __init__(self, schema_fingerprint: _Optional[bytes] = ..., key_epoch: _Optional[int] = ..., province: _Optional[str] = ..., request_sha256: _Optional[bytes] = ..., answered_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Answered(_message.Message):
    __slots__ = ("registry_size", "histograms", "classes", "handles", "registry_generation")
    REGISTRY_SIZE_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAMS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_GENERATION_FIELD_NUMBER: _ClassVar[int]
    registry_size: int
    histograms: _containers.RepeatedCompositeFieldContainer[LevelHistogram]
    classes: _containers.RepeatedCompositeFieldContainer[EvidenceClass]
    handles: _containers.RepeatedCompositeFieldContainer[Handle]
    registry_generation: int
    def __init__(self, registry_size: _Optional[int] = ..., histograms: _Optional[_Iterable[_Union[LevelHistogram, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[EvidenceClass, _Mapping]]] = ..., handles: _Optional[_Iterable[_Union[Handle, _Mapping]]] = ..., registry_generation: _Optional[int] = ...) -> None: ...

class LevelHistogram(_message.Message):
    __slots__ = ("counts",)
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, counts: _Optional[_Iterable[int]] = ...) -> None: ...

class EvidenceClass(_message.Message):
    __slots__ = ("levels", "count")
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    levels: bytes
    count: int
    def __init__(self, levels: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class Handle(_message.Message):
    __slots__ = ("handle", "class_index")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    handle: bytes
    class_index: int
    def __init__(self, handle: _Optional[bytes] = ..., class_index: _Optional[int] = ...) -> None: ...

class NeedMore(_message.Message):
    __slots__ = ("attributes",)
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, attributes: _Optional[_Iterable[str]] = ...) -> None: ...

class Busy(_message.Message):
    __slots__ = ("retry_after",)
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    retry_after: _duration_pb2.Duration
    def __init__(self, retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: RefusalReason
    detail: str
    def __init__(self, reason: _Optional[_Union[RefusalReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class Unavailable(_message.Message):
    __slots__ = ("detail",)
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    detail: str
    def __init__(self, detail: _Optional[str] = ...) -> None: ...

class GetRegistryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRegistryResponse(_message.Message):
    __slots__ = ("province", "registry_generation")
    PROVINCE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_GENERATION_FIELD_NUMBER: _ClassVar[int]
    province: str
    registry_generation: int
    def __init__(self, province: _Optional[str] = ..., registry_generation: _Optional[int] = ...) -> None: ...
