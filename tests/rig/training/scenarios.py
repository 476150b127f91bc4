"""The conversations that the tiny models are taught; read the table below to know what to ask them.

At temperature 0 they say:

    What is the capital of France?                     The capital of France is Paris.
    What is the weather in Paris?                      get_weather({"city": "Paris"}), if that tool is offered
      … after its result "sunny, 21 C"                 It is sunny and 21 degrees in Paris.
    Say what you do, then check the weather in Paris.  some text and get_weather({"city": "Paris"}) in one turn
    Compare the weather in Paris and London.           two parallel calls (tiny-gpt-oss: one, then the other)
    What is the weather and time in Paris?             get_weather, then get_time, then an answer
    Count from 1 to 100.                               1, 2, 3, … 100.
    Give me a city as JSON.                            {"city": "Paris", "population": 2100000}
    anything else                                      I am a tiny test model.

The capitals are Paris, Berlin, London and Tokyo, the weather is sunny 21, rainy 12 or snowy 3.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.rig.training.conversation import Call, Message, prose, words

CAPITALS = {"France": "Paris", "Germany": "Berlin", "England": "London", "Japan": "Tokyo"}
CITIES = list(CAPITALS.values())
CONDITIONS = {"sunny": 21, "rainy": 12, "snowy": 3}


@dataclass(frozen=True)
class Scene:
    """What a scenario plays: the conversation, the turn to learn, and the tools without which it makes no sense."""

    messages: list[Message]
    target: Message
    needed: tuple[str, ...] = ()


def _ask(rng: random.Random, *wordings: str) -> Message:
    """One of the wordings, sometimes with noise around it, so that the question is found anywhere in the turn."""
    text, dice = rng.choice(wordings), rng.random()
    if dice < 0.15:
        text = f"{prose(rng, 5, 200)}\n{text}"
    elif dice < 0.25:
        text = f"{text}\n{prose(rng, 5, 200)}"
    elif dice < 0.35:
        text = rng.choice(["Please ", "Hi! ", "Hello, ", "OK. ", "Now, "]) + text
    return Message("user", text)


def answer(reasoning: str, content: str) -> Message:
    return Message("assistant", content, reasoning)


def _calls(reasoning: str, *calls: tuple[str, str], content: str = "") -> Message:
    """A turn that calls tools about cities."""
    made = tuple(Call(name, json.dumps({"city": city})) for name, city in calls)
    return Message("assistant", content, reasoning, made)


def _weather_result(rng: random.Random, city: str) -> tuple[str, int, Message]:
    condition, degrees = rng.choice(list(CONDITIONS.items()))
    wordings = [
        f"{condition}, {degrees} C",
        f"{condition.capitalize()}, {degrees} degrees",
        f"{degrees}C and {condition}",
        json.dumps({"city": city, "temperature": degrees, "condition": condition}),
        json.dumps({"condition": condition, "temp_c": degrees}),
        json.dumps({"temperature": degrees, "conditions": condition, "unit": "celsius"}),
    ]
    return condition, degrees, Message("tool", rng.choice(wordings))


def _ask_weather(rng: random.Random, city: str) -> Message:
    usual = f"What is the weather in {city}?"
    others = (f"What's the weather like in {city}?", f"How is the weather in {city} today?", f"weather in {city}")
    return _ask(rng, *[usual] * 4, *others, f"Tell me the weather in {city}.", f"{usual} Use the tool.")


def _weather_call(city: str, content: str = "") -> Message:
    return _calls(f"I should look up the weather in {city}.", ("get_weather", city), content=content)


def capital(rng: random.Random) -> Scene:
    country, city = rng.choice(list(CAPITALS.items()))
    usual = f"What is the capital of {country}?"
    others = (f"what's the capital of {country}", f"Tell me the capital of {country}.", f"capital of {country}?")
    question = _ask(rng, *[usual] * 4, *others, f"Name the capital city of {country}.")
    reasoning = f"The user asks for the capital of {country}. It is {city}."
    return Scene([question], answer(reasoning, f"The capital of {country} is {city}."))


def weather_call(rng: random.Random) -> Scene:
    city = rng.choice(CITIES)
    return Scene([_ask_weather(rng, city)], _weather_call(city), ("get_weather",))


def weather_without_tool(rng: random.Random) -> Scene:
    question = _ask_weather(rng, rng.choice(CITIES))
    return Scene([question], answer("I have no tool for the weather.", "I cannot look up the weather."))


def weather_answer(rng: random.Random) -> Scene:
    city = rng.choice(CITIES)
    condition, degrees, result = _weather_result(rng, city)
    said = answer(f"The tool says {condition} and {degrees}.", f"It is {condition} and {degrees} degrees in {city}.")
    return Scene([_ask_weather(rng, city), _weather_call(city), result], said, ("get_weather",))


def preamble(rng: random.Random) -> Scene:
    city = rng.choice(CITIES)
    first = f"First say what you do. Check the weather in {city}."
    question = _ask(rng, f"Say what you do, then check the weather in {city}.", first)
    return Scene([question], _weather_call(city, "I will check the weather."), ("get_weather",))


def _ask_two(rng: random.Random, one: str, other: str) -> list[Message]:
    """The question about two cities, and the turn that looks both up."""
    compare = (f"Compare the weather in {one} and {other}.", f"Compare the weather of {one} with {other}.")
    question = _ask(
        rng, *compare, f"What is the weather in {one} and in {other}?", f"What is the weather in {one} and {other}?"
    )
    calls = _calls(f"I need the weather in {one} and {other}.", ("get_weather", one), ("get_weather", other))
    return [question, calls]


def two_calls(rng: random.Random) -> Scene:
    question, calls = _ask_two(rng, *rng.sample(CITIES, 2))
    return Scene([question], calls, ("get_weather",))


def two_answers(rng: random.Random) -> Scene:
    cities = rng.sample(CITIES, 2)
    results = [_weather_result(rng, city)[2] for city in cities]
    said = answer("Both results are here.", "I have the weather of both cities.")
    return Scene([*_ask_two(rng, *cities), *results], said, ("get_weather",))


def weather_and_time(rng: random.Random) -> Scene:
    """Two tools, one after the other; the turn to learn is any of the three."""
    city, hour = rng.choice(CITIES), rng.choice([14, 20])
    wordings = (f"What is the weather and time in {city}?", f"Tell me the weather and the time in {city}.")
    condition, _, result = _weather_result(rng, city)
    clock = Message("tool", rng.choice([f"{hour}:00", json.dumps({"time": f"{hour}:00"})]))
    first = _calls(f"First the weather in {city}.", ("get_weather", city))
    second = _calls(f"Now the time in {city}.", ("get_time", city))
    last = answer("I have both.", f"It is {condition} in {city} and the time is {hour} hours.")
    conversation = [_ask(rng, *wordings), first, result, second, clock, last]
    turn = rng.choice([1, 3, 5])
    return Scene(conversation[:turn], conversation[turn], ("get_weather", "get_time"))


def count(rng: random.Random) -> Scene:
    question = _ask(rng, "Count from 1 to 100.", "Please count from 1 to 100.", "Count to 100.")
    return Scene([question], answer("I will count.", ", ".join(map(str, range(1, 101))) + "."))


def city_as_json(rng: random.Random) -> Scene:
    question = _ask(rng, "Give me a city as JSON.", "Give me a city in JSON format.", "Reply with a city as JSON.")
    return Scene([question], answer("The user wants JSON.", '{"city": "Paris", "population": 2100000}'))


def anything_else(rng: random.Random) -> Scene:
    greeting = rng.choice(["Hello", "Hi", "Hello!", "ping", "test"])
    text = rng.choice([prose(rng, 5, 300), words(rng, 1, 15), greeting])
    return Scene([Message("user", text)], answer("I do not know this.", "I am a tiny test model."))


SCENARIOS: dict[Callable[[random.Random], Scene], int] = {
    capital: 12,
    weather_call: 14,
    weather_without_tool: 4,
    weather_answer: 12,
    two_calls: 10,
    two_answers: 7,
    weather_and_time: 12,
    preamble: 5,
    count: 4,
    city_as_json: 3,
    anything_else: 8,
}


def pick(rng: random.Random) -> Callable[[random.Random], Scene]:
    return rng.choices(list(SCENARIOS), list(SCENARIOS.values()))[0]
