from __future__ import annotations

import pytest

from artifacts.redact import is_secret_name, redact_command, redact_json, redact_text, without_paths

CANARY = "canary0123456789"


@pytest.mark.criterion("T90")
@pytest.mark.parametrize(
    "text",
    [
        f"--set hub.token={CANARY}", f"HF_TOKEN={CANARY} make", f'{{"api_key": "{CANARY}"}}',
        f"password: {CANARY}",
        f"Authorization: Bearer {CANARY}", f"bearer {CANARY}", f"https://me:{CANARY}@host/x", f"s3://{CANARY}@bucket/x",
        f"https://host/x?X-Amz-Signature={CANARY}", f"apikey={CANARY}", f"aws_secret_access_key = {CANARY}",
        f"client-secret='{CANARY}'", f"hf_{CANARY}{CANARY}", f"sk-{CANARY}", "AKIA" + "A" * 16,
    ],
)  # fmt: skip
def test_secrets_are_taken_out(text: str) -> None:
    shown = redact_text(text, {})
    assert CANARY not in shown
    assert "AKIA" not in shown
    assert "[redacted]" in shown or "?" in text


@pytest.mark.criterion("T90")
def test_values_of_secret_variables_are_taken_out_anywhere() -> None:
    environment = {"MY_API_KEY": CANARY, "HOME": "/home/someone", "AUTH": "short"}
    assert redact_text(f"x{CANARY}y short /home/someone", environment) == "x[redacted]y short /home/someone"


@pytest.mark.parametrize(
    "text",
    ["max_tokens=5", "tokens: 3", "key_metric=val_bpb", "monkey=3", "run demo --set depth=4", "https://host/path",
     "tokenizer=bpe", "s3://bucket/key", "keyboard: yes", "author: someone"],
)  # fmt: skip
def test_ordinary_text_stays(text: str) -> None:
    assert redact_text(text, {}) == text


def test_json_is_redacted_by_name_and_by_content() -> None:
    value = {
        "token": CANARY,
        "tokens": 5,
        "list": [f"x:token={CANARY}", 1.5, None],
        "key": "",
        "n": {"auth": CANARY},
    }
    assert redact_json(value, {}) == {
        "token": "[redacted]", "tokens": 5, "list": ["x:token=[redacted]", 1.5, None], "key": "",
        "n": {"auth": "[redacted]"},
    }  # fmt: skip


def test_redacting_twice_changes_nothing() -> None:
    texts = [
        f"token={CANARY}",
        f"https://a:{CANARY}@h/x?y#z",
        f"Authorization: Bearer {CANARY}",
        f"--password {CANARY}",
    ]
    for text in texts:
        once = redact_text(text, {})
        assert redact_text(once, {}) == once


def test_commands_lose_secrets_and_machine_paths() -> None:
    arguments = [
        "run",
        "--token",
        CANARY,
        "--store",
        "/home/me/store",
        "file:///home/me/x",
        "a=/tmp/y/z.json",
    ]
    arguments += ["s3://bucket/key", "https://host/a/b", "two words", 'rl.tasks={"docs":2}', "shards/demo@v1"]
    assert redact_command(arguments, {}) == (
        "run --token [redacted] --store .../store .../x a=.../z.json s3://bucket/key https://host/a/b "
        """'two words' 'rl.tasks={"docs":2}' shards/demo@v1"""
    )


def test_paths_are_cut_to_their_last_part() -> None:
    assert without_paths("error in /usr/lib/x.py: 3/4, n/a") == "error in .../x.py: 3/4, n/a"


@pytest.mark.parametrize(
    "name", ["token", "hub.token", "HF_TOKEN", "api-key", "apiKey", "apikey", "AWS_SECRET_ACCESS_KEY"]
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokens", "max_tokens", "tokenizer", "monkey", "num_kv_heads", "key_metric", "author"]
)
def test_ordinary_names(name: str) -> None:
    assert not is_secret_name(name)
