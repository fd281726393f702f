"""The four models of the paper (arXiv 2603.07452) by name: what they are, who may have them, how big they are.

The numbers are those of their public configurations, so that a run is planned and costed before anything is fetched.
"""

from dataclasses import dataclass

from b4g.models.architecture import Architecture

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers that LoRA adapts in all four: every one but the output layer."""


@dataclass(frozen=True)
class Entry:
    """A hub model that B4G knows by a name of its own."""

    hub: str
    """Its id on the hub."""
    revision: str
    """The commit that is loaded, unless another is asked for."""
    licence: str
    gated: bool
    """Whether its page wants the licence accepted before it gives the weights."""
    architecture: Architecture
    context: int
    """Most tokens it was made for."""
    quirks: str
    """What its chat template does that others do not; see docs/models.md."""
    dtype: str = "bfloat16"
    """The number format it is run in on a GPU."""
    targets: tuple[str, ...] = TARGETS

    @property
    def gigabytes(self) -> float:
        """Size of its weights in its number format, in 10^9 bytes."""
        return 2 * self.architecture.parameters / 1e9

    @property
    def line(self) -> str:
        """What `b4g ls models` says of it."""
        return f"{self.hub}, {self.gigabytes:.1f} GB, {self.licence}{', gated' if self.gated else ''}"

    @property
    def access(self) -> str:
        """How to be let in, in one sentence."""
        if not self.gated:
            return f"open under the {self.licence} licence; nothing to accept"
        return f"accept the {self.licence} on the hub page of {self.hub}, then type: hf auth login"


CATALOGUE = {
    "llama-3.1-8b": Entry(
        hub="meta-llama/Llama-3.1-8B-Instruct",
        revision="0e9e39f249a16976918f6564b8830bc894c89659",
        licence="Llama 3.1 Community License",
        gated=True,
        architecture=Architecture("llama", 32, 4096, 32, 8, 128, 14336, 128256),
        context=131072,
        quirks="a system header with a date stands in every prompt; the date is pinned",
    ),
    "gemma-2-9b": Entry(
        hub="google/gemma-2-9b-it",
        revision="11c9b309abf73637e4b6f9a3fa1e92e615547819",
        licence="Gemma Terms of Use",
        gated=True,
        architecture=Architecture("gemma2", 42, 3584, 16, 8, 256, 14336, 256000, tied=True, capped=True),
        context=8192,
        quirks="no system role: its text heads the first user message; turns must alternate",
    ),
    "qwen2.5-7b": Entry(
        hub="Qwen/Qwen2.5-7B-Instruct",
        revision="a09a35458c702b33eeacc393d103063234e8bc28",
        licence="Apache-2.0",
        gated=False,
        architecture=Architecture("qwen2", 28, 3584, 28, 4, 128, 18944, 152064, biases=True),
        context=32768,
        quirks="a default system message where a chat has none",
    ),
    "llama-2-13b": Entry(
        hub="meta-llama/Llama-2-13b-chat-hf",
        revision="a2cb7a712bb6e5e736ca7f8cd98167f81a0b5bd8",
        licence="Llama 2 Community License",
        gated=True,
        architecture=Architecture("llama", 40, 5120, 40, 40, 128, 13824, 32000),
        context=4096,
        quirks="the system text is inside the first [INST]; turns must alternate",
    ),
}


def entry_of(name: str) -> Entry | None:
    """Return the entry of a catalogue name or of its hub id, or None."""
    return CATALOGUE.get(name) or next((entry for entry in CATALOGUE.values() if entry.hub == name), None)
