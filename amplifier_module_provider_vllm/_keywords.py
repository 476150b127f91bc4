"""The keywords of a call: typed for callers, checked like the config, and merged into the request."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypedDict, get_type_hints

from amplifier_core.llm_errors import InvalidRequestError
from amplifier_core.message_models import ChatRequest, ResponseFormat, ToolSpec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetPydanticSchema, ValidationError, create_model

from ._config import Effort, EffortOrReasoning, Header, Logprobs, StopStrings
from ._config_reading import SECRETS, unknown_names
from ._constants import PROVIDER
from ._strict_json import Json


def _flat_tool(tool: Mapping[str, Json]) -> Mapping[str, Json]:
    """A tool in Amplifier's shape, from OpenAI's of chat requests too; hosted tools have no name of their own."""
    match tool:
        case {"type": "function", "function": dict(function)}:
            return {"parameters": {}, **function}
        case {"type": str(kind)} if kind != "function":
            return {"name": kind, "parameters": {}, **tool}
        case dict():
            return {"parameters": {}, **tool}
        case _:
            return tool


def _flat_format(format_: Any) -> Any:
    """A response format in Amplifier's shape, from those of OpenAI's two endpoints too."""
    match format_:
        case {"type": "json_object"}:
            return {"type": "json"}
        case {"type": "json_schema", "schema": schema}:
            spec = {"schema": schema} | ({"name": format_["name"]} if "name" in format_ else {})
            return {"type": "json_schema", "json_schema": spec, "strict": format_.get("strict")}
        case {"type": "json_schema", "json_schema": {"strict": bool(strict)}} if "strict" not in format_:
            return {**format_, "strict": strict}
        case _:
            return format_


def _read_as(kind: Any) -> GetPydanticSchema:
    """Check and convert a value as this kind, whatever else its annotation allows a caller to write."""
    return GetPydanticSchema(lambda _annotation, handler: handler(kind))


_Tools = list[Annotated[ToolSpec, BeforeValidator(_flat_tool)]] | None
_Format = Annotated[ResponseFormat | None, BeforeValidator(_flat_format)]


class CallKeywords(TypedDict, total=False):
    """The keyword arguments of `VLLMProvider.complete()`.

    Each takes precedence over the request's field of the same meaning, and that over the config. None: not given.
    """

    model: str | None
    """The name of the model, as the server lists it."""
    tools: Annotated[list[ToolSpec] | list[dict[str, Any]] | None, _read_as(_Tools)]
    """The tools, as specs or in OpenAI's shape."""
    response_format: Annotated[ResponseFormat | dict[str, Any] | None, _read_as(_Format)]
    """The format of the reply, in Amplifier's shape or OpenAI's."""
    metadata: dict[str, Any] | None
    """Merged over the request's; `{"stream": False}` turns streaming off."""
    stream: bool | None
    """False: the reply comes whole."""
    temperature: Annotated[float | None, Field(ge=0, le=2)]
    """Sampling temperature, 0 to 2."""
    top_p: Annotated[float | None, Field(gt=0, le=1)]
    """Nucleus sampling, above 0 and up to 1."""
    seed: int | None
    """The seed of the sampling."""
    stop: Annotated[list[str] | str | None, _read_as(StopStrings)]
    """Strings that end the reply."""
    logprobs: Annotated[int | bool | None, _read_as(Logprobs)]
    """The log probabilities of the sampled tokens: True, or how many alternatives to tell for each, 0 to 20."""
    echo: bool | None
    """Whether the reply's text starts with the prompt; only `/v1/completions` can."""
    raw_prompt: bool | None
    """Whether the last user message is the prompt, without the model's template; only `/v1/completions` can."""
    max_output_tokens: Annotated[int | None, Field(ge=1)]
    """Most tokens of the reply; a reply that reaches it ends with `finish_reason` "length" and is not continued."""
    max_tokens: Annotated[int | None, Field(ge=1)]
    """The older name of `max_output_tokens`, which takes precedence."""
    truncation: Literal["disabled", "auto"] | None
    """vLLM's field `truncation`."""
    store: bool | None
    """Whether the server is to keep the reply; unset: with `enable_state`."""
    tool_choice: str | dict[str, Any] | None
    """"auto", "required" (or "any"), "none", a tool's name, or OpenAI's and Anthropic's mappings for these."""
    parallel_tool_calls: bool | None
    """Whether the model may call several tools in one turn."""
    reasoning: Annotated[str | dict[str, Any] | bool | None, _read_as(EffortOrReasoning)]
    """An effort, or `{"effort": …, "summary": …}`; True and False are `extended_thinking`."""
    reasoning_effort: Effort | None
    """"none", "minimal", "low", "medium", "high", "xhigh" or "max", as far as the model knows them."""
    reasoning_summary: Literal["auto", "concise", "detailed"] | None
    """"auto", "concise" or "detailed"."""
    extended_thinking: bool | None
    """False turns thinking off, whatever else says of the effort; True asks for "medium" if nothing else does."""
    timeout: Annotated[float | None, Field(gt=0)]
    """Most seconds of the call, retries included."""
    extra_request_params: dict[str, Any] | None
    """Further keys of the request's body, in vLLM's words; merged over those of the config."""
    extra_headers: dict[str, Header] | None
    """HTTP headers of this call; merged over those of the config."""


_HINTS: Final = get_type_hints(CallKeywords, include_extras=True)
_FIELDS: Final[dict[str, Any]] = {name: (hint, None) for name, hint in _HINTS.items()}
_Values: Final[type[BaseModel]] = create_model("_Values", __config__=ConfigDict(hide_input_in_errors=True), **_FIELDS)

_CHECKED_FIELDS: Final = ("temperature", "top_p", "max_output_tokens", "reasoning_effort", "timeout")
"""Fields of a request whose values its own model does not check."""


def read_keywords(given: Mapping[str, object]) -> dict[str, Any]:
    """The known keywords, converted. Raises `InvalidRequestError` for an invalid value, naming the keyword and it."""
    known = {key: value for key, value in given.items() if key in _HINTS}
    if isinstance(known.get("reasoning"), bool):
        thinks = known.pop("reasoning")
        known = {"extended_thinking": thinks} | known
    return _checked(known, "the keyword {!r}")


def unknown_keywords(given: Mapping[str, object]) -> list[str]:
    """One sentence for each unknown keyword, with the nearest known one."""
    return unknown_names("keyword", given, _HINTS)


def with_keywords(request: ChatRequest, keywords: Mapping[str, Any]) -> ChatRequest:
    """The request with the keywords that replace its fields. Raises `InvalidRequestError` for an invalid field."""
    _checked({name: value for name, value in request if name in _CHECKED_FIELDS}, "the field {!r} of the request")
    replaced = {key: keywords[key] for key in ("tools", "response_format") if key in keywords}
    if "metadata" in keywords:
        replaced["metadata"] = {**(request.metadata or {}), **keywords["metadata"]}
    return request.model_copy(update=replaced) if replaced else request


def _checked(given: Mapping[str, object], where: str) -> dict[str, Any]:
    values = {key: value for key, value in given.items() if value is not None}
    if not values:  # the common case
        return {}
    try:
        checked = dict(_Values.model_validate(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = str(first["loc"][0])
        value = "(hidden)" if key in SECRETS else repr(values[key])
        message = f"{where.format(key)} is {value}: {first['msg'].lower()}"
        raise InvalidRequestError(message, provider=PROVIDER) from None
    return {key: checked[key] for key in values}
