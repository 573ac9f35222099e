"""Two tasks without a crew, each done once however often this program is started.

::

    python examples/claims_triage.py notes.txt     # does both
    python examples/claims_triage.py notes.txt     # takes both from the log
    eventlog session invalidate triage draft_task  # the next start does just that one again

Edit the notes, and what was made of them is made again. Offline unless MODEL names one, e.g. MODEL=gpt-4o-mini.
"""

import os
import sys
from pathlib import Path

from crewai import Agent, Task

import eventlog
from eventlog.testing import ScriptedLLM

if len(sys.argv) != 2:
    sys.exit("usage: python claims_triage.py NOTES.txt")
notes = Path(sys.argv[1]).read_text(encoding="utf-8")
researcher = Agent(
    role="Claims Researcher",
    goal="Collect relevant facts from the case notes",
    backstory="You work on insurance operations and summarize case details accurately.",
    llm=os.environ.get("MODEL") or ScriptedLLM(),
)
analyze_task = Task(
    description=f"Review the case notes and extract policy number, loss date and issue summary:\n{notes}",
    expected_output="A concise bullet list with the extracted facts.",
    agent=researcher,
)
draft_task = Task(
    description="Turn the extracted facts into an internal triage note for the claims team.",
    expected_output="A short internal note with next actions.",
    agent=researcher,
)

with eventlog.open() as log, log.run("triage", items=["analyze_task", "draft_task"]) as run:
    print(f"Loaded run #{run.session().run_count}")
    facts = run.step("analyze_task", analyze_task.execute_sync)
    note = run.step("draft_task", draft_task.execute_sync, context=facts.raw)
    print(note.raw)
