"""Every event of a streamed reply with the time that it came: bursts, gaps, and the order of things."""

import json

from raw import WEATHER_TOOL, stream

before = 0.0
for seconds, event in stream(input="What is the weather in Paris?", tools=[WEATHER_TOOL]):
    kind = event["type"]
    rest = event.get("delta", event.get("item", event.get("part", "")))
    details = event["response"]["usage"] if kind == "response.completed" else rest
    print(f"{seconds:8.3f} s  +{1000 * (seconds - before):7.1f} ms  {kind:<40} {json.dumps(details)[:100]}")
    before = seconds
