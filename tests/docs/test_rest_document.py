"""docs/rest.md says what the routes are."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.routing import Match

from rest.requests import CancelRequest
from rest.routes import routes
from rest.table import ENDPOINTS, render
from schema.registry import load_registry
from sync_server.fingerprints import fingerprint

DOCUMENT = Path(__file__).parents[2] / "docs" / "rest.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
URLS = [url for command in COMMANDS for url in re.findall(r"http://127\.0\.0\.1:3000[^\s\"']*", command)]


class TestTheTable:
    def test_is_that_of_the_routes(self) -> None:
        assert render(TEXT) == TEXT, "run `python -m rest.table docs/rest.md`"

    def test_notices_a_change(self) -> None:
        assert render(TEXT.replace("| `POST` | `/api/sync/sync` |", "| `PUT` | `/api/sync/sync` |")) == TEXT

    def test_has_every_route(self) -> None:
        assert all(f"| `{one.method}` | `{one.template}` |" in TEXT for one in ENDPOINTS)


class TestTheExamples:
    @pytest.mark.parametrize("url", URLS)
    def test_ask_for_routes_that_exist(self, url: str) -> None:
        scope = {"type": "http", "path": urlsplit(url).path, "method": "GET", "headers": [], "root_path": ""}
        found = [route.matches(scope)[0] for route in routes(load_registry(None))]
        assert any(match is not Match.NONE for match in found)

    def test_of_bodies_are_json(self) -> None:
        bodies = [json.loads(body) for command in COMMANDS for body in re.findall(r"-d '(.*?)'", command, re.DOTALL)]
        assert len(bodies) == 3

    def test_of_the_error_is_what_is_said(self) -> None:
        (example,) = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
        assert example["details"]["field"] in CancelRequest.model_fields

    def test_of_the_checksum_is_right(self) -> None:
        assert f"`{fingerprint('note', '124', 3):016x}`" in TEXT


class TestTheText:
    def test_links_to_headings_that_exist(self) -> None:
        protocol = DOCUMENT.with_name("protocol.md").read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", protocol, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert set(re.findall(r"\]\(protocol\.md#([^)]+)\)", TEXT)) <= anchors
