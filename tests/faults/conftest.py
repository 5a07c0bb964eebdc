"""Figures that a test tells: printed at once in a soak, never asserted."""

from collections.abc import Callable

import pytest


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line of figures, if this is `make soak`."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    is_soak = reporter is not None and request.config.option.markexpr == "soak"

    def told(line: str) -> None:
        if is_soak:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"{request.node.name}: {line}")

    return told
