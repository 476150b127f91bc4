"""What to start: one tiny model and the settings of its server, as flags, environment and a name of its own."""

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.rig import environment, models
from tests.rig.home import foreign_free_environment, home
from tests.rig.models import TinyModel, tiny_model

LOOPBACK = "127.0.0.1"
# Tokens: 87,000 of tiny-qwen3, 246,000 of tiny-gpt-oss; eight full requests are 32,768. VLLM_CPU_KVCACHE_SPACE, the
# other way to say it, counts in whole GiB, all of which vLLM fills with zeros.
KV_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Launch:
    """The settings of one server; equal settings share a running server, different ones never do."""

    model: str
    parsers: bool = True
    store: bool = False
    api_key: str | None = None
    max_model_len: int = 4096
    extra_flags: tuple[str, ...] = ()

    @property
    def tiny(self) -> TinyModel:
        return tiny_model(self.model)

    @property
    def plain(self) -> bool:
        return self == Launch(self.model)

    @property
    def slot(self) -> str:
        """The name of this server's files: its model and a digest of all that makes it different from another."""
        sources = (environment.fingerprint(), models.fingerprint(self.tiny))
        everything = (*self.flags(), str(sorted(self.switches().items())), *sources)
        return f"{self.model}-{hashlib.sha256(chr(0).join(everything).encode()).hexdigest()[:8]}"

    def flags(self) -> list[str]:
        """The flags of `vllm serve`, without host and port."""
        flags = [
            "--served-model-name",
            self.model,
            "--max-model-len",
            str(self.max_model_len),
            "--dtype",
            self.tiny.dtype,
        ]
        flags += ["--enforce-eager", "--max-num-seqs", "8", "--enable-prompt-tokens-details"]
        flags += ["--kv-cache-memory-bytes", str(KV_CACHE_BYTES)]
        if self.parsers:
            flags += self.tiny.parser_flags
        if self.api_key is not None:
            flags += ["--api-key", self.api_key]
        return [*flags, *self.extra_flags]

    def switches(self) -> dict[str, str]:
        """The environment variables that change what the server does."""
        return {"VLLM_ENABLE_RESPONSES_API_STORE": "1"} if self.store else {}

    def command(self, vllm_bin: Path, folder: Path, port: int) -> list[str]:
        return [str(vllm_bin / "vllm"), "serve", str(folder), "--host", LOOPBACK, "--port", str(port), *self.flags()]

    def environment(self) -> dict[str, str]:
        """All of the server's environment: offline, on the loopback, nothing written outside the rig's home."""
        cache = home() / "cache"
        return {
            **foreign_free_environment(),
            "VLLM_HOST_IP": LOOPBACK,
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "VLLM_CONFIG_ROOT": str(cache / "vllm-config"),
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HOME": str(cache / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            **self.switches(),
        }


def reserve_port(preferred: int) -> socket.socket:
    """A socket that keeps a loopback port free for vLLM alone: the preferred one, or another if that is taken."""
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        reservation.bind((LOOPBACK, preferred))
    except OSError:
        reservation.bind((LOOPBACK, 0))
    # Set after binding: it lets vLLM, which sets it too, bind over this socket, and nobody who looks for a free port.
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return reservation
