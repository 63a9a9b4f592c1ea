"""``nanochat art keygen``, ``sign``, and ``--signed-by``, on a small store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("small_home")


@pytest.fixture
def keys(cli: Cli, tmp_path: Path) -> tuple[str, str]:
    private, public = str(tmp_path / "private.pem"), str(tmp_path / "public.pem")
    said = cli("art", "keygen", private, public).out
    assert said.startswith(f"{private} is for you alone, {public} for everybody: key ")
    return private, public


def document(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli("art", *arguments, "--json").out)


def test_sign_then_verify(cli: Cli, keys: tuple[str, str]) -> None:
    said = cli("art", "sign", "base/demo", "--key", keys[0]).out
    name = said.split()[-1]
    assert said == f"base/demo@v1 is signed by the key {name}\n"
    assert cli("art", "sign", "base/demo", "--key", keys[0]).out == (
        f"base/demo@v1 was already signed by the key {name}\n"
    )
    assert cli("art", "verify", "base/demo", "--signed-by", keys[1]).out == (
        f"intact, and signed by the key {name}\n"
    )
    assert cli("art", "verify").out == "intact\n"


def test_they_tell_programs_the_same(cli: Cli, tmp_path: Path) -> None:
    private, public = str(tmp_path / "1.pem"), str(tmp_path / "2.pem")
    made = document(cli, "keygen", private, public)
    assert (made["private"], made["public"]) == (private, public)
    facts = {
        "artifact": "base/demo@v1",
        "digest": document(cli, "show", "base/demo")["digest"],
        "key": made["key"],
    }
    signed = document(cli, "sign", "base/demo", "--key", private)
    assert signed == facts | {"manifest": signed["manifest"], "new": True}
    assert document(cli, "sign", "base/demo", "--key", private) == signed | {"new": False}
    checked = document(cli, "verify", "base/demo", "--signed-by", public)
    assert checked == {"ok": True, "problems": [], "manifest": signed["manifest"], **facts}


def test_damage_ends_with_3_and_one_line(
    cli: Cli, keys: tuple[str, str], damage: Callable, tmp_path: Path
) -> None:
    cli("art", "sign", "base/demo", "--key", keys[0])
    damage("base/demo@v1", "payload.txt")
    for command in (("verify", "base/demo"), ("get", "base/demo", str(tmp_path / "copy"))):
        ended = cli("art", *command, "--signed-by", keys[1], rc=3)
        assert ended.err.startswith("error: base/demo@v1 is damaged: payload.txt does not have its sha256")
        assert (ended.err.count("\n"), ended.out) == (1, "")


def test_get_adds_what_outsiders_need(cli: Cli, keys: tuple[str, str], tmp_path: Path) -> None:
    plain, proven = tmp_path / "plain", tmp_path / "proven"
    assert (
        "is not signed by the key"
        in cli("art", "get", "base/demo", str(proven), "--signed-by", keys[1], rc=3).err
    )
    assert not proven.exists()
    manifest = document(cli, "sign", "base/demo", "--key", keys[0])["manifest"]
    cli("art", "get", "base/demo", str(plain))
    assert cli("art", "get", "base/demo", str(proven), "--signed-by", keys[1]).out.endswith(
        ", with its signature\n"
    )
    more = {path.name for path in proven.iterdir()} - {path.name for path in plain.iterdir()}
    assert more == {"artifact.json", "signature.json"}
    assert json.loads((proven / "artifact.json").read_bytes())["stage"] == "second"
    assert manifest in next(Path(tmp_path, "home", "store", "signatures").iterdir()).name


def test_verify_with_a_key_needs_a_ref(cli: Cli, keys: tuple[str, str]) -> None:
    assert "--signed-by checks one artifact" in cli("art", "verify", "--signed-by", keys[1], rc=2).err


@pytest.mark.parametrize(
    ("command", "rc", "message"),
    [
        (("sign", "base/demo", "--key", "absent.pem"), 4, "no file absent.pem"),
        (("verify", "base/demo", "--signed-by", "absent.pem"), 4, "no file absent.pem"),
        (("sign", "base/other", "--key", "PRIVATE"), 4, "no artifact base/other"),
        (("sign", "base/demo", "--key", "PUBLIC"), 2, "holds no private key"),
        (("verify", "base/demo", "--signed-by", "PRIVATE"), 2, "holds no public key"),
        (("keygen", "PRIVATE", "new.pem"), 2, "private.pem exists"),
    ],
)
def test_what_is_wrong_is_one_line(
    command: tuple[str, ...], rc: int, message: str, cli: Cli, keys: tuple[str, str]
) -> None:
    real = {"PRIVATE": keys[0], "PUBLIC": keys[1]}
    ended = cli("art", *(real.get(word, word) for word in command), rc=rc)
    assert message in ended.err
    assert (ended.err.count("\n"), ended.out) == (1, "")


def test_without_the_package_it_says_what_to_install(
    cli: Cli, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    ended = cli("art", "sign", "base/demo", "--key", keys[0], rc=4)
    assert "pip install 'nanochat-pipeline[signing]'" in ended.err
