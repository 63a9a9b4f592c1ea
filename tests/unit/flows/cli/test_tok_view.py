"""``nanochat tok view``: each thing that may be asked for, alone and together, in every form."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

Cli = Callable[..., Any]
TypeIn = Callable[..., None]
CHAT = {"messages": [
    {"role": "user", "content": "What is 37 + 45?"},
    {"role": "assistant", "content": [
        {"type": "python", "text": "37+45"}, {"type": "python_output", "text": "82"},
        {"type": "text", "text": "It is 82."},
    ]},
]}  # fmt: skip


@pytest.fixture
def view(cli: Cli, tokenizer_folder: Path) -> Cli:
    """``view("text", rc=0)``: the command with that tokenizer."""

    def run(*arguments: str, rc: int = 0) -> Any:
        return cli("tok", "view", *arguments, "--tokenizer", str(tokenizer_folder), rc=rc)

    return run


@pytest.fixture
def chats(tmp_path: Path) -> Callable[..., str]:
    """``chats(conversation, …)``: a file of them."""

    def write(*conversations: Any) -> str:
        path = tmp_path / "chat.jsonl"
        path.write_text("".join(json.dumps(conversation) + "\n" for conversation in conversations))
        return str(path)

    return write


def test_a_cut_character_is_bytes(view: Cli) -> None:
    lines = view("naïve 🐍 café").out.splitlines()
    assert lines[0].split(", ")[1:3] == ["12 characters", "17 bytes"]
    assert r"\xc3│\xaf" in lines[2]
    assert r"│\xf0│\x9f│\x90│\x8d│" in lines[2]
    assert [line.split()[2:] for line in lines if "part of 🐍" in line] == [
        ["1", byte, "single", "byte", rf"\x{byte}", "part", "of", "🐍"] for byte in ("f0", "9f", "90", "8d")
    ]
    assert "�" not in "".join(lines)
    assert "WARNING" not in lines[0]


def test_as_json_it_has_every_token(view: Cli, tokenizer_folder: Path) -> None:
    text = "naïve 🤖 café " * 50
    said = json.loads(view(text, "--json").out)
    tokenizer = Tokenizer.load(tokenizer_folder)
    assert (said["tokenizer"], said["vocab_size"]) == (str(tokenizer_folder), 300)
    assert [token["id"] for token in said["text"]["tokens"]] == tokenizer.encode(text)
    assert bytes.fromhex("".join(token["bytes"] for token in said["text"]["tokens"])) == text.encode()
    assert said["text"]["round_trip"] is True
    assert said["text"]["bytes"] == len(text.encode())


def test_a_long_table_is_cut_for_people(view: Cli) -> None:
    out = view("Q" * 300).out
    assert "The first 200 tokens; 100 more are not shown. --json has them all." in out
    assert "not shown" not in view("Q" * 200).out


def test_all_of_stdin_is_a_text(view: Cli, type_in: TypeIn) -> None:
    type_in("one\ntwo ï".encode())
    assert json.loads(view("--json").out)["text"]["text"] == "one\ntwo ï"
    type_in(b"")
    assert view().out == "0 tokens, 0 characters, 0 bytes, 0.000 tokens/byte, 0.00 characters/token\n"


def test_what_tokenizer_it_is_stands_on_stderr(cli: Cli, tokenizer_store: Store) -> None:
    assert cli("tok", "view", "x").err == "tokenizer/real@v1\n"
    assert cli("tok", "view", "x", "--json").err == ""


def test_special_tokens_and_vocabulary(view: Cli) -> None:
    out = view("--special", "--vocab").out
    rows = [line.split() for line in out.splitlines()]
    assert [row[:2] for row in rows if row and row[0] in SPECIAL_TOKENS] == [
        [token, str(id_)] for id_, token in enumerate(SPECIAL_TOKENS, 291)
    ]
    assert ["special", "9", "291", "–", "299"] in rows
    assert ["all", "ids", "300", "0", "–", "299"] in rows
    assert "The longest tokens: " in out


def test_several_texts_side_by_side(view: Cli, tokenizer_folder: Path) -> None:
    out = view("--compare", "the answer", "🤖").out
    row = next(line.split() for line in out.splitlines() if line.endswith("the answer"))
    tokens = len(Tokenizer.load(tokenizer_folder).encode("the answer"))
    assert row[1:6] == [str(tokens), "10", "10", f"{tokens / 10:.3f}", f"{10 / tokens:.2f}"]
    assert "Not on this machine: gpt2, cl100k_base (tiktoken" in out


def test_a_conversation_says_what_is_trained(view: Cli, chats: Callable[..., str]) -> None:
    lines = view("--chat", chats(CHAT)).out.splitlines()
    runs = [line.replace("│", "") for line in lines if line.startswith(("trained  ", "   read  "))]
    assert runs == [
        "   read  <|bos|>",
        "   read  <|user_start|>What is 37 + 45?<|user_end|>",
        "   read  <|assistant_start|>",
        "trained  <|python_start|>37+45<|python_end|>",
        "   read  <|output_start|>82<|output_end|>",
        "trained  It is 82.<|assistant_end|>",
    ]
    assert [line.split()[0] for line in lines if line.endswith("<|python_end|>")] == ["trained", "yes"]


def test_many_conversations(view: Cli, chats: Callable[..., str], tmp_path: Path) -> None:
    ended = view("--chat", chats(*[CHAT] * 12))
    assert ended.err == "the first 10 of 12 conversations; --json has them all\n"
    assert "conversation 10\n" in ended.out
    assert len(json.loads(view("--chat", chats(*[CHAT] * 12), "--json").out)["chat"]) == 12
    (tmp_path / "chat.jsonl.gz").write_bytes(gzip.compress(Path(chats(CHAT)).read_bytes()))
    assert view("--chat", f"{tmp_path}/chat.jsonl.gz").out == view("--chat", chats(CHAT)).out


def test_everything_at_once(view: Cli, chats: Callable[..., str]) -> None:
    asked = ("text", "--special", "--vocab", "--compare", "a", "b", "--chat", chats(CHAT))
    said = json.loads(view(*asked, "--json").out)
    assert list(said) == ["tokenizer", "vocab_size", "text", "comparison", "chat", "special", "vocab"]
    page = view(*asked, "--html").out
    assert page.startswith("<!doctype html>")
    assert page.count('<section class="card">') == 5
    assert view(*asked).out.count("─────\n") == 5


@pytest.mark.parametrize(
    ("arguments", "rc", "said"),
    [
        (("x", "--html", "--json"), 2, "--html and --json exclude each other"),
        (("x", "--interactive"), 2, "--interactive goes alone"),
        (("-i", "--json"), 2, "--interactive goes alone"),
        (("--chat", "none.jsonl"), 4, "none.jsonl: no such file"), (("--chat", "."), 2, ". is a folder"),
        (("--chat", "empty.jsonl"), 3, "empty.jsonl holds no conversation"),
        (("--chat", "bad.jsonl"), 3, "bad.jsonl:2: roles are ['user']"),
        (("--chat", "text.jsonl"), 3, 'text.jsonl:1 is not an object with "messages"'),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_one_line(
    arguments: tuple[str, ...], rc: int, said: str, view: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = {"messages": [{"role": "user", "content": "x"}]}
    (tmp_path / "bad.jsonl").write_text(f"{json.dumps(CHAT)}\n{json.dumps(bad)}\n")
    (tmp_path / "text.jsonl").write_text("no json\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    ended = view(*arguments, rc=rc)
    assert ended.out == ""
    assert said in (json.loads(ended.err)["error"]["message"] if "--json" in arguments else ended.err)
    assert ended.err.count("\n") == 1
