"""The operator's config: its keys, coerced, validated and frozen."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from ._constants import DEFAULT_BASE_URL, NO_API_KEY
from ._strict_json import Json

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
Effort = Annotated[str, Field(pattern=f"^({'|'.join(EFFORTS)})$")]

EndpointName = Literal["responses", "chat", "completions"]
"""`/v1/responses`, `/v1/chat/completions`, `/v1/completions`."""


def _expand_effort(value: object) -> object:
    return {"effort": value} if isinstance(value, str) else value


def expand_tool(tool: Any) -> Any:
    """A hosted tool that may be given by its type alone."""
    return {"type": tool} if isinstance(tool, str) else tool


def _check_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(tool.get("type"), str) or tool["type"] == "function":
        raise ValueError('a hosted tool has a `type` other than "function"')
    if tool["type"] == "mcp" and not isinstance(tool.get("server_label"), str):
        raise ValueError('a tool of type "mcp" has a `server_label`')
    return tool


def _count_alternatives(value: object) -> object:
    """`true` asks for the sampled tokens alone, as 0 does; `false` for none."""
    match value:
        case bool():
            return 0 if value else None
        case str():
            return {"true": 0, "false": None}.get(value.strip().lower(), value)
        case _:
            return value


Logprobs = Annotated[int | None, Field(ge=0, le=20), BeforeValidator(_count_alternatives)]
"""How many alternatives are told for each sampled token; None: no log probabilities."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


StopStrings = Annotated[list[str] | None, BeforeValidator(_as_list)]

HostedTool = Annotated[dict[str, Any], BeforeValidator(expand_tool), AfterValidator(_check_tool)]


def _check_header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("an HTTP header must be printable ASCII")
    return value


def _clean_key(key: SecretStr) -> SecretStr:
    return SecretStr(_check_header(key.get_secret_value().strip()))  # a key read from a file ends with its line


Header = Annotated[str, AfterValidator(_check_header)]


def named_by(use_completions: bool) -> EndpointName:
    return "completions" if use_completions else "chat"


class Reasoning(BaseModel):
    """The config key `reasoning`: an effort, or effort and summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


EffortOrReasoning = Annotated[Reasoning | None, BeforeValidator(_expand_effort)]


class Rates(BaseModel):
    """Prices in US dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


class Config(BaseModel):
    """Every key is optional. The README's table is generated from the descriptions."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    base_url: str = Field(DEFAULT_BASE_URL, description="Server's URL; without a path `/v1` is added")
    api_key: Annotated[SecretStr, AfterValidator(_clean_key)] = Field(
        SecretStr(NO_API_KEY), description="Key, if the server was started with `--api-key`"
    )
    default_model: str | None = Field(None, description="Model to ask; unset: the only one that the server serves")
    endpoint: Literal["auto", EndpointName] = Field(
        "auto",
        description="`responses`, `chat`, `completions`, or `auto`: `responses`, or `chat` if the server lacks it",
    )
    use_completions: bool | None = Field(
        None, description="Older name: `true` is `endpoint: completions`, `false` is `endpoint: chat`"
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Maximum tokens of a round; longer replies are continued. Unset: half the window",
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Sampling temperature; unset: the model's own")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling; unset: the model's own")
    stop: StopStrings = Field(None, description="Strings that end a reply, at most four")
    logprobs: Logprobs = Field(
        None, description="Log probabilities of the sampled tokens: `true`, or 0 to 20 alternatives for each"
    )
    echo: bool = Field(False, description="The reply's text starts with the prompt (only `completions`)")
    raw_prompt: bool = Field(
        False,
        description="The last user message is the prompt, without the model's template (only `completions`)",
    )
    return_token_ids: bool = Field(
        False, description="Emit `llm:tokens` with the exact token ids of every model call (not at `responses`)"
    )
    token_in: bool = Field(
        False, description="Send each prompt as the tokens of the last one, of its reply, and of what is new (`chat`)"
    )
    across_turns: Literal["append", "rerender"] = Field(
        "append", description="With `token_in`, a new user turn keeps earlier thoughts, or is rendered by the template"
    )
    tokenize_url: str | None = Field(
        None, description="URL of a server with vLLM's `/tokenize`, if `base_url` is a proxy that lacks it"
    )
    disable_tools: bool = Field(False, description="Send neither tools nor `tool_choice`")
    reasoning: EffortOrReasoning = Field(None, description="Effort, or `{effort, summary}`")
    reasoning_effort: Effort | None = Field(
        None, description="`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`; overrides `reasoning`"
    )
    reasoning_summary: Literal["auto", "concise", "detailed"] | None = Field(
        None, description="Summary of the reasoning"
    )
    context_window: int | None = Field(None, ge=1, description="Tokens to plan with; clamped to the server's window")
    max_output_tokens: int | None = Field(
        None, ge=1, description="Output to plan with; unset: up to 16,384, from the server's window"
    )
    enable_state: bool = Field(False, description="Keep the conversation on the server (needs its response store)")
    truncation: Literal["disabled", "auto"] | None = Field(
        "disabled", description='vLLM\'s field `truncation`; `""`: not sent'
    )
    timeout: float | None = Field(
        None, gt=0, description="Maximum seconds of one call, retries included; unset: no limit"
    )
    stream_idle_timeout: float = Field(300, gt=0, description="Maximum seconds to wait for the server's next bytes")
    use_streaming: bool = Field(True, description="Stream replies to the session's hooks")
    priority: int = Field(100, description="Rank among the session's providers; the lowest is asked")
    max_retries: int = Field(5, ge=0, description="Retries of a failed round")
    min_retry_delay: float = Field(1, ge=0, description="Seconds before the first retry; doubled for each one after it")
    max_retry_delay: float = Field(
        60, ge=0, description="Maximum seconds between retries; no retry if the server asks for more"
    )
    retry_jitter: bool = Field(True, description="Vary the delays, so that many sessions do not retry at once")
    startup_timeout: float = Field(0, ge=0, description="Seconds to keep retrying a server that is not ready")
    max_continuations: int = Field(5, ge=0, description="How often a reply that hit our own token cap is continued")
    vision: bool | None = Field(
        None, description="Whether the model sees images; unset: they are sent. Never to gpt-oss: vLLM drops them"
    )
    rates: Rates | None = Field(
        None, description="US dollars per million tokens: `{input, output, cache_read, cache_write}`"
    )
    extra_request_params: dict[str, Any] = Field({}, description="More fields of the request's body, by vLLM's names")
    hosted_tools: list[HostedTool] = Field(
        [], description="Tools that the server runs, such as `web_search` or `{type: mcp, server_label: docs}`"
    )
    extra_headers: dict[str, Header] = Field({}, description="HTTP headers sent with every request")
    debug: bool = Field(False, description="Emit `llm:request:debug` and `llm:response:debug`")
    raw_debug: bool = Field(False, description="Emit `llm:request:raw` and `llm:response:raw`")
    debug_truncate_length: int = Field(180, ge=1, description="Maximum characters of one string in the debug events")
    raw: bool = Field(
        False, description="Add the request and the response as `raw` to `llm:request` and `llm:response`"
    )

    @property
    def stated_endpoint(self) -> EndpointName | None:
        """The endpoint that the config states, in either spelling; None: it is chosen for each call."""
        if self.endpoint != "auto":
            return self.endpoint
        return None if self.use_completions is None else named_by(self.use_completions)

    @property
    def wants_tokens(self) -> bool:
        """Whether the session is told the token ids of every model call."""
        return self.return_token_ids or self.token_in

    @property
    def stated_tools(self) -> list[Mapping[str, Any]]:
        """The tools that the config states, wherever it does: their headers are secrets."""
        more: Json = self.extra_request_params.get("tools")
        listed = more if isinstance(more, list) else []
        return [*self.hosted_tools, *(tool for tool in listed if isinstance(tool, dict))]
