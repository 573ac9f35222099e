"""Does a log hold together? Reads a file as far as it can be read, and says what is damaged and what is not.

::

    opening     a connection to whatever the file is, and what is wrong with it as a database
    pages       rows in the order of their key; what cannot be read is told, not raised
    digests     the digest of a row, computed anew
    events      the chain of every branch, seqs, links
    contents    what events refer to, by its hash
    structure   runs, branches, bases, the index of kickoffs
    snapshots   stored states, against the events themselves
    heads       one line to keep elsewhere: without it a cut tail looks like an end
    report      what was found
"""
