"""A node's settings: one file, checked whole, no key unknown."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from node.config import load_config, make_config, write_config
from node.errors import ConfigError
from node.home import NodeHome

if TYPE_CHECKING:
    from pathlib import Path

GOOD = 'federation = "fkd-mpu"\nprovince = "35"\n'


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome(tmp_path / "node")


def written(home: NodeHome, text: str | bytes) -> NodeHome:
    home.root.mkdir(exist_ok=True)
    home.config.write_bytes(text.encode() if isinstance(text, str) else text)
    return home


def test_what_is_written_is_what_is_read(home: NodeHome) -> None:
    config = make_config(federation="fkd-mpu.id", province="35", listen="[::1]:7035", database_url="postgresql://h/ä")
    write_config(home, config)
    assert load_config(home) == config


def test_defaults_are_those_the_documents_name(home: NodeHome) -> None:
    config = load_config(written(home, GOOD))
    assert (config.listen, config.key_epoch) == ("127.0.0.1:7035", None)
    assert config.store_url(home) == f"sqlite:///{home.root}/node.db"


def test_settings_are_private_because_a_database_url_may_hold_a_password(home: NodeHome) -> None:
    config = make_config(federation="fkd-mpu", province="35", database_url="postgresql://pulang:geheim@db/pulang")
    write_config(home, config)
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    assert "geheim" not in repr(config)


def test_existing_settings_are_not_overwritten(home: NodeHome) -> None:
    written(home, GOOD)
    with pytest.raises(ConfigError, match="is a node's folder already"):
        write_config(home, make_config(federation="other", province="36"))
    assert home.config.read_text() == GOOD


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD + 'listn = "127.0.0.1:1"\n', "listn: is not a known key"),
        ('federation = "fkd-mpu"\n', "province: is missing"),
        ('federation = "fkd-mpu"\nprovince = 35\n', "province: Input should be a valid string"),
        ('federation = "fkd-mpu"\nprovince = "5"\n', "province: must be a Kemendagri code of two digits: 35"),
        ('federation = "FKD MPU"\nprovince = "35"\n', "federation: must be lower-case letters"),
        (GOOD + 'listen = "7035"\n', "listen: must be host:port"),
        (GOOD + 'listen = "h:0"\n', "listen: .*1 to 65535"),
        (GOOD + 'listen = "::1:7035"\n', "listen: .*brackets"),
        (GOOD + 'metrics_listen = "0.0.0.0:9635"\n', "metrics_listen: must be a loopback address"),
        (GOOD + "key_epoch = 0\n", "key_epoch: Input should be greater than or equal to 1"),
        (GOOD + "search_threads = 1000\n", "search_threads: Input should be less than or equal to 64"),
        ("federation = \n", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_wrong_settings_are_refused_and_the_key_is_named(home: NodeHome, text: str | bytes, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config(written(home, text))


def test_every_wrong_key_is_named_at_once(home: NodeHome) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(home, 'federation = "fkd-mpu"\nprovince = "x"\nkey_epoch = "one"\n'))
    assert "province" in str(caught.value)
    assert "key_epoch" in str(caught.value)


def test_refusal_does_not_quote_a_password(home: NodeHome) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(home, GOOD + 'database_url = ["postgresql://pulang:geheim@db/pulang"]\n'))
    assert "geheim" not in str(caught.value)


def test_folder_without_settings_says_how_to_make_one(home: NodeHome) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(home)
    assert caught.value.hint is not None
    assert "pulang node init" in caught.value.hint
