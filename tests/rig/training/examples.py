"""Whole training examples: a scenario with earlier turns, spare tools and a system text around it."""

import random
from dataclasses import dataclass
from typing import Literal

from tests.rig.training.conversation import WORDS, Message, Schema, Tool, prose
from tests.rig.training.scenarios import answer, pick, weather_without_tool

Size = Literal["easy", "mixed", "long"]


@dataclass(frozen=True)
class Example:
    """One conversation and the turn that the model is to learn."""

    scenario: str
    messages: list[Message]
    target: Message
    tools: list[Tool]
    system: str | None


def sample(rng: random.Random, size: Size) -> Example:
    """A random example: easy (nothing but the question), mixed, or long (a long system text, many tools)."""
    scenario = pick(rng)
    scene = scenario(rng)
    return Example(
        scenario=scenario.__name__,
        messages=_history(rng, size) + scene.messages,
        target=scene.target,
        tools=_tools(rng, size, scene.needed, weather_allowed=scenario is not weather_without_tool),
        system=_system(rng, size),
    )


def _history(rng: random.Random, size: Size) -> list[Message]:
    """Earlier exchanges, sometimes."""
    if size == "easy" or rng.random() >= 0.35:
        return []
    earlier: list[Message] = []
    for _ in range(rng.choice([1, 1, 2, 4 if size == "long" else 2])):
        scene = pick(rng)(rng)
        earlier += [*scene.messages, scene.target]
        earlier += [Message("tool", prose(rng, 1, 60)) for _ in scene.target.calls]
        if scene.target.calls:
            earlier.append(answer("The tool has answered.", "The tool has answered."))
    return earlier


def _tools(rng: random.Random, size: Size, needed: tuple[str, ...], *, weather_allowed: bool) -> list[Tool]:
    """The tools that are needed, and others beside them."""
    if not needed and (size == "easy" or rng.random() >= 0.3):
        return []
    tools = {name: _city_tool(rng, name) for name in needed}
    if weather_allowed and size != "easy" and rng.random() < 0.4:
        tools = {name: _city_tool(rng, name) for name in ("get_weather", "get_time")} | tools
    spare = 0 if size == "easy" else rng.choice([0, 0, 0, 1, 2, 6 if size == "long" else 3])
    tools = {tool.name: tool for tool in (_random_tool(rng) for _ in range(spare))} | tools
    return rng.sample(list(tools.values()), len(tools))


def _system(rng: random.Random, size: Size) -> str | None:
    dice = 1.0 if size == "easy" else rng.random()
    if dice < 0.15:
        return "You are a helpful assistant."
    return prose(rng, 10, 3000 if size == "long" else 400) if dice < 0.55 else None


def _object(rng: random.Random, properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        schema["required"] = list(properties)
    if rng.random() < 0.3:
        schema["additionalProperties"] = False
    return schema


def _city_tool(rng: random.Random, name: str) -> Tool:
    """get_weather or get_time, described in one of the ways that people describe tools."""
    what = name.removeprefix("get_")
    descriptions = [f"Get the {what} in a city.", f"Get current {what}", f"Returns the {what} for a given city.", ""]
    city: Schema = {"type": "string"}
    if rng.random() < 0.4:
        city["description"] = rng.choice(["City name", "The city", "Name of the city"])
    return Tool(name, rng.choice(descriptions), _object(rng, {"city": city}))


def _random_tool(rng: random.Random) -> Tool:
    name = rng.choice(["_", "-", ""]).join(rng.choice(WORDS).lower() for _ in range(rng.randint(1, 2)))
    kinds = ["string", "integer", "boolean"]
    properties: Schema = {rng.choice(WORDS).lower(): {"type": rng.choice(kinds)} for _ in range(rng.randint(0, 3))}
    return Tool(name, prose(rng, 5, 120), _object(rng, properties))
