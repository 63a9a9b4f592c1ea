"""What the environment says, and what Prefect is told unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import UsageError
from flows.settings import Settings, prefect_server_is_configured, prepare_prefect_environment

PROFILES = """
active = "local"
[profiles.local]
[profiles.cloud]
PREFECT_API_URL = "http://127.0.0.1:4200/api"
"""


def test_everything_lives_below_the_home_folder(home: Path) -> None:
    settings = Settings()
    assert (settings.views, settings.runs, settings.reports) == (
        home / "views",
        home / "runs",
        home / "reports",
    )


def test_the_environment_sets_a_time_limit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().stage_timeout_s is None
    monkeypatch.setenv("NANOCHAT_STAGE_TIMEOUT_S", "2.5")
    monkeypatch.setenv("NANOCHAT_REQUIRE", "chromium")
    assert Settings().stage_timeout_s == 2.5


@pytest.mark.parametrize("value", ["abc", "0", "-1"])
def test_a_wrong_value_is_named_with_its_variable(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_STAGE_TIMEOUT_S", value)
    with pytest.raises(UsageError, match=f"^NANOCHAT_STAGE_TIMEOUT_S = '{value}': .*unset it"):
        Settings()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NANOCHAT_HOME", "NANOCHAT_STAGE_TIMEOUT_S"):
        monkeypatch.setenv(name, "")
    assert Settings().home == Path("~/.cache/nanochat-pipeline").expanduser()
    assert Settings().stage_timeout_s is None


def test_a_relative_home_and_a_tilde_mean_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOCHAT_HOME", "here")
    settings = Settings()
    monkeypatch.chdir("/")
    assert settings.home == tmp_path / "here"
    monkeypatch.setenv("NANOCHAT_HOME", "~/there")
    assert Settings().home == Path.home() / "there"


def test_prefect_is_told_to_send_nothing_home() -> None:
    environ: dict[str, str] = {}
    prepare_prefect_environment(environ, quiet=False)
    assert environ["DO_NOT_TRACK"] == "1"
    assert environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert not [name for name in environ if "LOGGING" in name]


def test_quiet_silences_the_console_only() -> None:
    environ: dict[str, str] = {}
    prepare_prefect_environment(environ, quiet=True)
    silenced = {name for name, value in environ.items() if value == "CRITICAL"}
    assert silenced == {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "PREFECT_SERVER_LOGGING_LEVEL"}


def test_what_the_user_set_for_prefect_stays() -> None:
    environ = {"PREFECT_SERVER_LOGGING_LEVEL": "DEBUG", "DO_NOT_TRACK": "0"}
    prepare_prefect_environment(environ, quiet=True)
    assert environ["PREFECT_SERVER_LOGGING_LEVEL"] == "DEBUG"
    assert environ["DO_NOT_TRACK"] == "0"


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "prefect").mkdir()
    return tmp_path / "prefect" / "profiles.toml"


@pytest.mark.parametrize(
    ("text", "environment", "configured"),
    [
        (None, {}, False),
        (None, {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, True),
        (PROFILES, {}, False),
        (PROFILES, {"PREFECT_PROFILE": "cloud"}, True),
        (PROFILES, {"PREFECT_PROFILE": "absent"}, False),
        (PROFILES.replace('"local"', '"cloud"'), {}, True),
        (PROFILES.replace('"local"', '"cloud"'), {"PREFECT_PROFILE": "local"}, False),
        ("", {}, False),
    ],
)
def test_a_server_is_named_by_the_environment_or_the_active_profile(
    text: str | None, environment: dict[str, str], configured: bool,
    profiles: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if text is not None:
        profiles.write_text(text, encoding="utf-8")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert prefect_server_is_configured() is configured


def test_the_profiles_may_be_elsewhere(
    profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(PROFILES.replace('"local"', '"cloud"'), encoding="utf-8")
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(elsewhere))
    assert prefect_server_is_configured()


@pytest.mark.parametrize(
    ("name", "text", "configured"),
    [
        (".env", "A=1\nexport PREFECT_API_URL=http://host/api\n", True),
        (".env", "PREFECT_API_URL=\n# PREFECT_API_URL=x\n", False),
        ("prefect.toml", '[api]\nurl = "http://host/api"\n', True),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://host/api"\n', True),
        ("pyproject.toml", "[tool.prefect.api]\nrequest_timeout = 9\n", False),
    ],
)
def test_a_server_may_be_named_by_a_file_of_the_folder(
    name: str, text: str, configured: bool, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert prefect_server_is_configured() is configured


def test_profiles_that_cannot_be_read_are_named(profiles: Path) -> None:
    profiles.write_text("active = ", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"{profiles}, which may name a Prefect server, is no TOML"):
        prefect_server_is_configured()


def test_pools_are_json_and_a_mistake_in_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_POOLS", '{"gpu": {"gpus": 8, "cpus": 64, "memory_gb": 512}}')
    assert Settings().pools["gpu"].gpus == 8
    monkeypatch.setenv("NANOCHAT_POOLS", "gpu")
    with pytest.raises(UsageError, match="NANOCHAT_POOLS = 'gpu' is no JSON"):
        Settings()
    monkeypatch.setenv("NANOCHAT_POOLS", '{"gpu": {"gpus": -1, "cpus": 64, "memory_gb": 512}}')
    with pytest.raises(UsageError, match="NANOCHAT_POOLS = -1"):
        Settings()
