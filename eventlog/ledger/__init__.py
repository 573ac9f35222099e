"""The work ledger: steps, features and memory of long pipelines, as events of the same log.

::

    steps ─┐                      ┌─ session   (what is done, under way, next, blocked)
    features ── book ── events ───┼─ features  (what was delivered, and who verified it)
    memory ┘                      └─ memories  (what was found, searched with BM25)

Whoever works appends to the ``book``; what stands there is the pure fold of its events, at any cursor,
on any fork. Compaction keeps these events: they are what a pipeline goes on with.
"""
