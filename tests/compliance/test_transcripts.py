"""Every transcript is held with the machine in process."""

from pathlib import Path

import pytest

from sync_server.protocol.client_messages import CLIENT_MESSAGES
from sync_server.protocol.states import State

from .shell import MachinePeer
from .transcript import Transcript, hold, load

FILES = sorted(Path(__file__).parent.glob("*.txt"))
TRANSCRIPTS = [transcript for file in FILES for transcript in load(file)]


class TestTheMachine:
    @pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.name)
    def test_holds_the_conversation(self, transcript: Transcript) -> None:
        hold(transcript, MachinePeer())


class TestTheTranscripts:
    def test_have_names_of_their_own(self) -> None:
        assert len({transcript.name for transcript in TRANSCRIPTS}) == len(TRANSCRIPTS)

    def test_meet_every_message_in_every_state(self) -> None:
        visited: set[tuple[State, str]] = set()
        for transcript in TRANSCRIPTS:
            peer = MachinePeer()
            hold(transcript, peer)
            visited |= peer.visited
        missed = {(state, kind) for state in State for kind in CLIENT_MESSAGES} - visited
        assert missed == set()

    @pytest.mark.parametrize(
        "lines",
        [
            ((1, '> {"type": "ping"}'),),
            ((1, '> {"type": "ping"}'), (2, '< {"type": "ping"}')),
            ((1, '> {"type": "ping"}'), (2, "close 4502")),
            ((1, "wait 8s"), (2, "close 4200")),
            ((1, '< {"type": "pong"}'),),
        ],
    )
    def test_notice_when_the_server_says_something_else(self, lines: tuple[tuple[int, str], ...]) -> None:
        with pytest.raises(AssertionError, match="line"):
            hold(Transcript("wrong", lines), MachinePeer())
