"""Resume, fork and re-execute: the user's own crew, flow or agent, from any event.

The way of the data: ``tape`` (what the log holds of an execution) → ``player`` (answers the
boundaries of ``eventlog.capture`` from it) ← ``director`` (decides for each kickoff: new,
unfinished or finished). ``revive`` makes Python values of stored trees, with the classes
that ``declared`` finds in the live object.
"""
