"""Flows: every way methods follow each other, and what they may do meanwhile."""

from __future__ import annotations

from typing import Any

from crewai import Crew
from crewai.flow.flow import Flow, and_, listen, or_, router, start
from pydantic import BaseModel

from tests.scenarios.crews import TOPIC, step
from tests.scenarios.world import Scenario, World, saw

DictFlow = Flow[dict]  # type: ignore[type-arg]  # CrewAI does not know dict[str, Any] as a state
"""A flow whose state is a dictionary."""


class Draft(BaseModel):
    """State of a structured flow."""

    id: str = ""
    topic: str = ""
    notes: list[str] = []
    rounds: int = 0


def of_flow(world: World, flow: Flow[Any], inputs: dict[str, Any] | None = None, **expected: Any) -> Scenario:
    """Return the scenario that kicks the flow off."""
    return Scenario(world=world, subject=flow, inputs=inputs, start=lambda: flow.kickoff(inputs=inputs), **expected)


def flow_linear(world: World) -> Scenario:
    """Three methods in a row; each gets what the one before returned."""
    llm = world.llm()

    class Linear(DictFlow):
        @start()
        def first(self) -> str:
            return str(llm.call(f"Begin {self.state['topic']}"))

        @listen(first)
        def second(self, text: str) -> str:
            self.state["second"] = text
            return str(llm.call(f"Go on from {text}"))

        @listen(second)
        def third(self, text: str) -> str:
            return str(llm.call(f"End {text} and {self.state['second']}"))

    return of_flow(world, Linear(), TOPIC, outputs=[saw("llm")], llm_calls=3)


def flow_router(world: World) -> Scenario:
    """A router chooses one of two branches."""
    llm = world.llm()

    class Routed(DictFlow):
        @start()
        def begin(self) -> str:
            return str(llm.call("Begin"))

        @router(begin)
        def choose(self) -> str:
            return "good"

        @listen("good")
        def praise(self) -> str:
            return str(llm.call("Praise"))

        @listen("bad")
        def blame(self) -> str:
            return "blamed"

        @listen(praise)
        def end(self, text: str) -> str:
            return str(llm.call(f"End {text}"))

    return of_flow(world, Routed(), outputs=[saw("llm")], llm_calls=3)


def flow_and_or(world: World) -> Scenario:
    """Two starts at once; one method waits for both, one for the first that is done."""
    llm = world.llm()

    class Joined(DictFlow):
        @start()
        def left(self) -> str:
            self.state["left"] = llm.call("Left")
            return "left"

        @start()
        def right(self) -> str:
            self.state["right"] = llm.call("Right")
            return "right"

        @listen(or_(left, right))
        def either(self) -> str:
            return str(llm.call("Either"))

        @listen(and_(left, right, either))
        def both(self) -> str:
            return str(llm.call(f"Both {self.state['left']} {self.state['right']}"))

    return of_flow(world, Joined(), outputs=[saw("llm")], llm_calls=4)


def flow_cyclic(world: World) -> Scenario:
    """A router sends the flow back to an earlier method until three rounds are done."""
    llm = world.llm()

    class Cyclic(Flow[Draft]):
        @start("again")
        def write(self) -> str:
            self.state.rounds += 1
            self.state.notes.append(str(llm.call(f"Round {self.state.rounds} {self.state.notes}")))
            return str(self.state.notes[-1])

        @router(write)
        def judge(self) -> str:
            return "again" if self.state.rounds < 3 else "done"

        @listen("done")
        def end(self) -> str:
            return str(self.state.notes[-1])

    return of_flow(world, Cyclic(), outputs=[saw("llm")], llm_calls=3)


def flow_structured_state(world: World) -> Scenario:
    """The state is a pydantic model, filled from the inputs and changed by the methods."""
    llm = world.llm()

    class Structured(Flow[Draft]):
        @start()
        def begin(self) -> None:
            self.state.notes.append(str(llm.call(f"Begin {self.state.topic}")))

        @listen(begin)
        def end(self) -> str:
            self.state.rounds = len(self.state.notes)
            return str(llm.call(f"End {self.state.notes} {self.state.rounds}"))

    return of_flow(world, Structured(), TOPIC, outputs=[saw("llm")], llm_calls=2)


def flow_with_crew(world: World) -> Scenario:
    """A method kicks off a crew, an asynchronous one asks an agent, a third asks an LLM."""
    llm, writer = world.llm(), world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()])
    editor = world.agent("Editor")

    class Nested(DictFlow):
        @start()
        def write(self) -> str:
            crew: Any = Crew(name="inner", agents=[writer], tasks=[step(writer)])
            self.state["draft"] = crew.kickoff(TOPIC).raw
            return str(self.state["draft"])

        @listen(write)
        async def edit(self, draft: str) -> str:
            return str((await editor.kickoff_async(f"Edit {draft}")).raw)

        @listen(edit)
        def judge(self, text: str) -> str:
            return str(llm.call(f"Judge {text} {self.state['draft']}"))

    return of_flow(world, Nested(), outputs=[saw("llm")], llm_calls=4, tool_runs=1)


def flow_ask(world: World) -> Scenario:
    """A method asks a person, then an LLM, then the person again."""
    llm, person = world.llm(), world.person("tea", "green")

    class Asking(DictFlow):
        @start()
        def talk(self) -> str:
            topic = self.ask("Which topic?")
            draft = llm.call(f"Write about {topic}")
            colour = self.ask(f"Which colour has {draft}?")
            return str(llm.call(f"Colour {draft} {colour}"))

    flow = Asking(input_provider=person)
    return of_flow(world, flow, outputs=[saw("llm")], llm_calls=2, questions=2)


BUILDERS = (
    flow_linear,
    flow_router,
    flow_and_or,
    flow_cyclic,
    flow_structured_state,
    flow_with_crew,
    flow_ask,
)
"""Every scenario of this file."""
