"""Which versions of the wire a server understands."""

import pytest

from sync_server.protocol.versions import is_supported


class TestAVersion:
    @pytest.mark.parametrize("version", ["1", "1.0", "1.0.0", "1.99.3", "01.0.0"])
    def test_of_the_same_major_is_supported(self, version: str) -> None:
        assert is_supported(version)

    @pytest.mark.parametrize("version", ["0.9.0", "2.0.0", "10.0.0"])
    def test_of_another_major_is_not(self, version: str) -> None:
        assert not is_supported(version)

    @pytest.mark.parametrize(
        "version", ["", "v1", "1.", "1.x", "1.0.0.0", "1.0.0\n", "-1", "\u0661", "1" * 5000, 1, 1.0, None]
    )
    def test_that_is_none_is_not(self, version: object) -> None:
        assert not is_supported(version)
