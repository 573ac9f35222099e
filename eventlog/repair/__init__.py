"""Save what a damaged log still holds into a new one. The damaged file is only read, and never through SQLite.

::

    collect    rows on every page that is in use → a private work file
    keys       what the chain was made with, and what opens the values
    complete   what indexes still know of rows that are gone
    contents   which large values are what their hash says
    bases      which bases are what their proof says
    chains     which events are proven by the chain of their branch
    gaps       which seqs are lost, whose they were, and the events that say so
    executions kickoffs whose row in the index is gone, told by their events
    copy       the new log, which must itself hold together
    report     what was kept and what was lost
"""
