"""The methods that programs written for Aegis Memory call, on a local log: no server, no account.

Change the import lines, and sessions, features and memory of such a program are events of one log: durable,
replayable, and there for ``eventlog session``, ``eventlog feature`` and ``eventlog memory``.

::

    client.create_session, update_session, …  → the run of that name: its steps
    client.create_feature, update_feature, …  → the run of the session, or the run ``aegis``: its features
    client.add, query, …; memory.save, search → the run ``aegis``: its memory, by namespace

Everything returned is a dict whose fields can be read as attributes, too. What needs a model or a server on the
other side (votes, playbooks, reflections, hand-offs, interactions, content scans) is left out: calling it is an
``AttributeError``. Importing this package does not import CrewAI.
"""

from eventlog.aegis.answers import Answer, FeatureList
from eventlog.aegis.client import AegisClient
from eventlog.aegis.crew import AegisAgentMemory, AegisCrewMemory

__all__ = ["AegisAgentMemory", "AegisClient", "AegisCrewMemory", "Answer", "FeatureList"]
