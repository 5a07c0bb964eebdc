"""The client's tests run against the real server: its fixtures are theirs, too."""

from tests.conftest import server

__all__ = ["server"]
