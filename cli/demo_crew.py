"""A tea house asks a crew for a market report: an ordinary CrewAI program, except that its LLM is scripted.

It knows nothing of eventlog. Run it with ``eventlog record``.
"""

from __future__ import annotations

import os
import time
from typing import Any

from crewai import Agent, Crew, Flow, Task
from crewai.flow import listen, start
from crewai.tools import tool
from pydantic import BaseModel

from eventlog.testing import ScriptedLLM, final, tool_call

SECONDS_PER_CALL = float(os.environ.get("DEMO_SECONDS_PER_CALL", "0.3"))
"""How long the LLM thinks."""
SECONDS_TO_COMPARE = float(os.environ.get("DEMO_SECONDS_TO_COMPARE", "0"))
"""How much longer it thinks before it compares: enough to be killed meanwhile."""


@tool
def price_of(tea: str) -> str:
    """Look up today's price of a tea."""
    return {"sencha": "18.20", "assam": "9.75", "oolong": "31.00"}.get(tea.lower(), "unknown")


def answer(messages: list[Any], _tools: list[str]) -> Any:
    """Say what a model would say; like one, it knows nothing but the messages."""
    asked = "\n".join(str(message["content"]) for message in messages)
    looked_up = sum(str(m["content"]).count("\nObservation:") for m in messages if m["role"] == "assistant")
    if "Find today's prices" in asked:
        teas = ("Sencha", "Assam")
        done = final("Sencha costs 18.20 and Assam 9.75 per 100 g.")
        return tool_call("price_of", tea=teas[looked_up]) if looked_up < len(teas) else done
    if "Compare the teas" in asked:
        if not looked_up:
            return tool_call("price_of", tea="Oolong")
        time.sleep(SECONDS_TO_COMPARE)
        return final("Oolong is the most expensive at 31.00; Assam is the bargain.")
    return final("Tea market: buy Assam now, keep Oolong for guests, and stay with Sencha.")


def build_crew() -> Crew:
    """Return a crew of two agents and three tasks."""
    llm = ScriptedLLM(model="scripted-tea", delay=SECONDS_PER_CALL, script=answer)
    buyer = Agent(role="Buyer", goal="Know the prices", backstory="Thirty years of tea.", llm=llm, tools=[price_of])
    writer = Agent(role="Writer", goal="Write clearly", backstory="A former editor.", llm=llm)
    prices = Task(name="prices", description="Find today's prices.", expected_output="Prices", agent=buyer)
    compare = Task(name="compare", description="Compare the teas.", expected_output="A comparison", agent=buyer)
    report = Task(name="report", description="Write it up.", expected_output="Three sentences", agent=writer)
    return Crew(name="tea market", agents=[buyer, writer], tasks=[prices, compare, report])


class Market(BaseModel):
    """State of the flow."""

    day: str = ""
    report: str = ""


class TeaMarket(Flow[Market]):
    """Opens the day, lets the crew write the report, publishes it."""

    @start()
    def open_day(self) -> str:
        """Begin the day."""
        self.state.day = "Monday"
        return "Monday"

    @listen(open_day)
    def write_report(self, day: str) -> str:
        """Run the crew."""
        report = str(build_crew().kickoff(inputs={"day": day}))
        self.state.report = report
        return report

    @listen(write_report)
    def publish(self, report: str) -> str:
        """Print the report."""
        print(report)  # noqa: T201 - what a script does with its result
        return report


if __name__ == "__main__":
    TeaMarket().kickoff()
