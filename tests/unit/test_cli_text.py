"""Recorded text is made fit for people and terminals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.cli import pages_plain, subjects, text, trees
from eventlog.cli.output import Facts, Prose, Table
from eventlog.record import StoredEvent

HARMFUL = set(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0x200B, 0xFEFF, 0xE0041]))


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_harmless_text_holds_no_control_characters(value: str) -> None:
    """Whatever was recorded; and it can be written as UTF-8."""
    shown = text.harmless(value)

    assert not set(shown) & HARMFUL
    shown.encode()


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_harmless_text_leaves_ordinary_text_alone(value: str) -> None:
    """What is harmless already stays what it is."""
    assert text.harmless(value) == value


@given(st.dictionaries(st.text(), st.text()))
def test_harmless_json_is_the_same_json(value: dict[str, str]) -> None:
    """Only its spelling changes."""
    shown = text.harmless_json(json.dumps(value, ensure_ascii=False))

    assert json.loads(shown) == value
    assert not set(shown) & HARMFUL


@given(st.text(), st.integers(2, 50))
def test_one_line_is_one_line(value: str, chars_max: int) -> None:
    """Tables and listings depend on it."""
    line = text.one_line(value, chars_max)

    assert len(line) <= chars_max
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), ("a\n  b", "a b"), ({"a": [1, None]}, '{"a":[1,null]}'), (True, "true"), ("x" * 90, "x" * 79 + "…")],
)
def test_any_value_becomes_a_line(value: object, shown: str) -> None:
    """Payloads hold any JSON."""
    assert text.one_line(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2 * 10**13, "20000.0 GB")],
)
def test_sizes_read_well(count: int, shown: str) -> None:
    """Powers of ten, as disks are sold."""
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("nanoseconds", "shown"), [(1_000_000, "1 ms"), (2 * 10**9, "2.0 s"), (180 * 10**9, "3.0 min")]
)
def test_durations_read_well(nanoseconds: int, shown: str) -> None:
    """From milliseconds to minutes."""
    assert text.seconds(nanoseconds) == shown


def test_plain_pages_align_columns() -> None:
    """Numbers to the right, text to the left, no spaces at the end of a line."""
    table = Table("things", ("name", "count"), [("a", "1"), ("longer", "10")], right=("count",))

    assert pages_plain.block_lines(table) == ["THINGS", "NAME    COUNT", "a           1", "longer     10"]


def test_plain_pages_keep_a_cell_on_its_line() -> None:
    """A line break in a cell would tear the table."""
    lines = pages_plain.block_lines(Table("", ("a", "b"), [("x\ny", "\x1b[31m")]))

    assert lines == ["A    B", "x y  \\x1b[31m"]


def test_plain_facts_and_prose_indent_what_follows() -> None:
    """So that a person sees where a value ends."""
    assert pages_plain.block_lines(Facts([("a", "1\n2"), ("long", "x")])) == ["a     1", "      2", "long  x"]
    assert pages_plain.block_lines(Prose("title", "one\ntwo")) == ["TITLE", "  one", "  two"]


def test_trees_read_like_yaml_and_messages_by_role() -> None:
    """A conversation is what people look for in a payload."""
    tree = {
        "model": "m",
        "empty": [],
        "none": None,
        "args": {"q": "tea", "deep": {"x": 1}},
        "messages": [{"role": "user", "content": "two\nlines"}, {"role": "tool", "content": "ok", "name": "t"}],
        "list": [1, {"a": 2}],
    }

    assert list(trees.tree_lines(tree)) == [
        "model: m", "empty: []", "none: null", "args:", "  q: tea", "  deep:", "    x: 1", "messages:",
        "  - [user]", "      two", "      lines", "  - [tool]", "      ok", "      name: t",
        "list:", "  - 1", "  -", "      a: 2",
    ]  # fmt: skip


def test_trees_of_any_depth_end() -> None:
    """A strange file may nest as deep as it likes."""
    tree: object = "end"
    for _ in range(150):
        tree = {"x": tree}

    assert len(list(trees.tree_lines(tree))) < 60


def event(kind: str, payload: bytes = b"{}", **header: object) -> StoredEvent:
    """Return an event of that type."""
    return StoredEvent(seq=1, event_id="e", type=kind, at_ns=0, run="r", branch="main", payload=payload, **header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "subject"),
    [
        (event("crew_kickoff_started", b'{"crew_name":"tea"}'), "tea"),
        (event("method_execution_started", b'{"flow_name":"F","method_name":"m"}'), "F.m"),
        (event("task_started", task_name="prices", agent_role="Buyer"), "prices · Buyer"),
        (event("llm_call_completed", b'{"model":"m","usage":{"prompt_tokens":3}}', agent_role="A"), "m · A · 3 tokens"),
        (event("tool_usage_error", b'{"tool_name":"t","error":"no\\nnet"}'), "t · error: no net"),
        (event("task_failed", b'{"error":{"$content":"HASH"}}'), "error: filled in"),
        (event("agent_execution_started", b'{"agent":{"$ref":"agent","role":"Buyer"}}'), "Buyer"),
        (event("eventlog.capture_gap", b'{"dropped":4}'), "4 events were lost here"),
        (event("eventlog.flow_state", b'{"set":{"day":1,"report":2}}'), "day, report"),
        (event("eventlog.definition", b'{"kind":"crew","name":"tea"}'), "crew · tea"),
        (event("memory_query_started", b'{"query":"what?"}'), "what?"),
        (event("my.event", b'{"name":"n","model":[1]}'), "n"),
        (event("my.event", b"not json"), ""),
        (event("my.event", b"[1]"), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else value.type,
)
def test_subjects_say_what_an_event_is_about(found: StoredEvent, subject: str) -> None:
    """The few words that make a listing readable; payloads of any shape."""
    assert subjects.subject_of(found, {"HASH": "filled in"}.__getitem__) == subject
