"""A node's settings: one small TOML file, checked whole before anything starts."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from node.budget import Budgets
from node.errors import ConfigError
from node.files import PRIVATE, make_private_folder, read_file, write_atomic

if TYPE_CHECKING:
    from node.home import NodeHome

MAX_SEARCH_THREADS: Final = 64
MAX_FILE_BYTES: Final = 64 * 1024

# The federation's name stands in certificates, as trust domain of the URI and as parent of every server name.
FEDERATION_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
FederationName = Annotated[str, StringConstraints(pattern=FEDERATION_PATTERN)]

PROVINCE_PATTERN: Final = r"^[1-9][0-9]$"  # Kemendagri code, two digits
ProvinceCode = Annotated[str, StringConstraints(pattern=PROVINCE_PATTERN)]


_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


def _check_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("must be host:port with a port from 1 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 host stands in brackets: [::1]:7035")
    if not _HOST.fullmatch(host):  # it is dialled and printed: nothing that a resolver or a terminal reads otherwise
        raise ValueError("its host must be a name or an address")
    return text


Address = Annotated[str, AfterValidator(_check_address)]  # host:port


def _check_loopback(text: str) -> str:
    host = text.rpartition(":")[0].strip("[]")
    if host != "localhost" and not (host.startswith("127.") or host == "::1"):
        raise ValueError("must be a loopback address such as 127.0.0.1:9635: it is for this machine's own monitor")
    return text


LoopbackAddress = Annotated[Address, AfterValidator(_check_loopback)]


class NodeConfig(BaseModel):
    """Settings of one node; a key that is not listed here is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    federation: FederationName
    province: ProvinceCode
    """Kemendagri code of the node's own province, two digits."""
    listen: Address = "127.0.0.1:7035"
    """Address on which other provinces reach this node, host:port."""
    key_epoch: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Epoch of the linkage key, where there is no directory yet to say it; one that contradicts it is refused."""
    database_url: str | None = Field(default=None, min_length=1, repr=False)
    """SQLAlchemy URL of the node's database; without it, the embedded SQLite in the node's folder."""
    membership_poll_s: Annotated[float, Field(ge=0.1, le=3600)] = 15.0
    """Seconds between two looks at the other members for newer membership metadata."""
    search_threads: Annotated[int, Field(ge=1, le=MAX_SEARCH_THREADS)] = 2
    """Questions of peers that are searched at the same moment."""
    review_lower_bits: Annotated[float, Field(ge=-64, le=64)] = -4.0
    """Match weight, in bits above log2 of the registry's persons, from which a candidate is for a person to decide.

    docs/matching.md, "Clerical review", derives both defaults.
    """
    review_upper_bits: Annotated[float, Field(ge=-64, le=64)] = 7.0
    """The same, from which nobody needs to look; not above the lower one: no review queue."""
    review_two_person: bool = False
    """Whether two reviewers decide, apart."""
    review_views_per_day: Annotated[int, Field(ge=0)] = 100
    """Candidates that all of this node's reviewers may look at within 24 hours."""
    budgets: Budgets = Budgets()
    """How many questions peers may ask: a table of its own, `[budgets]`."""

    min_free_mib: Annotated[int, Field(ge=1, le=1 << 30)] = 256
    """Free space, MiB, below which the node stops answering: before the database's disk is full, not after."""
    metrics_listen: LoopbackAddress | None = None
    """Loopback address at which a monitor on this machine reads /metrics; without it, nowhere."""

    ask_again_days: Annotated[int, Field(ge=1, le=90)] = 7
    """Days for which a province that did not answer is asked again."""
    case_days: Annotated[int, Field(ge=1, le=365)] = 90
    """Days after which an open case closes by itself, and what was asked is erased a week later."""

    def store_url(self, home: NodeHome) -> str:
        """Return the URL of the node's database."""
        return self.database_url or f"sqlite:///{home.database.absolute()}"


def load_config(home: NodeHome) -> NodeConfig:
    """Read and check the settings of the node that lives in `home`. Raises ConfigError naming every wrong key."""
    text = read_file(
        home.config, limit=MAX_FILE_BYTES, hint="`pulang node init --province CODE --home DIR` makes a node's folder"
    )
    try:
        return NodeConfig.model_validate(tomllib.loads(text.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{home.config} is not TOML: {_where(error)}") from None
    except ValidationError as error:
        raise ConfigError(f"{home.config}: {complaints(error)}", hint="correct the file and start again") from None


def make_config(**settings: object) -> NodeConfig:
    """Check settings that come from a command line. Raises ConfigError naming every wrong one."""
    try:
        return NodeConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(complaints(error)) from None


def write_config(home: NodeHome, config: NodeConfig) -> None:
    """Write the settings of a new node. An existing file is never overwritten: ConfigError."""
    if home.config.exists():
        raise ConfigError(f"{home.root} is a node's folder already", hint="name another folder with --home DIR")
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in config.model_dump(exclude_none=True, exclude={"budgets"}).items()
    ]
    if config.budgets != Budgets():
        lines.append("\n[budgets]\n")
        lines += [f"{key} = {value}\n" for key, value in config.budgets.model_dump(exclude_defaults=True).items()]
    make_private_folder(home.root)
    write_atomic(home.config, "".join(lines).encode(), mode=PRIVATE)  # private: a database URL may hold a password


# What a value must look like, where the pattern alone would not tell a person.
_FORMS: Final = {
    FEDERATION_PATTERN: "must be lower-case letters, digits and hyphens, in parts joined by dots: fkd-mpu",
    PROVINCE_PATTERN: "must be a Kemendagri code of two digits: 35",
}


def complaints(error: ValidationError) -> str:
    """Return what is wrong with a file or a command line, every key named, no value quoted: it may be a password."""
    found = []
    for item in error.errors(include_input=False, include_url=False):
        match item["type"]:
            case "missing":
                text = "is missing"
            case "extra_forbidden":
                text = "is not a known key"
            case "string_pattern_mismatch":
                text = _FORMS.get(item["ctx"]["pattern"], item["msg"])
            case _:
                text = item["msg"].removeprefix("Value error, ")
        found.append(": ".join(filter(None, (".".join(map(str, item["loc"])), text))))
    return "; ".join(found)


def _where(error: UnicodeDecodeError | tomllib.TOMLDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
