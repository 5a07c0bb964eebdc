"""Figures that a test tells: printed after the run, never asserted in it."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def tell(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Add a line to the figures at the end of the run."""

    def told(line: str) -> None:
        record_property("figure", f"{request.node.name}: {line}")

    return told


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = [value for report in reports for name, value in getattr(report, "user_properties", []) if name == "figure"]
    if lines and terminalreporter.config.option.markexpr == "soak":
        terminalreporter.section("figures")
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)
