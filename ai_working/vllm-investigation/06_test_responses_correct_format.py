"""The formats of an earlier reply that the server accepts as input, and its errors for the others."""

from raw import call, model

QUESTION = {"role": "user", "content": "What is the capital of France?"}
NEXT = {"role": "user", "content": "What is the capital of Japan?"}
PART = {"type": "output_text", "text": "Paris.", "annotations": []}
MESSAGE = {"type": "message", "role": "assistant"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1"}

SPELLINGS: dict[str, list[dict[str, object]]] = {
    "role and text": [{"role": "assistant", "content": "Paris."}],
    "role and part, no type": [{"role": "assistant", "content": [PART]}],
    "message": [{**MESSAGE, "content": [PART]}],
    "message with id and status": [{**MESSAGE, "id": "msg_1", "status": "completed", "content": [PART]}],
    "message with id null": [{**MESSAGE, "id": None, "content": [PART]}],
    "message of two parts": [{**MESSAGE, "content": [PART, PART]}],
    "message of no parts": [{**MESSAGE, "content": []}],
    "reasoning": [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "France."}]}],
    "reasoning without summary": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "France."}]}],
    "call and output": [CALL, {**OUTPUT, "output": "sunny"}],
    "output as a list of parts": [CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "sunny"}]}],
    "output as an object": [CALL, {**OUTPUT, "output": {"weather": "sunny"}}],
    "output without a call": [{**OUTPUT, "output": "sunny"}],
    "call without output": [CALL],
    "developer message at the end": [{"role": "developer", "content": "Be short."}],
}

asked = model()
for name, items in SPELLINGS.items():
    body = {"model": asked, "input": [QUESTION, *items, NEXT], "max_output_tokens": 16}
    status, answer = call("POST", "/responses", body)
    error = "" if status == 200 else str(answer.get("error", answer) if isinstance(answer, dict) else answer)
    print(f"{status}  {name:<32} {error[:120]}")
