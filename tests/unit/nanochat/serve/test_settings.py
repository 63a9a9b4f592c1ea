"""Settings from variables; errors that name them and never show a key."""

from __future__ import annotations

import pytest

from artifacts.errors import UsageError
from nanochat.serve.settings import ServeSettings, check_host, is_loopback


def test_variables_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_API_KEYS", "first-key, second-key,")
    monkeypatch.setenv("NANOCHAT_SERVE_SLOTS", "3")
    monkeypatch.setenv("NANOCHAT_SERVE_LOG_CONVERSATIONS", "1")
    settings = ServeSettings()
    assert settings.api_keys == ("first-key", "second-key")
    assert (settings.slots, settings.log_conversations) == (3, True)
    assert "first-key" not in repr(settings)


def test_by_default_it_has_the_limits_of_nanochat_and_logs_no_conversation() -> None:
    settings = ServeSettings()
    assert (settings.max_messages, settings.max_message_chars, settings.max_total_chars) == (500, 8000, 32000)
    assert (settings.log_conversations, settings.api_keys) == (False, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVE_SLOTS", "0"),
        ("SERVE_IDLE_S", "-1"),
        ("SERVE_QUEUE", "x"),
        ("API_KEYS", "short,and-long-enough"),
        ("API_KEYS", " , "),
    ],
)
def test_an_error_names_the_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"NANOCHAT_{name}", value)
    with pytest.raises(UsageError, match=f"NANOCHAT_{name}") as error:
        ServeSettings()
    assert "long-enough" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("host", "ours"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
    ("::", False), ("10.0.0.1", False), ("example.org", False), ("127.0.0.1.example.org", False),
])  # fmt: skip
def test_other_machines_are_let_in_only_with_keys(host: str, ours: bool) -> None:
    assert is_loopback(host) == ours
    check_host(host, ServeSettings(api_keys=("some-key-of-ours",)))
    if ours:
        check_host(host, ServeSettings())
    else:
        with pytest.raises(UsageError, match="NANOCHAT_API_KEYS"):
            check_host(host, ServeSettings())
