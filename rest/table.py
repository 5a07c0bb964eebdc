"""Every route under /api/sync: what is served and what is documented are made from this one table.

`python -m rest.table docs/rest.md` writes the document's tables anew between its markers.
"""

import re
import sys
from pathlib import Path
from typing import Any

from rest import entities, feeds, spaces, syncs
from rest.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint[Any, Any], ...] = (
    *syncs.ENDPOINTS,
    *feeds.ENDPOINTS,
    *spaces.ENDPOINTS,
    *entities.ENDPOINTS,
)


_MARKED = re.compile(r"(<!-- table: routes -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown() -> str:
    """The routes as the table of docs/rest.md."""
    rows = [f"| `{one.method}` | `{one.template}` | {one.summary} |" for one in ENDPOINTS]
    return "\n".join(["| method | path | what it does |", "| --- | --- | --- |", *rows]) + "\n"


def render(document: str) -> str:
    """The document with what stands between its markers made anew."""
    return _MARKED.sub(lambda match: match[1] + markdown() + match[2], document)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
