"""Take a secret, or the payload of one event, out of a log that has it.

::

    needle    how a value looks in texts, and texts without it
    find      which rows hold it, by reading only
    apply     one transaction: the rows rewritten, a tombstone for each that differs from its digest now
    blank     the same for the payload of one event
    scrub     afterwards: no copy in free pages, in the WAL, anywhere in the bytes of the file

The chain of digests stays what it was: a changed row keeps its digest, and its tombstone proves that
nobody has changed it since. Layer: above ``compaction``, below ``log``.
"""
