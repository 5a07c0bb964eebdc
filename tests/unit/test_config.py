import os
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from sync_server.config import Settings, is_loopback, load_settings
from sync_server.errors import ConfigurationError

SECRET = "correct-horse-battery-staple-0123456789"


@pytest.fixture(autouse=True)
def _no_settings_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("SYNC_")]:
        monkeypatch.delenv(name)


def refusal(**flags: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(flags)
    return str(caught.value)


class TestDefaults:
    def test_serve_this_machine_only(self) -> None:
        settings = load_settings()

        assert (settings.host, settings.port, settings.is_loopback) == ("127.0.0.1", 3000, True)

    def test_keep_the_database_in_the_data_directory(self) -> None:
        assert load_settings({"data_dir": "/srv/sync"}).effective_database_url == "sqlite:////srv/sync/sync.db"

    def test_keep_verdicts_as_long_as_the_log(self) -> None:
        assert load_settings({"retention_days": "30"}).effective_verdict_retention_days == 30

    def test_believe_no_proxy_and_admit_no_origin(self) -> None:
        settings = load_settings()

        assert (settings.trusted_proxies, settings.allowed_origins) == ((), ())


class TestSettings:
    def test_are_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            load_settings().port = 1  # type: ignore[misc]

    def test_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_PORT", "4000")

        assert load_settings().port == 4000

    def test_of_flags_win(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_PORT", "4000")

        assert load_settings({"port": "5000"}).port == 5000

    def test_that_are_empty_count_as_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_AUTH_SECRET", "")
        monkeypatch.setenv("SYNC_PORT", "")

        settings = load_settings()

        assert (settings.auth_secret, settings.port) == (None, 3000)

    def test_hide_secrets_in_every_form(self) -> None:
        settings = load_settings({"auth_secret": SECRET, "database_url": "sqlite://sync:hunter2@/sync.db"})

        shown = f"{settings!r} {settings} {settings.printable}"

        assert SECRET not in shown
        assert "hunter2" not in shown

    def test_are_printed_as_they_take_effect(self) -> None:
        printable = load_settings({"allowed_origins": "https://a.example, https://b.example"}).printable

        assert printable["allowed_origins"] == "https://a.example,https://b.example"
        assert printable["database_url"] == "sqlite:///data/sync.db"
        assert printable["slow_consumer_s"] == "20"
        assert printable["verdict_retention_days"] == "90"

    def test_are_all_described(self) -> None:
        assert all(field.description for field in Settings.model_fields.values())


class TestLists:
    def test_of_origins_are_split_and_written_as_browsers_do(self) -> None:
        settings = load_settings(
            {"allowed_origins": " https://App.Example:443 ,http://localhost:8080,,tauri://localhost"}
        )

        assert settings.allowed_origins == ("https://app.example", "http://localhost:8080", "tauri://localhost")

    @pytest.mark.parametrize("origin", ["*", "null", "app.example", "https://a.example/", "https://me@a.example"])
    def test_with_what_is_no_origin_are_refused(self, origin: str) -> None:
        assert refusal(allowed_origins=origin).startswith("--allowed-origins: an origin is scheme://host")

    def test_of_proxies_take_addresses_and_networks(self) -> None:
        settings = load_settings({"trusted_proxies": "10.0.0.0/8, ::1"})

        assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))


class TestVariablesOfTheClient:
    def test_may_be_set_in_the_same_shell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_CLIENT_URL", "ws://localhost:3000")

        assert load_settings().port == 3000


class TestUnknownVariable:
    def test_is_named_with_its_nearest_neighbour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_PROT", "4000")

        assert refusal().startswith("SYNC_PROT is not a setting; did you mean SYNC_PORT?")

    def test_is_refused_in_small_letters_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("sync_data_dri", "x")

        assert "did you mean SYNC_DATA_DIR?" in refusal()

    def test_does_not_show_its_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_AUTH_SECRT", SECRET)

        assert SECRET not in refusal()


class TestMalformedValue:
    def test_of_a_variable_is_refused_in_one_line_that_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_PORT", "30\n00")

        text = refusal()

        assert text.startswith("SYNC_PORT: ")
        assert text.endswith("not '30\\n00'")
        assert "\n" not in text

    def test_of_a_flag_is_refused_by_the_name_of_the_flag(self) -> None:
        assert refusal(max_message_bytes="9") == (
            "--max-message-bytes: input should be greater than or equal to 16384, not '9'"
        )

    def test_that_is_long_is_cut(self) -> None:
        assert len(refusal(port="9" * 5_000)) < 250

    def test_of_a_secret_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNC_DATABASE_URL", f"mysql://root:{SECRET}@db")

        text = refusal()

        assert text.startswith("SYNC_DATABASE_URL: must be a database's URL")
        assert SECRET not in text

    def test_leaves_no_secret_in_the_chain_of_causes(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load_settings({"auth_secret": SECRET, "port": "x"})

        assert caught.value.__suppress_context__
        assert SECRET not in str(caught.value.__context__)

    def test_of_a_secret_is_hidden_in_the_models_own_error_too(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Settings(database_url="mysql://root:hunter2@db")

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("port", "65536"),
            ("port", "-1"),
            ("host", ""),
            ("log_format", "xml"),
            ("log_level", "loud"),
            ("slow_consumer_s", "0"),
            ("slow_consumer_s", "nan"),
            ("slow_consumer_s", "inf"),
            ("entity_types", "my app"),
            ("trusted_proxies", "proxy.example"),
            ("retention_days", "0"),
        ],
    )
    def test_is_out_of_bounds(self, name: str, value: str) -> None:
        assert refusal(**{name: value}).startswith("--")

    def test_of_verdict_retention_is_shorter_than_that_of_the_log(self) -> None:
        assert refusal(retention_days="90", verdict_retention_days="89").startswith(
            "--verdict-retention-days: must be at least retention_days, which is 90"
        )

    def test_of_verdict_retention_is_not_one_that_equals_that_of_the_log(self) -> None:
        settings = load_settings({"retention_days": "90", "verdict_retention_days": "90"})

        assert settings.effective_verdict_retention_days == 90


class TestKeySetLocation:
    @pytest.mark.parametrize(
        "location", ["keys.json", "/etc/keys.json", "https://id.example/jwks", "http://[::1]:1/jwks"]
    )
    def test_is_a_file_or_a_url_nobody_can_forge(self, location: str) -> None:
        assert load_settings({"auth_jwks": location}).auth_jwks == location

    @pytest.mark.parametrize("location", ["http://id.example/jwks", "ftp://id.example/jwks", "https:///jwks"])
    def test_is_nothing_else(self, location: str) -> None:
        assert "must be the path of a file or an https:// URL" in refusal(auth_jwks=location)


class TestLoopback:
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1"])
    def test_is_reached_from_this_machine_only(self, host: str) -> None:
        assert is_loopback(host)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "sync.example", "localhost.example", ""])
    def test_is_nothing_else(self, host: str) -> None:
        assert not is_loopback(host)


class TestConstruction:
    def test_in_code_takes_values_of_the_fields_types(self) -> None:
        settings = Settings(
            port=0, data_dir=Path("elsewhere"), allowed_origins=("https://a.example",), auth_deadline_s=0.2
        )

        assert (settings.port, settings.allowed_origins, settings.auth_deadline_s) == (0, ("https://a.example",), 0.2)
