"""What one call asks for: kwargs before the request, the request before the config, decided once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from amplifier_core.message_models import ChatRequest, Degradation

from ._config import Config, EndpointName, Reasoning, expand_tool
from ._family import Family
from ._strict_json import Json

T = TypeVar("T")

GRAMMARS: Final = (
    *("structured_outputs", "response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("json_schema", "regex", "ebnf", "grammar"),
)
"""The fields with which vLLM, SGLang and llama.cpp bind a reply."""


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The choice of one tool, by its name."""

    name: str


ToolChoice = Literal["auto", "required", "none"] | NamedTool | Mapping[str, Any]
"""A mapping is a choice of some other kind: handed on as it is."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The settings of one call. None: not sent, the server decides."""

    model: str
    family: Family
    stream: bool
    temperature: float | None
    top_p: float | None
    stop: list[str] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    max_output_tokens: int | None
    """The cap on each round."""
    capped_by_caller: bool
    """Whether the request or a keyword set the cap: it is then a cap on the whole reply, which is not continued."""
    reasoning_effort: str | None
    reasoning_summary: str | None
    truncation: str | None
    store: bool
    """False unless wanted: a server with a response store keeps every reply for ever (vLLM #48454)."""
    vision: bool
    hosted_tools: Sequence[Mapping[str, Any]]
    """Tools that the server runs, as the wire has them."""
    degradations: Sequence[Degradation]
    """What was asked for and this model cannot be given."""
    extra_body: Mapping[str, Any]
    extra_headers: Mapping[str, str]
    endpoint: EndpointName = "responses"
    calls_in_text: bool = False
    """Whether the server has no parser for calls: at chat it refuses tools unless it is told not to look for calls."""
    logprobs: int | None = None
    """How many alternatives to tell for each sampled token; None: no log probabilities."""
    token_in: bool = False
    """Whether a prompt that extends the one before is sent as token ids."""
    token_ids: bool = False
    """Whether the session is told the token ids of every round, with their log probabilities."""
    echo: bool = False
    """Whether the reply's text starts with the prompt."""
    raw_prompt: bool = False
    """Whether the last user message is the prompt, without a template."""

    @property
    def captures_logprobs(self) -> bool:
        """Whether log probabilities are asked for with the token ids alone."""
        return self.token_ids and self.logprobs is None and not self.extra_body.get("logprobs")

    @property
    def asked_logprobs(self) -> int | None:
        """How many alternatives the server is asked for; None: no log probabilities."""
        return 0 if self.captures_logprobs else self.logprobs

    @property
    def has_grammar(self) -> bool:
        """Whether a further field of the body binds the reply to a grammar."""
        return any(self.extra_body.get(key) is not None for key in GRAMMARS)

    @property
    def stream_options(self) -> dict[str, Any] | None:
        """What the chunks of a chat or text completion tell beside the reply; None, and refused, without a stream."""
        if not self.stream:
            return None
        given: Json = self.extra_body.get("stream_options")
        return {**(given if isinstance(given, Mapping) else {}), "include_usage": True}

    @property
    def hidden_stop_strings(self) -> tuple[str, ...]:
        """The stop strings that end the reply and are not part of it."""
        # A server that reads `min_tokens` looks for stop strings only after so many tokens.
        if self.extra_body.get("include_stop_str_in_output") or self.extra_body.get("min_tokens"):
            return ()
        return self._stop_strings

    @property
    def has_stops(self) -> bool:
        """Whether something that the caller states may end the reply before the model ends its turn."""
        return bool(self._stop_strings or self.extra_body.get("stop_token_ids"))

    @property
    def _stop_strings(self) -> tuple[str, ...]:
        stop = self.extra_body.get("stop") if self.stop is None else self.stop
        return tuple(filter(None, [stop] if isinstance(stop, str) else stop or ()))


def first_set(*candidates: T | None) -> T | None:
    """The first that is not None. Zero, False and the empty string are answers."""
    return next((value for value in candidates if value is not None), None)


def without_tools(request: ChatRequest) -> ChatRequest:
    return request.model_copy(update={"tools": None, "tool_choice": None})


def decide_options(
    request: ChatRequest,
    overrides: Mapping[str, Any],
    config: Config,
    *,
    model: str,
    family: Family,
    largest_reply: int | None,
    has_responses: bool = True,
    gives_tokens: bool = True,
) -> CallOptions:
    """The options of a call to `model`. `overrides`: keywords as `read_keywords` converts them.

    `largest_reply` caps a reply, in tokens, that nobody else capped. `has_responses`: whether the server has
    `/v1/responses`, as far as it is known; `gives_tokens`: whether it gives token ids.
    """
    options = _decided(request, overrides, config, model, family, largest_reply)
    options = replace(
        options,
        logprobs=first_set(overrides.get("logprobs"), config.logprobs),
        token_ids=config.wants_tokens and gives_tokens,
        token_in=config.token_in and gives_tokens,
        echo=bool(first_set(overrides.get("echo"), config.echo)),
        raw_prompt=bool(first_set(overrides.get("raw_prompt"), config.raw_prompt)),
    )
    if config.disable_tools:
        kept = {key: value for key, value in options.extra_body.items() if key != "tool_choice"}
        options = replace(options, tool_choice=None, parallel_tool_calls=None, hosted_tools=[], extra_body=kept)
    # The endpoint stays the same if the server turns out to give no token ids.
    at_chat = config.wants_tokens or options.logprobs is not None or not has_responses
    return replace(options, endpoint=config.stated_endpoint or _fitting_endpoint(options, at_chat=at_chat))


def _fitting_endpoint(options: CallOptions, *, at_chat: bool) -> EndpointName:
    """The endpoint for a call whose config states none."""
    if options.raw_prompt or options.echo:
        return "completions"
    # /v1/responses gives log probabilities only with a text; for gpt-oss vLLM 0.32 refuses them there.
    return "chat" if at_chat else "responses"


def _decided(
    request: ChatRequest,
    overrides: Mapping[str, Any],
    config: Config,
    model: str,
    family: Family,
    largest_reply: int | None,
) -> CallOptions:
    cap = first_set(overrides.get("max_output_tokens"), overrides.get("max_tokens"), request.max_output_tokens)
    extra_body, more_tools = _extra_body(config, overrides)
    effort, summary = _reasoning(request, overrides, config)
    sent_effort = None if effort is None else family.effort(effort)
    return CallOptions(
        model=model,
        family=family,
        stream=_streams(request, overrides, config),
        temperature=first_set(overrides.get("temperature"), request.temperature, config.temperature),
        top_p=first_set(overrides.get("top_p"), request.top_p, config.top_p),
        stop=first_set(overrides.get("stop"), request.stop, config.stop),
        tool_choice=_tool_choice(first_set(overrides.get("tool_choice"), request.tool_choice)),
        parallel_tool_calls=first_set(overrides.get("parallel_tool_calls"), _extra(request, "parallel_tool_calls")),
        max_output_tokens=first_set(cap, config.max_tokens, largest_reply),
        capped_by_caller=cap is not None,
        reasoning_effort=sent_effort,
        reasoning_summary=summary,
        truncation=first_set(overrides.get("truncation"), config.truncation),
        store=config.enable_state if overrides.get("store") is None else bool(overrides["store"]),
        vision=family.sees_images and config.vision is not False,
        degradations=_degraded_effort(effort, sent_effort, family, overrides),
        hosted_tools=[*config.hosted_tools, *more_tools],
        extra_body=extra_body | _seed(overrides),
        extra_headers={**config.extra_headers, **(overrides.get("extra_headers") or {})},
    )


def _streams(request: ChatRequest, overrides: Mapping[str, Any], config: Config) -> bool:
    wanted = overrides.get("stream") is not False and (request.metadata or {}).get("stream") is not False
    return config.use_streaming and wanted


def _extra_body(config: Config, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Further keys of the body, and the tools among them, which stand beside the session's instead of being lost."""
    body: dict[str, Any] = {**config.extra_request_params, **(overrides.get("extra_request_params") or {})}
    tools: list[Json] = body.pop("tools") if isinstance(body.get("tools"), list) else []
    return body, [expand_tool(tool) for tool in tools]


def _reasoning(request: ChatRequest, overrides: Mapping[str, Any], config: Config) -> tuple[str | None, str | None]:
    """Effort and summary. `extended_thinking=False` beats every default: naming and goal checks rely on it."""
    if overrides.get("extended_thinking") is False:
        return "none", None
    asked: Reasoning = overrides.get("reasoning") or Reasoning()
    configured = config.reasoning or Reasoning()
    effort = first_set(
        overrides.get("reasoning_effort"),
        asked.effort,
        request.reasoning_effort,
        config.reasoning_effort,
        configured.effort,
        # Some models think only if they are told to.
        "medium" if overrides.get("extended_thinking") is True else None,
    )
    summary = first_set(overrides.get("reasoning_summary"), asked.summary, config.reasoning_summary, configured.summary)
    return effort, summary


def _tool_choice(given: str | dict[str, Any] | None) -> ToolChoice | None:
    """The choice in whichever of OpenAI's, Anthropic's and Amplifier's spellings it was given."""
    match given:
        case None | "auto" | "required" | "none":
            return given
        case "any":
            return "required"
        case str(name):
            return NamedTool(name)
        case {"type": "function", "function": {"name": str(name)}} | {"type": "tool" | "function", "name": str(name)}:
            return NamedTool(name)
        case {"type": "auto" | "required" | "none" | "any" as kind}:
            return _tool_choice(str(kind))
        case _:
            return given


def _degraded_effort(
    asked: str | None, sent: str | None, family: Family, overrides: Mapping[str, Any]
) -> list[Degradation]:
    """An opt-out of thinking is no wish that failed: the model thinks as little as it can."""
    if asked is None or sent is None or asked == sent or overrides.get("extended_thinking") is False:
        return []
    reason = f"{family.name} takes only {listed(family.efforts or ())}"
    return [Degradation(requested=f"reasoning effort {asked}", actual=f"reasoning effort {sent}", reason=reason)]


def listed(words: Sequence[str]) -> str:
    """The words as a sentence lists them: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _seed(overrides: Mapping[str, Any]) -> dict[str, int]:
    return {} if overrides.get("seed") is None else {"seed": overrides["seed"]}


def _extra(request: ChatRequest, name: str) -> Any:
    return (request.model_extra or {}).get(name)
