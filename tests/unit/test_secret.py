import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sync_server.config import Settings
from sync_server.errors import ConfigurationError
from sync_server.secret import SECRET_FILE_NAME, signing_secret


def settings(data_dir: Path, **values: str) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, **values})


class TestGeneratedSecret:
    def test_stays_the_same(self, tmp_path: Path) -> None:
        first = signing_secret(settings(tmp_path))

        assert first is not None
        assert len(first.encode()) >= 32
        assert signing_secret(settings(tmp_path)) == first

    def test_differs_from_that_of_another_directory(self, tmp_path: Path) -> None:
        assert signing_secret(settings(tmp_path / "a")) != signing_secret(settings(tmp_path / "b"))

    def test_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        signing_secret(settings(tmp_path / "data"))

        assert stat.S_IMODE((tmp_path / "data" / SECRET_FILE_NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700

    def test_leaves_no_draft_behind(self, tmp_path: Path) -> None:
        signing_secret(settings(tmp_path))

        assert [path.name for path in tmp_path.iterdir()] == [SECRET_FILE_NAME]

    def test_is_one_however_many_start_at_once(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(16) as pool:
            found = set(pool.map(lambda _: signing_secret(settings(tmp_path / "data")), range(64)))

        assert len(found) == 1

    def test_that_others_may_read_is_refused(self, tmp_path: Path) -> None:
        signing_secret(settings(tmp_path))
        (tmp_path / SECRET_FILE_NAME).chmod(0o640)

        with pytest.raises(ConfigurationError, match=r"may be read by others \(mode 0640\): `chmod 600`"):
            signing_secret(settings(tmp_path))

    @pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40])
    def test_that_was_damaged_is_refused(self, tmp_path: Path, content: bytes) -> None:
        signing_secret(settings(tmp_path))
        (tmp_path / SECRET_FILE_NAME).write_bytes(content)

        with pytest.raises(ConfigurationError, match=SECRET_FILE_NAME):
            signing_secret(settings(tmp_path))

    def test_that_cannot_be_kept_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("a file")

        with pytest.raises(ConfigurationError, match=r"^SYNC_DATA_DIR: cannot keep the generated secret in [^\n]*$"):
            signing_secret(settings(tmp_path / "data"))


class TestSetSecret:
    def test_is_taken_as_it_is(self, tmp_path: Path) -> None:
        assert signing_secret(settings(tmp_path, auth_secret="s" * 32)) == "s" * 32
        assert list(tmp_path.iterdir()) == []

    def test_that_is_short_is_refused_without_being_shown(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigurationError, match="SYNC_AUTH_SECRET has 31 bytes; HS256 needs at least 32"
        ) as caught:
            signing_secret(settings(tmp_path, auth_secret="s" * 31))

        assert "sss" not in str(caught.value)

    def test_is_measured_in_bytes(self, tmp_path: Path) -> None:
        assert signing_secret(settings(tmp_path, auth_secret="é" * 16)) == "é" * 16


class TestOpenHost:
    def test_without_secret_is_refused_with_what_to_set(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"^SYNC_AUTH_SECRET must be set .* to serve on 0\.0\.0\.0"):
            signing_secret(settings(tmp_path, host="0.0.0.0"))

        assert list(tmp_path.iterdir()) == []

    def test_with_keys_needs_no_secret(self, tmp_path: Path) -> None:
        assert signing_secret(settings(tmp_path, host="0.0.0.0", auth_jwks="keys.json")) is None

    def test_with_a_secret_serves(self, tmp_path: Path) -> None:
        assert signing_secret(settings(tmp_path, host="0.0.0.0", auth_secret="s" * 32)) == "s" * 32
