"""What stands in the bytes of a database file, read without SQLite, which refuses what is damaged.

::

    wal       which pages the write-ahead log holds, and whether some of it is lost
    pages     the pages of a file as its last transaction left them
    records   the rows on a page
"""
