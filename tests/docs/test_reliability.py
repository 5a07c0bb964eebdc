"""Each test that the reliability page names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|clients)/[\w/]+\.py(?:::\w+(?:\.\w+)?)?)`", PAGE)))


def names(path: Path) -> set[str]:
    """The classes of a module of tests, and their tests as `Class.test`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            functions = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{function.name}" for function in functions}
    return found


class TestTheReliabilityPage:
    def test_names_tests(self) -> None:
        assert len(NAMED) > 20

    @pytest.mark.parametrize("named", NAMED)
    def test_names_only_tests_that_exist(self, named: str) -> None:
        path, _, name = named.partition("::")
        assert (ROOT / path).is_file()
        assert not name or name in names(ROOT / path)

    def test_names_every_module_of_faults(self) -> None:
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "faults").glob("test_*.py")}
        assert modules - {named.partition("::")[0] for named in NAMED} == set()
