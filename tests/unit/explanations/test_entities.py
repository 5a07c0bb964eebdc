"""Why a device has or lacks a row, from what the store has of both."""

from typing import Any

import pytest

from sync_server.cursor import Scan, ScanKind
from sync_server.explanations.entities import Answer, Facts, State, explain_row, position_of
from sync_server.records import Filter, Followed, Head, Membership
from sync_server.types import Role
from tests.contract.builders import entity
from tests.unit.explanations.builders import client, cursor, facts, left, step


def end(known: Facts) -> tuple[str, State, Answer]:
    """Where the chain ends, in which state, with which answer."""
    told = explain_row(known)
    assert told.text.endswith((".", ")."))
    assert told.remedy.endswith((".", ").", "ID."))
    assert all(finding.state is State.OK for finding in told.findings[:-1])
    return told.findings[-1].about, told.findings[-1].state, told.answer


ROW = entity("a", space_id="team", version=3, seq=30, created_seq=12)


class TestARow:
    def test_that_was_told_has_its_version(self) -> None:
        told = explain_row(facts())
        assert end(facts()) == ("cursor", State.OK, Answer.TOLD)
        assert told.version == 3
        assert [finding.about for finding in told.findings] == [
            "entity", "user", "role", "client", "filter", "position", "log", "grant", "cursor",
        ]  # fmt: skip

    def test_that_is_not_there_is_told_to_nobody(self) -> None:
        assert end(facts(entity=None)) == ("entity", State.STOPS, Answer.NOT)

    def test_that_is_deleted_was_told_as_that(self) -> None:
        told = explain_row(facts(entity=ROW._replace(deleted=True)))
        assert told.answer is Answer.NOT
        assert "deleted since version 3" in told.findings[0].text
        assert told.text == "The device was told that it is deleted."

    def test_whose_delete_was_not_told_may_still_be_shown(self) -> None:
        known = facts(entity=ROW._replace(deleted=True, seq=55), steps=())
        assert explain_row(known).answer is Answer.OLDER
        new = facts(entity=ROW._replace(deleted=True, seq=55, created_seq=52), steps=())
        assert end(new) == ("cursor", State.STOPS, Answer.NOT)

    def test_that_the_device_wrote_itself_is_there_before_its_cursor(self) -> None:
        mine = step(4, seq=58, modified_by="1", client_id="phone")
        known = facts(entity=ROW._replace(version=4, seq=58), steps=(mine, step(3, seq=30)))
        assert end(known) == ("cursor", State.OK, Answer.TOLD)

    def test_that_changed_since_is_told_in_the_version_of_the_cursor(self) -> None:
        known = facts(entity=ROW._replace(version=4, seq=58), steps=(step(4, seq=58), step(3, seq=30)))
        assert end(known) == ("cursor", State.STOPS, Answer.OLDER)
        assert explain_row(known).version == 3
        assert explain_row(known).text.startswith("The device was told version 3; version 4 comes when")

    def test_that_changed_since_and_whose_history_is_trimmed_has_no_version(self) -> None:
        told = explain_row(facts(entity=ROW._replace(version=4, seq=58), steps=(step(4, seq=58),)))
        assert (told.answer, told.version) == (Answer.OLDER, None)
        assert "an older version" in told.text

    def test_that_is_newer_than_the_cursor_comes(self) -> None:
        known = facts(entity=ROW._replace(version=1, seq=55, created_seq=55), steps=(step(1, seq=55),))
        assert end(known) == ("cursor", State.STOPS, Answer.COMING)


class TestAUser:
    def test_who_never_came_is_told_nothing(self) -> None:
        assert end(facts(has_user=False)) == ("user", State.STOPS, Answer.NOT)

    def test_who_never_had_a_role_is_told_how_to_get_one(self) -> None:
        assert end(facts(place=None)) == ("role", State.STOPS, Answer.NOT)
        assert "PUT /api/sync/spaces/team/members/1" in explain_row(facts(place=None)).remedy

    def test_whose_role_was_revoked_is_told_when_and_by_whom(self) -> None:
        revoked = facts(place=Membership("team", "1", None, 40), placed=step(1, seq=40, modified_by="9"))
        assert end(revoked) == ("role", State.STOPS, Answer.NOT)
        told = explain_row(revoked)
        assert "was revoked by user 9 at 1970-01-01T00:00:01Z (seq 40)" in told.findings[-1].text
        assert told.text.endswith("was told to drop what it had of the space.")

    def test_whose_revocation_was_not_told_yet_may_show_what_they_had(self) -> None:
        told = explain_row(facts(place=Membership("team", "1", None, 55)))
        assert "may still show what it had" in told.text


class TestAClient:
    def test_that_nobody_knows_may_have_been_told_anything(self) -> None:
        assert end(facts(client=None)) == ("client", State.UNKNOWN, Answer.UNKNOWN)

    def test_that_only_said_hello_may_have_been_told_anything(self) -> None:
        known = client(cursor=None, last_sync_time=None, followed=Followed(Filter(), False))
        assert end(facts(client=known)) == ("position", State.UNKNOWN, Answer.UNKNOWN)

    def test_that_is_connected_is_said_to_be_told_more(self) -> None:
        told = explain_row(facts(client=client(followed=Followed(Filter(), True))))
        assert "may be open still" in told.findings[3].text

    @pytest.mark.parametrize(
        ("followed", "wanted"),
        [
            (left(55), 55),
            (left(55, at=1), 50),
            (Followed(Filter(), True), 50),
            (None, 50),
        ],
    )
    def test_stands_where_the_latest_of_both_roads_says(self, followed: Any, wanted: int) -> None:
        position = position_of(client(followed=followed))
        assert position is not None
        assert position.seq == wanted


class TestAFilter:
    @pytest.mark.parametrize("asked", [Filter(("other",)), Filter(None, ("folder",)), Filter((), None)])
    def test_that_leaves_the_row_out_is_where_it_ends(self, asked: Filter) -> None:
        assert end(facts(client=client(asked=asked))) == ("filter", State.STOPS, Answer.NOT)

    @pytest.mark.parametrize("asked", [Filter(("team", "x")), Filter(None, ("note",)), Filter(("team",), ("note",))])
    def test_that_lets_the_row_pass_goes_on(self, asked: Filter) -> None:
        assert end(facts(client=client(asked=asked))) == ("cursor", State.OK, Answer.TOLD)

    def test_is_that_of_the_road_which_told_last(self) -> None:
        pushed = client(followed=left(55, entity_types=("folder",)))
        synced = client(followed=left(55, at=1, entity_types=("folder",)))
        assert end(facts(client=pushed)) == ("filter", State.STOPS, Answer.NOT)
        assert end(facts(client=synced))[2] is Answer.TOLD

    def test_of_an_open_connection_counts_before_all(self) -> None:
        known = client(cursor=None, followed=Followed(Filter(entity_types=("folder",)), is_resumed=False))
        assert end(facts(client=known)) == ("filter", State.STOPS, Answer.NOT)

    def test_that_is_not_stored_stops_nothing(self) -> None:
        told = explain_row(facts(client=client(asked=None)))
        assert told.findings[4].state is State.UNKNOWN
        assert told.answer is Answer.TOLD


class TestTheLog:
    @pytest.mark.parametrize(
        "head", [Head("e2", 60, 0), Head("e1", 40, 0), Head("e1", 60, 51)], ids=["epoch", "restored", "horizon"]
    )
    def test_that_does_not_cover_the_cursor_starts_over(self, head: Head) -> None:
        assert end(facts(head=head)) == ("log", State.STOPS, Answer.COMING)

    def test_covers_a_cursor_at_its_horizon(self) -> None:
        assert end(facts(head=Head("e1", 60, 50)))[0] == "cursor"

    def test_covers_who_stands_at_the_beginning(self) -> None:
        told = explain_row(facts(client=client(cursor=cursor(0)), head=Head("e1", 60, 0)))
        assert told.answer is Answer.COMING


class TestAGrant:
    def test_that_was_not_reached_brings_the_space_later(self) -> None:
        assert end(facts(place=Membership("team", "1", Role.VIEWER, 51))) == ("grant", State.STOPS, Answer.COMING)


class TestASnapshot:
    def scanning(self, after: int, space_id: str | None = None, kind: ScanKind = ScanKind.SNAPSHOT) -> Facts:
        return facts(client=client(cursor=cursor(50, scan=Scan(kind, space_id, after, 50))))  # type: ignore[arg-type]

    def test_that_has_not_come_to_the_row_brings_it_later(self) -> None:
        told = explain_row(self.scanning(11))
        assert (told.answer, told.findings[-1].state) == (Answer.COMING, State.STOPS)
        assert "rest of the snapshot" in told.text

    def test_that_has_come_to_the_row_told_it(self) -> None:
        assert explain_row(self.scanning(12)).answer is Answer.TOLD

    def test_of_another_space_has_nothing_to_do_with_it(self) -> None:
        assert explain_row(self.scanning(0, "else")).answer is Answer.TOLD
        assert explain_row(self.scanning(0, "team")).answer is Answer.COMING


class TestAWebSocketWithoutACursor:
    def test_says_nothing_of_what_was_before_it(self) -> None:
        known = facts(client=client(cursor=cursor(20), followed=left(55, start=40, is_resumed=False)))
        assert end(known) == ("cursor", State.UNKNOWN, Answer.UNKNOWN)

    def test_told_what_came_after_it_began(self) -> None:
        known = client(cursor=None, followed=left(55, start=29, is_resumed=False))
        assert explain_row(facts(client=known)).answer is Answer.TOLD

    def test_had_what_a_sync_told_before(self) -> None:
        known = client(cursor=cursor(30), followed=left(55, start=40, is_resumed=False))
        assert explain_row(facts(client=known)).answer is Answer.TOLD

    def test_that_resumed_had_everything_before(self) -> None:
        known = client(cursor=cursor(20), followed=left(55, start=40))
        assert explain_row(facts(client=known)).answer is Answer.TOLD
