"""A tool offered, its call, its result, the answer: as the server sends them, for each `tool_choice`."""

from raw import WEATHER_TOOL, respond, show

QUESTION = {"role": "user", "content": "What is the weather in Paris?"}

for choice in ("auto", "required", {"type": "function", "name": "get_weather"}, "none"):
    reply = respond(input=[QUESTION], tools=[WEATHER_TOOL], tool_choice=choice)
    print(f"\ntool_choice={choice!r}: {reply['status']}")
    for item in reply["output"]:
        print(" ", show(item))

print("\nwith the result of the call:")
history = [QUESTION, *respond(input=[QUESTION], tools=[WEATHER_TOOL])["output"]]
calls = [item for item in history if item.get("type") == "function_call"]
results = [{"type": "function_call_output", "call_id": call["call_id"], "output": "sunny, 21 C"} for call in calls]
for item in respond(input=[*history, *results], tools=[WEATHER_TOOL])["output"] if calls else ():
    print(" ", show(item))
if not calls:
    print("  there was no call: is vLLM started with --enable-auto-tool-choice --tool-call-parser?")
