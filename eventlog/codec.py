"""Turn any Python value into JSON, and never fail. Pure.

Values JSON can carry stay what they are. Everything else becomes an object whose first key
begins with ``$`` (a *tag*), which says what it was::

    {"$content": HASH}            a long text, or a JSON value, kept in ``contents``
    {"$content": HASH, "n": 12}   a conversation of twelve messages
    {"$ref": "agent", "id": …}    a live CrewAI object (``references.py``)
    {"$model": "mod:Qual", "fields": {…}}  {"$dataclass": …}  {"$enum": …, "v": …}
    {"$tuple": […]}  {"$set": […]}  {"$map": [[k, v], …]}   keys that are not plain strings
    {"$float": "nan"}  {"$int": "…"}  {"$str": base64}  {"$bytes": base64}
    {"$datetime": iso}  {"$date"}  {"$time"}  {"$timedelta": s}  {"$uuid"}  {"$path"}  {"$decimal"}
    {"$type": "mod:Qual"}  {"$function": "mod:Qual"}  {"$error": "mod:Qual", "msg": …, "args": […]}
    {"$forgotten": iso}           a payload that was taken out of the log
    {"$object": "mod:Qual", "repr": …}  {"$cycle": …}  {"$deep": …}  {"$large": …}   placeholders

Decoding makes dicts and lists of them, nothing more: no class is looked up, ever.

Long, because values hold each other: texts, messages and secrets stand in containers, and containers in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from eventlog.contents import (
    TEXT_CHARS_MIN,
    ContentIndex,
    Conversation,
    Known,
    KnownTalk,
    Mention,
    NewContent,
    Node,
    content_hash,
)
from eventlog.interrupts import raised_by_handler
from eventlog.messages import common_prefix, comparable, opening
from eventlog.pieces import RECENT_CHARS_MAX, Recent, split_text
from eventlog.record import FLAG_PLACEHOLDER, FLAG_REDACTED
from eventlog.redact import Redactor, marker
from eventlog.requests import message_hash, request_hash
from eventlog.tags import tag_special

DEPTH_MAX = 64
"""Deeper values become ``$deep``; JSON readers, ours included, recurse."""
TEXT_CHARS_MAX = 64_000_000
"""Longer texts become ``$large`` with their first kilobytes."""
INT_MAX = 2**63 - 1
"""What SQLite's JSON functions keep exact."""

TAG = "$"
"""Keys of tags begin with it."""
CONTENT = "$content"
"""The key of a reference to a content."""

dump_json = msgspec.json.Encoder(decimal_format="string").encode
"""JSON bytes of a tree that ``Encoder`` made."""


class AsContent(msgspec.Struct, gc=False):
    """A value to keep among the contents however small it is."""

    value: Any
    whole: bool = False
    """Plain JSON with every text in its place and no tags for keys that begin with ``$``, for SQL to use as it is."""


class Request(msgspec.Struct, gc=False):
    """What a model was asked, exactly."""

    messages: list[Any]
    tools: Any
    model: str
    response_model: str | None


class Encoded(msgspec.Struct, gc=False):
    """An encoded payload, with the contents it is the first to mention."""

    payload: bytes
    contents: list[Mention]
    flags: int
    publish: Callable[[], None]
    """To be called once the event is queued; makes the contents known (see ``contents.py``)."""
    epoch: int
    """The index's epoch at encoding; if it moved on, encode again."""

    @property
    def new(self) -> list[NewContent]:
        """What is to be stored in any case."""
        return [content for content in self.contents if type(content) is NewContent]


class Encoder:
    """Encodes payloads against one log's index of contents."""

    def __init__(self, redactor: Redactor, index: ContentIndex | None = None) -> None:
        """``redactor`` cleans everything; ``index`` knows which contents are stored."""
        self.redactor = redactor
        self.index = index or ContentIndex()

    def encode(self, fields: Mapping[str, Any]) -> Encoded:
        """Return the payload of ``fields``; a field that is ``None`` is left out. Never raises ``Exception``.

        A secret learned on the way (a value under a secret key) starts the encoding again,
        so that it is also found in the strings that came before its key.
        """
        clean = False
        for _ in range(10):
            known = self.redactor.epoch
            work = self.begin(clean=clean)
            data = work.payload(fields)
            if self.redactor.epoch != known:
                self.index.clear()
            elif clean or not self.redactor.suspicious(data):
                break
            clean = True
        return Encoded(data, work.contents, work.flags, work.publish, work.epoch)

    def begin(self, *, clean: bool) -> Encoding:
        """Return a fresh pass; an import's is of another kind (``recode.py``)."""
        return Encoding(self, clean=clean)

    def request_name(self, request: Request) -> str:
        """Return the name of a request to a model: the same tomorrow, for the same words (``requests.py``)."""
        key = (request.model, *opening(request.messages))
        known, hashes = self.index.requests.get(key) or ([], [])
        keep = common_prefix(known, request.messages)
        known, hashes = known[:keep], hashes[:keep]
        for message in request.messages[keep:]:
            hashes.append(message_hash(hashes[-1] if hashes else b"", self.inline(message)))
            known.append(comparable(message))
        self.index.requests.put(key, (known, hashes), 100 + 200 * len(request.messages))
        facts = (self.inline(request.tools), request.model, request.response_model)
        return request_hash(hashes[-1] if hashes else b"", facts)

    def inline(self, value: Any, reserved: str = TAG) -> Any:
        """Return the tree of a value with every text in its place, without secrets; nothing of it is stored.

        Keys that begin with ``reserved`` are tagged.
        """
        tree = Encoding(self, clean=False).inlined(value, reserved)
        if self.redactor.suspicious(dump_json(tree)):
            tree = Encoding(self, clean=True).inlined(value, reserved)
        return tree

    def encode_inline(self, fields: Mapping[str, Any]) -> bytes:
        """Return the payload of ``fields`` with every text in its place; nothing of it is stored."""
        return dump_json(self.inline(dict(fields)))

    def text(self, text: str) -> str:
        """Return a header's text without secrets."""
        data = text.encode("utf-8", "backslashreplace")
        if not self.redactor.suspicious(data):
            return data.decode()
        return self.redactor.clean(data.decode())


class Encoding:
    """One pass over one payload."""

    def __init__(self, encoder: Encoder, *, clean: bool) -> None:
        """``clean`` makes short strings pass through the redactor too."""
        self._redactor, self._index = encoder.redactor, encoder.index
        self.epoch = self._index.epoch
        self.contents: list[Mention] = []
        self.flags = 0
        self._clean = clean
        self._secret = False
        self._ancestors: set[int] = set()
        self._texts: list[tuple[str, NewContent, int]] = []
        self._conversations: list[tuple[Any, Conversation]] = []
        self._recent: list[tuple[str, str]] = []
        self.inline = False
        """Long texts stay where they are: nothing of them is stored."""
        self._reserved = TAG
        """Keys that begin with this are not written as keys."""

    def publish(self) -> None:
        """Make this pass's contents known to later ones."""
        if self.epoch != self._index.epoch:
            return
        for text, content, flags in self._texts:
            self._index.texts.put(text, (content, flags), len(text))
        self._index.recent.extend(self._recent)
        for key, talk in self._conversations:
            self._index.conversations.put(key, talk, talk.nodes[-1].chars)

    def payload(self, fields: Mapping[str, Any]) -> bytes:
        """Return the JSON object of ``fields``; what cannot be JSON even now is a placeholder."""
        tree = {self.key(k): self.field(k, v) for k, v in list(fields.items()) if v is not None}
        try:
            return dump_json(tree)
        except Exception as error:
            if raised_by_handler(error):
                raise
            self.flags |= FLAG_PLACEHOLDER
            return dump_json({"$object": "payload", "repr": type(error).__name__})

    # -- any value ------------------------------------------------------------------------

    def field(self, key: Any, value: Any, depth: int = 1) -> Any:
        """Return the tree of a value that stands under ``key``."""
        if type(key) is str:
            if not self._secret and self._redactor.is_secret_key(key):
                return self.secret(value, depth)
            if type(value) is str and len(value) < TEXT_CHARS_MIN and not (self._secret or self._clean):
                return value if value.isascii() else self.short(value)
            if key == "messages" and not self.inline and _is_talk(value):
                return self.conversation(value, depth) if depth == 1 else self.transcript(value, depth)
        return self.value(value, depth)

    def value(self, value: Any, depth: int = 1) -> Any:
        """Return the tree of any value; raises ``Exception`` only if a signal handler did."""
        cls = type(value)
        if cls is str:
            return self.text(value)
        if value is None or cls is bool:
            return value
        if cls is int:
            return self.number(value)
        try:
            if cls is float:
                return value if math.isfinite(value) else {"$float": repr(value)}
            if depth >= DEPTH_MAX:
                return self.placeholder("$deep", value)
            if cls is dict:
                return self.nested(value, self.mapping, depth)
            if cls is AsContent:
                return self.whole_content(value.value, depth) if value.whole else self.as_content(value.value, depth)
            if cls is list:
                return self.nested(value, self.sequence, depth)
            return tag_special(self, value, depth)
        except Exception as error:
            if raised_by_handler(error):
                raise
            return self.placeholder("$object", value, repr=f"<not encodable: {type(error).__name__}>")

    def nested(self, value: Any, encode: Callable[[Any, int], Any], depth: int) -> Any:
        """Encode a container, unless it contains itself."""
        mark = id(value)
        if mark in self._ancestors:
            return self.placeholder("$cycle", value)
        self._ancestors.add(mark)
        try:
            return encode(value, depth + 1)
        finally:
            self._ancestors.discard(mark)

    def sequence(self, items: Iterable[Any], depth: int) -> list[Any]:
        """Return a list of trees."""
        return [self.value(item, depth) for item in list(items)]

    def mapping(self, items: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """Return an object, or a ``$map`` when a key is not a plain string."""
        pairs = list(items.items())
        if all(type(k) is str and not k.startswith(self._reserved) for k, _ in pairs):
            out = {self.key(k): self.field(k, v, depth) for k, v in pairs}
            if len(out) == len(pairs):  # no two keys became one by redaction
                return out
        return {"$map": [[self.value(k, depth), self.field(k, v, depth)] for k, v in pairs]}

    def placeholder(self, tag: str, value: Any, **more: str) -> dict[str, str]:
        """Return a tag that stands for what could not be kept."""
        self.flags |= FLAG_PLACEHOLDER
        return {tag: f"{type(value).__module__}:{type(value).__qualname__}", **more}

    # -- leaves ---------------------------------------------------------------------------

    def number(self, value: int) -> Any:
        """Return an int as it is while SQLite keeps it exact."""
        if self._secret:
            return self.secret_text(str(value))
        return value if -INT_MAX <= value <= INT_MAX else {"$int": hex(value)}

    def key(self, key: str) -> str:
        """Return a mapping key without secrets."""
        return self.short(key) if self._clean or not key.isascii() else key

    def text(self, text: str) -> Any:
        """Return a string, or the reference to it when it is long."""
        if self._secret:
            return self.secret_text(text)
        if len(text) >= TEXT_CHARS_MIN:
            return self.long(text)
        return self.short(text) if self._clean or not text.isascii() else text

    def short(self, text: str) -> Any:
        """Return a short string without secrets; lone surrogates are tagged."""
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                return self.bytes_tag("$str", text.encode("utf-8", "surrogatepass"))
        if not self._clean:
            return text
        return self.cleaned(text)

    def cleaned(self, text: str) -> str:
        """Return the text without secrets and note whether there were some."""
        out = self._redactor.clean(text)
        if out is not text:
            self.flags |= FLAG_REDACTED
        return out

    def bytes_tag(self, tag: str, data: bytes) -> dict[str, Any]:
        """Return bytes as base64, long ones by reference; secrets inside are looked for first."""
        from base64 import b64encode  # noqa: PLC0415 - rare

        readable = data.decode("utf-8", "replace")
        if self._redactor.suspicious(data) and self._redactor.clean(readable) != readable:
            self.flags |= FLAG_REDACTED
            return {tag: marker("bytes")}
        return {tag: self.text(b64encode(data).decode())}

    def long(self, text: str) -> Any:
        """Return the reference to a long text, which is scanned and hashed once."""
        known = self._index.texts.get(text)
        if self.inline:
            return text if known is not None and not known[1] else self.new_text(text)
        if known is None:
            known = next((entry[1:] for entry in self._texts if entry[0] is text), None)
        else:
            self.contents.append(Known(self.epoch, (known[0],)))
        if known is None:
            return self.new_text(text)
        self.flags |= known[1]
        return {"$content": known[0].hash}

    def new_text(self, text: str) -> Any:
        """Put a long text among the contents."""
        try:
            data = text.encode()
        except UnicodeEncodeError:
            return self.bytes_tag("$str", text.encode("utf-8", "surrogatepass"))
        body, flags = text, 0
        if self._redactor.suspicious(data):
            body = self._redactor.clean(text)
            flags = FLAG_REDACTED if body is not text else 0
        self.flags |= flags
        if self.inline or len(body) < TEXT_CHARS_MIN:
            return body
        if len(body) > TEXT_CHARS_MAX:
            return self.placeholder("$large", body, chars=str(len(body)), head=body[:4000])
        content = self.store_text(body)
        self._texts.append((text, content, flags))
        return {"$content": content.hash}

    def store_text(self, body: str) -> NewContent:
        """Remember a long text to store, as pieces of recent ones where that is shorter; returns it whole."""
        if "\0" in body:  # SQLite's text functions stop there
            return self.content("json", dump_json(body).decode())
        whole = NewContent(content_hash("text", body.encode(), key=self._index.key), "text", body)
        recent = list(self._index.recent)
        pieces = split_text(body, recent)
        if pieces is not None:
            self.mention_pieces(pieces, recent)
            pieces = [self.long(p) if type(p) is str and len(p) >= TEXT_CHARS_MIN else p for p in pieces]
            self.contents.append(NewContent(whole.hash, "pieces", dump_json(pieces).decode()))
        else:
            self.contents.append(whole)
            if len(body) <= RECENT_CHARS_MAX:
                self._recent.append((whole.hash, body))
        return whole

    def mention_pieces(self, pieces: list[Any], recent: list[Recent]) -> None:
        """Name the recent texts that pieces refer to."""
        used = {piece["$content"] for piece in pieces if type(piece) is dict}
        texts = tuple(NewContent(name, "text", text) for name, text in recent if name in used)
        self.contents.append(Known(self.epoch, texts))

    def content(self, kind: str, body: str, parent: str | None = None, text: str | None = None) -> NewContent:
        """Remember a body to store and return it."""
        made = NewContent(content_hash(kind, body.encode(), parent, text, self._index.key), kind, body, parent, text)
        self.contents.append(made)
        return made

    def as_content(self, value: Any, depth: int) -> dict[str, str]:
        """Return the reference to a value kept as a JSON content."""
        body = dump_json(self.value(value, depth))
        if not self._clean and self._redactor.suspicious(body):
            self._clean = True
            body = dump_json(self.value(value, depth))
            self._clean = False
        text = body.decode()
        known = self._index.texts.get(_JSON + text)
        if known is None:
            known = (self.content("json", text), self.flags)
            self._texts.append((_JSON + text, *known))
        else:
            self.contents.append(Known(self.epoch, (known[0],)))
        return {"$content": known[0].hash}

    def inlined(self, value: Any, reserved: str) -> Any:
        """Return the tree of a value with every text in its place."""
        self.inline, self._reserved = True, reserved
        return self.value(value)

    def whole_content(self, value: Any, depth: int) -> dict[str, str]:
        """Return the reference to a value kept as JSON that refers to nothing."""
        self.inline, self._reserved = True, CONTENT
        try:
            return self.as_content(value, depth)
        finally:
            self.inline, self._reserved = False, TAG

    # -- secrets --------------------------------------------------------------------------

    def secret(self, value: Any, depth: int) -> Any:
        """Return what stands under a secret key: its shape, with every leaf replaced; the leaves are learned."""
        if value is None or type(value) is bool or value == "":
            return value
        outer, self._secret = self._secret, True
        try:
            return self.value(value, depth)
        finally:
            self._secret = outer

    def secret_text(self, text: str) -> str:
        """Learn a secret and return the marker."""
        if not text or text.startswith("[redacted:"):
            return text
        self.flags |= FLAG_REDACTED
        self._redactor.learn_all([text])
        return marker("key")

    # -- conversations --------------------------------------------------------------------

    def conversation(self, messages: list[Any], depth: int = 1) -> Any:
        """Return the reference to a list of messages; only messages that are new are encoded."""
        if self._secret:
            return self.sequence(messages, depth)
        key = opening(messages)
        known = self._index.conversations.get(key) or Conversation([], [])
        keep = common_prefix(known.messages, messages)
        if keep:
            self.contents.append(KnownTalk(self.epoch, known.nodes, keep))
        if keep == len(messages):
            last = known.nodes[keep - 1]
        else:
            talk = Conversation(known.messages[:keep], known.nodes[:keep])
            for message in messages[keep:]:
                talk.nodes.append(self.message(message, talk.nodes[-1] if talk.nodes else None, depth))
                talk.messages.append(comparable(message))
            self._conversations.append((key, talk))
            last = talk.nodes[-1]
        self.flags |= last.flags
        return {"$content": last.hash, "n": len(messages)}

    def transcript(self, messages: list[Any], depth: int) -> Any:
        """Return the reference to messages deeper in a payload: a look back that will not grow, kept as one value."""
        known = self._index.conversations.get(opening(messages))
        if known is not None and common_prefix(known.messages, messages) == len(messages):
            return self.conversation(messages, depth)
        return self.sequence(messages, depth) if self._secret else self.as_content(messages, depth)

    def message(self, message: Any, parent: Node | None, depth: int) -> Node:
        """Encode one message as the next link of a chain."""
        before = parent or _NO_MESSAGES
        outer_flags, outer_clean, start = self.flags, self._clean, len(self.contents)
        self.flags = before.flags
        body, text = _apart(self.value(message, depth + 2))
        if not self._clean and self._redactor.suspicious(body):
            self._clean = True
            body, text = _apart(self.value(message, depth + 2))
        flags, self.flags, self._clean = self.flags, outer_flags, outer_clean
        name = self.content("message", body.decode(), before.hash or None, text).hash
        chars = (
            before.chars
            + len(body)
            + (sum(map(len, filter(_is_text, message.values()))) if type(message) is dict else 0)
        )
        return Node(name, flags, chars, tuple(self.bodies_since(start)))

    def bodies_since(self, start: int) -> Iterator[NewContent]:
        """Yield the bodies of the contents mentioned since."""
        for mention in self.contents[start:]:
            if isinstance(mention, NewContent):
                yield mention
            else:
                yield from mention.bodies()


_JSON = "json:"
"""Stands before JSON values in the cache of texts."""
_NO_MESSAGES = Node("", 0, 0)


def _apart(tree: Any) -> tuple[bytes, str | None]:
    """Return the body of a message, and its long ``content``, if it has one: that is a column of its own."""
    text = tree.get("content") if type(tree) is dict else None
    if type(text) is dict and text.keys() == {"$content"}:
        return dump_json({k: v for k, v in tree.items() if k != "content"}), text["$content"]
    return dump_json(tree), None


def _is_talk(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return type(value) is list and bool(value) and type(value[0]) is dict and "role" in value[0]


def _is_text(value: Any) -> bool:
    """Whether a value is exactly a string."""
    return type(value) is str
