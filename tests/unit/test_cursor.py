"""Cursors of older servers are still understood."""

import base64

import pytest

from sync_server.cursor import Cursor, Scan, ScanKind, format_cursor, parse_cursor
from sync_server.errors import CommandError
from sync_server.types import Seq, SpaceId


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class TestACursorOfTheFirstFormat:
    def test_goes_on_in_the_log(self) -> None:
        assert parse_cursor(encoded("1.e1.7")) == Cursor("e1", Seq(7))

    def test_begins_its_scan_again_as_scans_had_another_order(self) -> None:
        assert parse_cursor(encoded("1.e1.9.s.u-1.5.9")) == Cursor(
            "e1", Seq(9), Scan(ScanKind.SNAPSHOT, SpaceId("u-1"), Seq(0), Seq(9))
        )


class TestACursor:
    def test_is_read_as_it_was_written(self) -> None:
        cursor = Cursor("e1", Seq(9), Scan(ScanKind.REVOKED, SpaceId("s"), Seq(5), Seq(9)), own=Seq(12))
        assert parse_cursor(format_cursor(cursor)) == cursor

    @pytest.mark.parametrize("text", ["2.e1.7", "3.e1.7.0", "2.e1.7.x", "1.e1.7.0"])
    def test_of_no_known_format_is_refused(self, text: str) -> None:
        with pytest.raises(CommandError):
            parse_cursor(encoded(text))

    def test_forgets_its_own_changes_once_it_is_past_them(self) -> None:
        cursor = Cursor("e1", Seq(3), own=Seq(5))
        assert (cursor.at(Seq(4)).own, cursor.at(Seq(5)).own) == (5, 0)
