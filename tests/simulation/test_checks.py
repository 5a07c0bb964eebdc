"""Histories made by hand: what breaks a promise is seen, and what only looks like it is not."""

from typing import Any

from sync_client.values import Key

from sync_server.cursor import Cursor, format_cursor
from sync_server.testing.checks import violations
from sync_server.testing.evidence import BUFFER_BYTES
from sync_server.testing.history import (
    DeviceEnd,
    Got,
    Granted,
    History,
    Json,
    Opened,
    Pried,
    Read,
    Restored,
    Sent,
    State,
    Trimmed,
    Truth,
    Version,
    Wrote,
)
from sync_server.types import Seq

NOTE = Key("note", "n")


def version(number: int, by: str, data: Json | None, *, operation_type: str = "update") -> Version:
    return Version(NOTE, number, number, f"{by}{number}", by, operation_type, data, f"{data}")


def history(*versions: Version, conflicts: tuple[Json, ...] = ()) -> History:
    """What one note became, and that the devices `a` of user 1 and `b` of user 2 have it."""
    found = History()
    found.epoch = "e"
    newest = versions[-1] if versions else None
    is_live = newest is not None and newest.data is not None
    rows = {NOTE: State("s", newest.version, newest.data or {})} if newest is not None and is_live else {}
    found.users = {"a": "1", "b": "2"}
    found.http_devices = {"a", "b"}
    for device, user in found.users.items():
        found.truths[user] = Truth(frozenset({"s"}), rows, versions, conflicts)
        found.ends[device] = DeviceEnd(user, device, True, "live", rows, (), (), ())
    return found


def sent(at: float, device: str, operation_id: str, **operation: Any) -> Sent:
    told = {"operation_id": operation_id, "operation_type": "update", "entity_type": "note", **operation}
    return Sent(at, device, 1, {"type": "sync", "data": {"operations": [told]}})


def done(at: float, device: str, operation_id: str, number: int, *, operation_type: str = "update") -> Got:
    result = {
        "operation_id": operation_id, "operation_type": operation_type, "entity_type": "note", "entity_id": "n",
        "success": True, "verdict": "applied", "new_version": number, "seq": number,
    }  # fmt: skip
    return Got(at, device, 1, {"type": "sync_response", "data": {"operation_results": [result]}})


def pushed(at: float, device: str, link: int, of: Version) -> Got:
    update = {
        "entity_type": "note", "entity_id": "n", "space_id": "s", "seq": of.seq, "version": of.version,
        "operation_type": of.operation_type, "data": of.data,
    }  # fmt: skip
    return Got(at, device, link, {"type": "server_updates", "cursor": None, "updates": [update]})


def broken(found: History) -> set[str]:
    return {problem.partition(":")[0] for problem in violations(found)}


FIRST = version(1, "a", {"title": "x"}, operation_type="create")
SECOND = version(2, "a", {"title": "<2>"})


class TestDurability:
    def test_is_of_the_operation_that_was_acknowledged(self) -> None:
        found = history(FIRST, SECOND)
        found.add(done(1, "a", "a2", 2))
        assert broken(found) == set()
        found.add(done(2, "b", "a2", 2))  # of the same id, and another client's
        assert broken(found) == {"P1"}

    def test_is_not_of_what_a_backup_took_back(self) -> None:
        found = history(FIRST)
        found.add(done(5, "a", "a2", 2))
        assert broken(found) == {"P1"}
        found.add(Restored(9, 4))
        assert broken(found) == set()


class TestAForgottenLog:
    """The log was forgotten at 5 s: of FIRST and SECOND nothing is left in the end but what was asked for before."""

    def forgotten(self, *kept: Version, floor: int = 2, now: tuple[Version, ...] = ()) -> History:
        found = history(FIRST, SECOND)
        for user, truth in found.truths.items():
            found.truths[user] = truth._replace(versions=now)
        found.add(Trimmed(4.9, 5, len(kept), floor, kept))
        return found

    def test_still_has_what_was_acknowledged(self) -> None:
        found = self.forgotten(FIRST, SECOND)
        found.add(done(1, "a", "a2", 2))
        assert broken(found) == set()
        found.add(done(1, "b", "b2", 2))
        assert broken(found) == {"P1"}

    def test_says_nothing_of_what_nobody_had_asked_for(self) -> None:
        found = self.forgotten(FIRST)
        found.events += [
            sent(1, "a", "a2", changes={"title": "<2>"}), done(2, "a", "a2", 2), pushed(2, "b", 1, SECOND),
            Opened(0, "b", 1, "websocket"), Wrote(1, "a", "updates", NOTE, ("<2>",)),
        ]  # fmt: skip
        assert broken(found) == set()

    def test_still_has_what_was_told(self) -> None:
        found = self.forgotten(FIRST, SECOND)
        found.events += [Opened(0, "b", 1, "websocket"), pushed(2, "b", 1, SECOND)]
        assert broken(found) == set()
        found.add(pushed(3, "b", 1, SECOND._replace(version=3, seq=3)))
        assert broken(found) == {"P6"}

    def test_still_makes_the_snapshot(self) -> None:
        found = self.forgotten(FIRST, SECOND._replace(data={"title": "<3>"}))
        assert broken(found) == {"P5"}

    def test_still_has_what_was_written_and_deleted(self) -> None:
        found = self.forgotten(FIRST, SECOND)
        found.add(Wrote(1, "a", "updates", NOTE, ("<2>",)))
        assert broken(found) == set()
        found.add(Wrote(1, "a", "updates", NOTE, ("<9>",)))
        assert broken(found) == {"P8"}
        found = self.forgotten(FIRST, SECOND)
        found.add(Wrote(1, "a", "deletes", NOTE, ()))
        assert broken(found) == {"P8"}

    def test_comes_back_with_a_backup(self) -> None:
        found = self.forgotten(FIRST, SECOND, now=(FIRST, SECOND))
        found.add(Restored(9, 4))
        assert broken(found) == set()
        found.add(done(1, "b", "b2", 2))
        assert broken(found) == {"P1"}

    def test_may_begin_an_entity_anew(self) -> None:
        gone, anew = version(2, "a", None, operation_type="delete"), FIRST._replace(seq=3, operation_id="a3")
        found = self.forgotten(FIRST, gone, now=(anew,))
        rows = {NOTE: State("s", 1, {"title": "x"})}
        found.truths = {user: truth._replace(rows=rows) for user, truth in found.truths.items()}
        found.ends = {device: end._replace(rows=rows) for device, end in found.ends.items()}
        found.events += [Opened(0, "b", 1, "websocket"), pushed(2, "b", 1, gone), pushed(8, "b", 1, anew)]
        cursor = format_cursor(Cursor("e", Seq(3)))
        found.http_devices = set()
        found.add(Got(9, "b", 1, {"type": "caught_up", "cursor": cursor}))
        assert broken(found) == set()


class TestARead:
    def test_shows_what_was_acknowledged_before(self) -> None:
        found = history(FIRST)
        found.events += [done(1, "a", "a1", 1), Read(5, 6, "a", NOTE, None), Restored(9, 4)]
        assert broken(found) == {"P7"}

    def test_may_show_a_delete_that_a_backup_took_back(self) -> None:
        found = history(FIRST)
        asked = sent(5, "b", "b2", entity_id="n", operation_type="delete")
        found.events += [
            done(1, "a", "a1", 1), asked, done(5, "b", "b2", 2, operation_type="delete"), Read(5, 6, "a", NOTE, None),
            Restored(9, 4),
        ]  # fmt: skip
        assert broken(found) == set()


class TestAStream:
    """Device `b` stands at seq 1, and then at 3 without a word of 2; both are of one note."""

    def told(self, *, third_at: float, before: int = 0) -> History:
        third = version(3, "a", {"title": "<3>"})
        found = history(FIRST, SECOND, third)
        asked = [sent(1, "a", "a2"), done(1.1, "a", "a2", 2), sent(third_at, "a", "a3"), done(third_at, "a", "a3", 3)]
        noise = Got(0.5, "b", 1, {"type": "pong", "text": "x" * before})
        found.events += [Opened(0, "b", 1, "websocket"), noise, *asked, pushed(2, "b", 1, FIRST)]
        return found

    def stands(self, found: History, at: float, seq: int, *rows: Version) -> None:
        got = pushed(at, "b", 1, rows[0]) if rows else Got(at, "b", 1, {"type": "server_updates", "updates": []})
        found.add(got._replace(message={**got.message, "cursor": format_cursor(Cursor("e", Seq(seq)))}))

    def test_tells_every_change(self) -> None:
        found = self.told(third_at=1.5)
        self.stands(found, 3, 1, FIRST)
        self.stands(found, 4, 3, version(3, "a", {"title": "<3>"}))
        assert broken(found) == {"P4"}

    def test_may_tell_newest_states_alone_to_who_has_a_full_buffer(self) -> None:
        found = self.told(third_at=1.5, before=BUFFER_BYTES)
        self.stands(found, 3, 1, FIRST)
        self.stands(found, 4, 3, version(3, "a", {"title": "<3>"}))
        assert broken(found) == set()

    def test_never_leaves_out_the_newest_state(self) -> None:
        """What came later was no reason to leave it out."""
        found = self.told(third_at=5, before=BUFFER_BYTES)
        self.stands(found, 3, 1, FIRST)
        self.stands(found, 4, 2)
        self.stands(found, 6, 3, version(3, "a", {"title": "<3>"}))
        assert broken(found) == {"P4"}


class TestAVerdict:
    def test_is_given_to_what_was_sent(self) -> None:
        found = history(FIRST, SECOND)
        found.add(sent(1, "a", "a2"))
        assert broken(found) == {"P3"}
        found.add(done(2, "a", "a2", 2))
        assert broken(found) == set()


class TestASnapshot:
    def test_is_what_the_log_says(self) -> None:
        found = history(FIRST, SECOND)
        rows = {NOTE: State("s", 2, {"title": "x"})}
        for user, truth in found.truths.items():
            found.truths[user] = truth._replace(rows=rows)
        found.ends = {device: end._replace(rows=rows) for device, end in found.ends.items()}
        assert broken(found) == {"P5"}


class TestALoss:
    def test_is_a_delete_without_effect(self) -> None:
        found = history(FIRST)
        found.add(Wrote(1, "a", "deletes", NOTE, ()))
        assert broken(found) == {"P8"}

    def test_is_no_delete_by_anybody(self) -> None:
        found = history(FIRST, version(2, "b", None, operation_type="delete"))
        found.add(Wrote(1, "a", "deletes", NOTE, ()))
        assert broken(found) == set()

    def test_is_a_value_written_over_unseen(self) -> None:
        versions = (FIRST, SECOND, version(3, "b", {"title": "<3>"}))
        asked = sent(1, "b", "b3", before_version=1, changes={"title": "<3>"}), done(2, "b", "b3", 3)
        found = history(*versions)
        found.events += asked
        assert broken(found) == {"P8"}
        found = history(*versions, conflicts=({"entity_type": "note", "entity_id": "n", "status": "resolved"},))
        found.events += asked
        assert broken(found) == set()

    def test_is_no_value_that_went_with_a_delete_and_came_back(self) -> None:
        gone, back = version(2, "a", None, operation_type="delete"), version(3, "a", {"title": "x", "content": "<3>"})
        asked = sent(1, "b", "b4", before_version=1, changes={"title": "<4>"}), done(2, "b", "b4", 4)
        found = history(FIRST, gone, back, version(4, "b", {"title": "<4>", "content": "<3>"}))
        found.events += asked
        assert broken(found) == set()
        found = history(FIRST, gone, back._replace(data={"title": "<3>"}), version(4, "b", {"title": "<4>"}))
        found.events += asked
        assert broken(found) == {"P8"}

    def test_is_not_what_a_backup_took_back(self) -> None:
        found = history(FIRST)
        found.events += [
            Wrote(5, "a", "updates", NOTE, ("<2>",)), sent(5, "a", "a2", changes={"title": "<2>"}),
            Wrote(5, "a", "deletes", NOTE, ()), sent(5, "a", "a3", entity_id="n", operation_type="delete"),
            done(6, "a", "a2", 2), done(7, "a", "a3", 3, operation_type="delete"), Restored(9, 4, head=1),
        ]  # fmt: skip
        assert broken(found) == set()

    def test_is_also_what_is_written_after_a_backup(self) -> None:
        found = history(FIRST)
        found.events += [Restored(9, 4), Wrote(10, "a", "updates", NOTE, ("<2>",))]
        assert broken(found) == {"P8"}
        found = history(FIRST)
        found.events += [Restored(9, 4), Wrote(10, "a", "deletes", NOTE, ())]
        assert broken(found) == {"P8"}

    def test_is_a_value_written_over_unseen_also_after_a_backup(self) -> None:
        """No number is given again: a base that the backup lost is known to be another."""
        for head in (0, 1):
            found = history(FIRST, SECOND, version(3, "b", {"title": "<3>"}))
            asked = sent(10, "b", "b3", before_version=1, changes={"title": "<3>"})
            found.events += [Restored(9, 4, head), asked, done(10, "b", "b3", 3)]
            assert broken(found) == {"P8"}

    def test_is_no_value_that_was_seen(self) -> None:
        found = history(FIRST, SECOND, version(3, "b", {"title": "<3>"}))
        found.events += [sent(1, "b", "b3", before_version=2, changes={"title": "<3>"}), done(2, "b", "b3", 3)]
        assert broken(found) == set()


class TestConvergence:
    def test_is_also_of_conflicts(self) -> None:
        """Over HTTP they are listed now and then, and every run waits for that."""
        found = history(FIRST, conflicts=({**_CONFLICT, "status": "open"},))
        assert broken(found) == {"P9"}
        assert found.http_devices == {"a", "b"}
        assert broken(history(FIRST, conflicts=({**_CONFLICT, "status": "resolved"},))) == set()


_CONFLICT = {"conflict_id": "c", "entity_type": "note", "entity_id": "n"}


class TestRevocation:
    """User 2 was given the space and lost it at 10 s; SECOND was written at 11 s."""

    def revoked(self, *grants: Granted, role: str | None = None) -> History:
        found = history(FIRST, SECOND)
        found.events += [Granted(0, 0, "2", "s", "editor"), Granted(9, 10, "2", "s", role), *grants]
        return found

    def test_ends_pushes(self) -> None:
        found = self.revoked()
        found.events += [Wrote(11, "a", "updates", NOTE, ("<2>",)), pushed(12, "b", 1, SECOND)]
        assert broken(found) == {"P10"}

    def test_may_be_taken_back_by_a_backup(self) -> None:
        found = self.revoked()
        found.events += [Restored(11, 5), Wrote(12, "a", "updates", NOTE, ("<2>",)), pushed(13, "b", 1, SECOND)]
        assert broken(found) == set()

    def test_may_be_taken_back_though_nobody_was_told(self) -> None:
        found = self.revoked(Granted(11, 12, "2", "s", "editor", is_sure=False))
        found.events += [Wrote(12, "a", "updates", NOTE, ("<2>",)), pushed(13, "b", 1, SECOND)]
        assert broken(found) == set()

    def test_lets_arrive_what_was_under_way(self) -> None:
        found = self.revoked()
        found.events += [Opened(1, "b", 1, "websocket"), pushed(12, "b", 1, FIRST)]
        assert broken(found) == set()

    def test_is_known_to_links_of_later(self) -> None:
        found = self.revoked()
        found.events += [Opened(11, "b", 2, "websocket"), pushed(12, "b", 2, FIRST)]
        assert broken(found) == {"P10"}

    def test_ends_reads(self) -> None:
        found = self.revoked()
        found.add(Read(11, 12, "b", NOTE, 1))
        assert broken(found) == {"P10"}

    def test_ends_answers(self) -> None:
        """What is asked for is what never was: not a word less, and not a word more."""
        refusal = 404, "There is no such entity."
        for told, problems in ((refusal, set()), ((404, "It is not yours."), {"P10"}), ((200, "<2>"), {"P10"})):
            for space_id, key in (("s", None), (None, NOTE)):
                found = self.revoked()
                found.add(Pried(11, 12, "2", "GET /…", space_id, key, told, refusal))
                assert broken(found) == problems
        found = self.revoked()
        found.add(Pried(8, 12, "2", "GET /…", "s", None, (200, "<2>"), refusal))  # they were a member when they asked
        assert broken(found) == set()

    def test_is_not_needed_where_nothing_was_given(self) -> None:
        """The personal space of user 1 is no other's."""
        found = history(FIRST)
        personal = Key("note", "p")
        rows = {**found.truths["1"].rows, personal: State("u-1", 1, {"title": "<9>"})}
        made = FIRST._replace(key=personal, seq=9, operation_id="a9", data={"title": "<9>"}, text="<9>")
        found.truths["1"] = found.truths["1"]._replace(
            spaces=frozenset({"s", "u-1"}), rows=rows, versions=(FIRST, made)
        )
        found.ends["a"] = found.ends["a"]._replace(rows=rows)
        found.add(Wrote(1, "a", "creates", personal, ("<9>",)))
        assert broken(found) == set()
        found.add(Got(2, "b", 1, {"type": "pong", "text": "<9>"}))
        assert broken(found) == {"P10"}

    def test_ends_writes_also_of_who_may_still_read(self) -> None:
        found = self.revoked(role="viewer")
        found.truths["1"] = found.truths["1"]._replace(versions=(FIRST, version(2, "b", {"title": "<2>"})))
        found.truths["2"] = found.truths["1"]
        found.events += [sent(11, "b", "b2"), done(12, "b", "b2", 2)]
        assert broken(found) == {"P10"}


class TestAResetInAReply:
    def test_takes_nothing_from_who_is_subscribed(self) -> None:
        """The subscription tells it again, with the rows, and that may come before."""
        found = history(FIRST)
        found.http_devices = set()
        rows = pushed(1, "b", 1, FIRST)
        reply = {"operation_results": [], "resets": [{"space_id": None}], "server_updates": []}
        cursor = format_cursor(Cursor("e", Seq(1)))
        found.events += [
            Opened(0, "b", 1, "websocket"), rows, Got(2, "b", 1, {"type": "sync_response", "data": reply}),
            Got(3, "b", 1, {"type": "caught_up", "cursor": cursor}),
        ]  # fmt: skip
        assert broken(found) == set()
