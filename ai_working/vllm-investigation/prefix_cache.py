"""How much of a growing conversation the server finds in its prefix cache: with reminders attached, and hoisted."""

from typing import Any

from raw import respond

STEPS = 5
SYSTEM = "You are a careful assistant. " * 60
RESULT = "The weather is fine in all of the places that were asked about. " * 20


def measure(*, hoisted: bool) -> None:
    history: list[dict[str, Any]] = []
    print("\nreminders in `instructions`:" if hoisted else "\nreminders at their original positions:")
    for step in range(STEPS):
        reminder = f"Reminder {step}: answer briefly."
        asked = {"role": "user", "content": f"Question {step}. {RESULT}" + ("" if hoisted else f"\n{reminder}")}
        instructions = f"{SYSTEM}\n{reminder}" if hoisted else SYSTEM
        usage = respond(instructions=instructions, input=[*history, asked], max_output_tokens=16)["usage"]
        found, whole = usage["input_tokens_details"]["cached_tokens"], usage["input_tokens"]
        print(f"  step {step}: {found:6} of {whole:6} tokens found ({100 * found / whole:3.0f} %)")
        history += [asked, {"role": "assistant", "content": f"Answer {step}."}]


measure(hoisted=True)
measure(hoisted=False)
