"""Drop history before a verified base of each branch, never anything a promised answer needs.

::

    plan → survey → keep → draft → archive → move → sweep → collect → shrink
    where  what is  what  the base, the events       one      rows,    contents  pages
    to cut settled  stays verified  elsewhere first  moment   in steps in steps  to the disk

Nothing is deleted before ``move``: one short transaction in which the base is written, read back, and the
branch's ``base_seq`` set. From then on readers begin at the base; the rest can be interrupted anywhere and is
finished by whoever opens the log next.
"""
