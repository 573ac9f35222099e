"""Flows whose methods hand on objects: models, outputs of crews, tuples; asynchronous, reviewed by a person.

No ``from __future__ import annotations`` here: what is inside a function is found by its annotation.
"""

import asyncio
from typing import Any

from crewai import Crew
from crewai.crews.crew_output import CrewOutput
from crewai.flow.flow import Flow, and_, listen, router, start
from crewai.flow.human_feedback import HumanFeedbackResult, human_feedback
from pydantic import BaseModel

from tests.scenarios.crews import TOPIC, step
from tests.scenarios.flows import DictFlow, of_flow
from tests.scenarios.tasks import Report
from tests.scenarios.world import Scenario, World, saw


class Page(BaseModel):
    """Part of a state."""

    text: str
    notes: list[str] = []


class Book(BaseModel):
    """State that holds models."""

    id: str = ""
    topic: str = ""
    pages: list[Page] = []
    index: dict[str, Page] = {}


def flow_objects(world: World) -> Scenario:
    """A state with an object in it, and methods that return a model, a crew's output and a tuple."""
    llm = world.llm()
    writer = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()])

    class Objects(DictFlow):
        @start()
        def plan(self) -> Page:
            self.state["page"] = Page(text=str(llm.call("Plan")))
            return Page(text="plan", notes=[self.state["page"].text])

        @listen(plan)
        def write(self, page: Page) -> CrewOutput:
            crew: Any = Crew(name="inner", agents=[writer], tasks=[step(writer)])
            self.state["page"].notes.append(page.notes[0])
            output: CrewOutput = crew.kickoff({"topic": page.notes[0]})
            return output

        @listen(write)
        def pair(self, output: CrewOutput) -> tuple[str, int]:
            return output.raw, output.token_usage.total_tokens

        @listen(pair)
        def end(self, both: tuple[str, int]) -> str:
            text, tokens = both
            return str(llm.call(f"End {text} {tokens} {self.state['page'].notes}"))

    return of_flow(world, Objects(), TOPIC, outputs=[saw("llm")], llm_calls=4, tool_runs=1)


def flow_models(world: World) -> Scenario:
    """A structured state with models in lists and mappings; the flow returns a model."""
    llm = world.llm()

    class Models(Flow[Book]):
        @start()
        def write(self) -> None:
            self.state.pages.append(Page(text=str(llm.call(f"Write {self.state.topic}"))))

        @listen(write)
        def index(self) -> None:
            self.state.index["first"] = Page(text="index", notes=[str(llm.call(f"Index {self.state.pages[0].text}"))])
            self.state.pages[0].notes.append("indexed")

        @listen(index)
        def end(self) -> Report:
            text = str(llm.call(f"End {self.state.pages} {self.state.index['first'].notes}"))
            return Report(title=text, points=self.state.pages[0].notes, pages=len(self.state.pages))

    output = r'\{"title":"llm saw [0-9a-f]{10}","points":\["indexed"\],"pages":1\}'
    return of_flow(world, Models(), TOPIC, outputs=[output], llm_calls=3)


def flow_async(world: World) -> Scenario:
    """Asynchronous methods, two of them at the same time, and a router among them."""
    llm = world.llm()

    class Async(DictFlow):
        @start()
        async def begin(self) -> str:
            await asyncio.sleep(0)
            return str(await llm.acall(f"Begin {self.state['topic']}"))

        @listen(begin)
        async def left(self, text: str) -> str:
            self.state["left"] = await llm.acall(f"Left {text}")
            return str(self.state["left"])

        @listen(begin)
        async def right(self, text: str) -> str:
            self.state["right"] = await llm.acall(f"Right {text}")
            return str(self.state["right"])

        @router(and_(left, right))
        async def judge(self) -> str:
            return "good" if await llm.acall(f"Judge {self.state['left']} {self.state['right']}") else "bad"

        @listen("good")
        async def end(self) -> str:
            return str(await llm.acall(f"End {sorted(self.state)}"))

    flow = Async()
    return Scenario(
        world=world,
        subject=flow,
        inputs=TOPIC,
        start=lambda: asyncio.run(flow.akickoff(inputs=TOPIC)),
        outputs=[saw("llm")],
        llm_calls=5,
    )


def flow_feedback(world: World) -> Scenario:
    """A person reviews what a method returned; the next one reads what was said."""
    llm, person = world.llm(), world.person("Make it shorter", "Fine")

    class Reviewed(DictFlow):
        @start()
        @human_feedback(message="What do you think?", provider=person)
        def draft(self) -> str:
            return str(llm.call("Draft"))

        @listen(draft)
        @human_feedback(message="And now?", provider=person)
        def improve(self, review: HumanFeedbackResult) -> str:
            self.state["said"] = review.feedback
            return str(llm.call(f"Improve {review.output}: {review.feedback}"))

        @listen(improve)
        def end(self, review: HumanFeedbackResult) -> str:
            return str(llm.call(f"End {review.output} {review.feedback} {self.state['said']}"))

    return of_flow(world, Reviewed(), outputs=[saw("llm")], llm_calls=3, questions=2)


def flow_two_crews(world: World) -> Scenario:
    """One method kicks off two crews and asks an LLM between them."""
    llm = world.llm()
    agents = [world.agent(f"Writer {i}", llm=world.llm(tool_rounds=1), tools=[world.lookup()]) for i in range(2)]

    class Crews(DictFlow):
        @start()
        def work(self) -> str:
            text = "tea"
            for agent in agents:
                crew: Any = Crew(agents=[agent], tasks=[step(agent)])
                text = str(llm.call(f"Title of {crew.kickoff({'topic': text}).raw}"))
            return text

        @listen(work)
        def end(self, text: str) -> list[str]:
            return [text, str(llm.call(f"End {text}"))]

    return of_flow(world, Crews(), outputs=[saw("llm")] * 2, llm_calls=7, tool_runs=2)


BUILDERS = (
    flow_objects,
    flow_models,
    flow_async,
    flow_feedback,
    flow_two_crews,
)
"""Every scenario of this file."""
