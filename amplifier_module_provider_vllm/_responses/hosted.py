"""Read the calls that the server has run itself, and the tools that its MCP servers list."""

import json
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from .._strict_json import Json
from .._turn import HostedCall

HOSTED_TYPES: Final = {"mcp_call", "web_search_call", "file_search_call", "code_interpreter_call"}
LISTING: Final = "mcp_list_tools"


class Listing(NamedTuple):
    """The tools that an MCP server lists at the start of every reply."""

    server: str
    failure: str | None = None


def to_listing(fields: Mapping[str, Json]) -> Listing:
    error = fields.get("error")
    return Listing(str(fields.get("server_label") or "unnamed"), None if error is None else _readable(error))


def to_hosted_call(kind: str, call_id: str, fields: Mapping[str, Json], labels: Collection[str]) -> HostedCall | None:
    """The call, if the server has run it; `labels` are those of its MCP servers.

    vLLM gives a call of gpt-oss with an unknown name as `mcp_call` too: that one has not run.
    """
    ran = kind != "mcp_call" or _has_run(fields, labels)
    if not ran:
        return None
    label = fields.get("server_label") if kind == "mcp_call" else None
    return HostedCall(
        call_id=call_id or kind,
        server=label if isinstance(label, str) else None,
        tool=str(fields.get("name") or kind.removesuffix("_call")),
        arguments=_arguments(fields),
        output=_readable(_output(fields)),
        error=_error(fields),
    )


def _has_run(fields: Mapping[str, Json], labels: Collection[str]) -> bool:
    answered = fields.get("output") is not None or fields.get("error") is not None
    label = fields.get("server_label")
    return answered or fields.get("status") == "failed" or (isinstance(label, str) and label in labels)


def _arguments(fields: Mapping[str, Json]) -> str:
    match fields:
        case {"arguments": str(arguments)}:
            return arguments
        case {"arguments": arguments} if arguments is not None:
            return _readable(arguments)
        case {"action": Mapping() as action}:
            return _readable({key: value for key, value in action.items() if key != "sources"})
        case {"code": str(code)}:
            return _readable({"code": code})
        case {"queries": list(queries)}:
            return _readable({"queries": queries})
        case _:
            return "{}"


def _output(fields: Mapping[str, Json]) -> Json:
    match fields:
        case {"output": output} if output is not None:
            return output
        case {"action": {"sources": list(sources)}}:
            return sources
        case {"outputs": list(outputs)}:
            return [each.get("logs", each) if isinstance(each, Mapping) else each for each in outputs]
        case {"results": results}:
            return results
        case _:
            return None


def _error(fields: Mapping[str, Json]) -> str | None:
    match fields.get("error"):
        case None:
            return "failed" if fields.get("status") == "failed" else None
        case {"content": list(content)}:
            return _readable(content)
        case {"message": str(message)}:
            return message
        case error:
            return _readable(error)


def _readable(value: Json) -> str:
    """Text unchanged, a content part as its text, the parts of a list in lines, all else as JSON; empty for None."""
    match value:
        case None:
            return ""
        case str(text):
            return text
        case [*parts] if parts:
            return "\n".join(map(_readable, parts))
        case {"type": "text" | "output_text", "text": str(text)}:
            return text
        case _:
            return json.dumps(value, ensure_ascii=False)
