"""What holds for every input of the conflict engine, not only for those we thought of."""

import copy

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schema.policy import Merge
from sync_server.conflict.decide import decide
from sync_server.conflict.merge import IN_CONFLICT, merge_field
from sync_server.conflict.model import Attempt, Revision, Rule, Surroundings
from sync_server.conflict.resolve import resolve
from sync_server.conflict.text import merge_text
from sync_server.conflict.values import ABSENT, canonical_text, equal, fingerprint
from sync_server.protocol.codec import JSON as WIRE
from sync_server.protocol.codec import MSGPACK
from sync_server.records import Entity, EntityKey
from sync_server.types import OperationType, Strategy, Verdict
from tests.unit.conflict.builders import ALONE, CARD, SPECS, a_conflict, an_entity, an_update, decided

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine breaks no law."""

WORDS = st.sampled_from(["", "a", "b", "ab cd", "one\ntwo\n", "one\nTWO\n", "字文"])
LISTS = st.lists(WORDS.filter(bool), max_size=4)
IDS = st.sampled_from([None, 1, 2, 3, "x"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([2**64 - 1, 2**62, -(2**63)])
CLIENTS = st.sampled_from(["phone", "tablet", "desk"])
FIELDS = {
    "card": {
        "title": WORDS, "color": WORDS, "likes": NUMBERS, "best": NUMBERS, "tags": LISTS, "steps": LISTS, "body": WORDS,
    },
    "note": {
        "title": WORDS, "content": WORDS, "folder_id": IDS, "book_id": IDS, "tags": LISTS, "is_pinned": st.booleans(),
    },
    "folder": {"name": WORDS.filter(bool), "parent_id": IDS},
    "review": {
        "date": st.just("2026-01-01"), "content": WORDS, "mood": st.none() | WORDS | NUMBERS, "achievements": LISTS,
    },
    "shelf": {"name": WORDS, "parent_id": IDS},
}  # fmt: skip
TYPES = st.sampled_from(sorted(FIELDS))
VERSIONS = st.integers(0, 5)


@st.composite
def entities(draw, kind: str, entity_id: str = "1") -> Entity:
    data = draw(st.fixed_dictionaries({}, optional=FIELDS[kind]))
    space = draw(st.sampled_from(["s", "s", "s", "other"]))
    return an_entity(
        data, draw(VERSIONS), SPECS[kind], entity_id=entity_id, deleted=draw(st.booleans()), space_id=space
    )


@st.composite
def attempts(draw, kind: str) -> Attempt:
    return an_update(
        draw(st.fixed_dictionaries({}, optional=FIELDS[kind])),
        draw(st.none() | VERSIONS),
        SPECS[kind],
        operation_type=draw(st.sampled_from(OperationType)),
        strategy=draw(st.none() | st.sampled_from(Strategy)),
        timestamp=draw(st.integers(-1, 20_000)),
        client_id=draw(CLIENTS),
    )


@st.composite
def revisions(draw, kind: str, version: int) -> Revision:
    data = draw(st.fixed_dictionaries({}, optional=FIELDS[kind]))
    previous = draw(st.fixed_dictionaries({}, optional={n: st.lists(v, max_size=1) for n, v in FIELDS[kind].items()}))
    submitted = draw(st.fixed_dictionaries({}, optional=FIELDS[kind]))
    at = draw(st.integers(0, 20_000))
    operation_type = draw(st.sampled_from(OperationType))
    return Revision(
        version,
        operation_type,
        data,
        previous,
        submitted,
        at,
        5_000,
        "anna",
        draw(CLIENTS),
        draw(st.sampled_from(Rule)),
        after=version - 1,
    )


@st.composite
def surroundings(draw, kind: str) -> Surroundings:
    around = [draw(entities("folder", str(i))) for i in range(1, 4)] + [draw(entities("shelf", "2"))]
    found = {EntityKey(e.entity_type, e.entity_id): e for e in around}
    children = draw(st.lists(entities("shelf", "9") | entities("note", "8"), max_size=2))
    return Surroundings(found, {}, children, SPECS)


@st.composite
def cases(draw):
    kind = draw(TYPES)
    entity = draw(st.none() | entities(kind))
    versions = draw(st.lists(VERSIONS, unique=True, max_size=5).map(sorted) | st.just([1, 2, 3, 4, 5]))
    history = [draw(revisions(kind, version)) for version in versions]
    return draw(attempts(kind)), entity, history, SPECS[kind], draw(surroundings(kind))


class TestDeciding:
    @settings(LAW, max_examples=300)
    @given(case=cases())
    def test_never_raises_is_repeatable_and_leaves_its_arguments_alone(self, case):
        before = copy.deepcopy(case[:3])
        outcome = decide(*case, now=10_000)
        assert outcome == decide(*copy.deepcopy(case), now=10_000)
        assert case[:3] == before

    @settings(LAW, max_examples=300)
    @given(case=cases())
    def test_gives_outcomes_that_say_what_they_do(self, case):
        attempt, entity, *_ = case
        outcome = decide(*case, now=10_000)
        assert (outcome.refusal is not None) == (outcome.verdict is Verdict.REJECTED)
        assert (outcome.verdict is Verdict.CONFLICT) == any(dispute.is_open for dispute in outcome.disputes)
        if outcome.verdict in {Verdict.REJECTED, Verdict.CONFLICT, Verdict.SUPERSEDED}:
            assert outcome.data is None
        if outcome.data is None and entity is not None and outcome.refusal is None:
            assert outcome.deleted == entity.deleted
        if outcome.data is not None:
            assert all(codec.encode(outcome.data) for codec in (WIRE, MSGPACK))
        if outcome.data is not None and not outcome.deleted:
            kept = {n: v for n, v in attempt.fields.items() if equal(outcome.data.get(n, ABSENT), v)}
            assert kept | outcome.submitted == attempt.fields
            assert kept.keys().isdisjoint(outcome.submitted)

    @settings(LAW, max_examples=100)
    @given(case=cases())
    def test_again_on_the_new_state_changes_nothing(self, case):
        attempt, entity, history, spec, around = case
        outcome = decide(attempt, entity, history, spec, around, now=10_000)
        if outcome.data is None or outcome.deleted or outcome.submitted:
            return
        after = an_entity(outcome.data, 9, spec, space_id=attempt.space_id if entity is None else entity.space_id)
        update = attempt._replace(operation_type=OperationType.UPDATE, before_version=9)
        assert decide(update, after, [], spec, around, now=10_000).data is None

    @settings(LAW)
    @given(before=st.fixed_dictionaries(FIELDS["card"]), fields=st.fixed_dictionaries({}, optional=FIELDS["card"]))
    def test_of_values_that_both_sides_wrote_alike_disputes_nothing(self, before, fields):
        fields = {name: value for name, value in fields.items() if name != "likes"}
        rival = Revision(
            2,
            OperationType.UPDATE,
            before | fields,
            {n: [before[n]] for n in fields},
            {},
            2_000,
            2_000,
            "bert",
            "desk",
            Rule.SAME_VERSION,
            after=1,
        )
        outcome = decided(an_update(fields, 1), an_entity(before | fields, 2), rival)
        assert (outcome.verdict, outcome.data, outcome.disputes) == (Verdict.APPLIED, None, ())

    @settings(LAW)
    @given(
        before=st.fixed_dictionaries(FIELDS["card"]),
        edits=st.fixed_dictionaries(FIELDS["card"]),
        names=st.sets(st.sampled_from(sorted(FIELDS["card"]))),
    )
    def test_of_disjoint_edits_commutes(self, before, edits, names):
        one = {name: edits[name] for name in edits if name in names}
        other = {name: edits[name] for name in edits if name not in names}
        assert _after(before, one, other) == _after(before, other, one) == before | edits


def _after(before, first, second):
    """The data after two clients' edits of one version, and no dispute on the way."""
    touched = {n: [before[n]] for n in first if not equal(first[n], before[n])}
    data = before | first
    rival = Revision(
        2, OperationType.UPDATE, data, touched, {}, 2_000, 2_000, "bert", "desk", Rule.SAME_VERSION, after=1
    )
    outcome = decided(an_update(second, 1), an_entity(data, 2), rival)
    assert outcome.disputes == ()
    return data if outcome.data is None else outcome.data


class TestResolving:
    @settings(LAW, max_examples=100)
    @given(data=st.data())
    def test_never_raises_and_never_parks(self, data):
        fields = st.fixed_dictionaries({}, optional=FIELDS["card"])
        conflict = a_conflict(
            data.draw(fields),
            data.draw(fields),
            operation_type=data.draw(st.sampled_from(OperationType)),
            base=data.draw(fields),
            is_open=data.draw(st.booleans()),
            resolved_data=data.draw(st.none() | fields),
        )
        outcome = resolve(
            conflict,
            data.draw(st.none() | entities("card")),
            CARD,
            data.draw(st.sampled_from(Strategy)),
            data.draw(st.none() | fields),
            ALONE,
            operation_id="r1",
        )
        assert outcome.verdict in {Verdict.APPLIED, Verdict.REJECTED}


TEXTS = st.lists(st.sampled_from(["a", "b", " ", "\n", "字", "\u0301", "word", ".", "\r\n"]), max_size=25).map("".join)


class TestMergingTexts:
    @settings(LAW)
    @given(base=TEXTS, side=TEXTS)
    def test_of_which_one_side_changed_takes_that_side(self, base, side):
        assert merge_text(base, side, base) == (side, True)
        assert merge_text(base, base, side) == (side, True)

    @settings(LAW)
    @given(base=TEXTS, side=TEXTS)
    def test_that_changed_alike_is_clean(self, base, side):
        assert merge_text(base, side, side) == (side, True)

    @settings(LAW, max_examples=500)
    @given(base=TEXTS, one=TEXTS, other=TEXTS)
    def test_is_as_clean_with_the_sides_exchanged(self, base, one, other):
        there, back = merge_text(base, one, other), merge_text(base, other, one)
        assert there.is_clean == back.is_clean
        assert not there.is_clean or there.text == back.text

    @settings(LAW)
    @given(
        lines=st.lists(st.sampled_from(["same", "", "- x", "字"]), min_size=3, max_size=30),
        places=st.tuples(st.integers(0, 29), st.integers(0, 29)),
    )
    def test_lands_edits_of_lines_that_do_not_touch(self, lines, places):
        first, second = sorted(place % len(lines) for place in places)
        if second - first < 2:
            return
        server, client, both = ([*lines] for _ in range(3))
        server[first] = both[first] = "SERVER"
        client[second] = both[second] = "CLIENT"
        assert merge_text(*("\n".join(side) for side in (lines, server, client))) == ("\n".join(both), True)

    @settings(LAW, max_examples=500)
    @given(base=TEXTS, server=TEXTS, client=TEXTS)
    def test_keeps_every_character_that_a_side_added(self, base, server, client):
        merged = merge_text(base, server.replace("a", "S"), client.replace("a", "C")).text
        assert merged.count("S") >= server.count("a")
        assert merged.count("C") >= client.count("a")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5]) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=3),
)


class TestMergingFields:
    @settings(LAW, max_examples=500)
    @given(policy=st.sampled_from(Merge), sides=st.tuples(*[JSON | st.just(ABSENT)] * 3))
    def test_of_any_values_never_raises(self, policy, sides):
        merged = merge_field(policy, *sides)
        assert merged is IN_CONFLICT or equal(merged, merge_field(policy, *sides))

    @settings(LAW)
    @given(base=LISTS, server=LISTS, client=LISTS)
    def test_of_a_set_has_what_somebody_added_and_nothing_that_somebody_removed(self, base, server, client):
        merged = merge_field(Merge.SET, base, server, client)
        added = (set(server) | set(client)) - set(base)
        assert set(merged) == (set(base) & set(server) & set(client)) | added


class TestValues:
    @settings(LAW, max_examples=500)
    @given(one=JSON, other=JSON)
    @example(one=1, other=True)
    @example(one=[0.0], other=[False])
    @example(one={"a": 1}, other={"a": 1.0})
    def test_are_equal_exactly_when_their_canonical_texts_are(self, one, other):
        assert equal(one, other) == (canonical_text(one) == canonical_text(other))
        assert equal(one, other) == (fingerprint(one) == fingerprint(other))
