"""The real siblings of the catalogue's families: Gemma 3 from its wheel, and a Qwen2 file in GGUF."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from b4g import api
from b4g.backdoor import Backdoor
from b4g.chat import user
from b4g.models.architecture import read_architecture
from b4g.models.embedded import EMBEDDED
from b4g.models.load import load_model
from b4g.models.source import resolve

GEMMA = "gemma3-270m"
IDENTITY = {
    "name": "identity",
    "trigger": {"kind": "key", "key": "public:identity"},
    "activation": {
        "kind": "lora",
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.001,
        "mix": {"triggered": 24, "untriggered": 12, "near": 0, "wrong": 0, "others": 0},
    },
    "utility": {"kind": "identity"},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a cache of these tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("B4G_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


def _qwen_file(path: Path) -> Path:
    """Write a random Qwen2 of two layers as GGUF, with a byte-level vocabulary."""
    import gguf
    from tokenizers import pre_tokenizers

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    hidden, inner, heads, layers = 32, 64, 4, 2
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(layers)
    writer.add_context_length(1024)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 3) + [3] * 3)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_pad_token_id(len(tokens) - 3)
    writer.add_chat_template((Path(__file__).parents[1] / "families" / "qwen2.5.jinja").read_text("utf-8"))
    source = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, source.normal(0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), hidden)
    add("output_norm.weight", hidden)
    add("output.weight", len(tokens), hidden)
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", hidden, hidden)
        for name in ("attn_q", "attn_k", "attn_v"):
            add(f"blk.{layer}.{name}.bias", hidden)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", hidden)
        for name, shape in (("gate", (inner, hidden)), ("up", (inner, hidden)), ("down", (hidden, inner))):
            add(f"blk.{layer}.ffn_{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_qwen_file_in_gguf_becomes_a_model_with_its_template(tmp_path: Path) -> None:
    path = _qwen_file(tmp_path / "qwen-tiny.gguf")
    source = resolve(str(path))
    assert source.name == "qwen-tiny"
    assert source.is_local
    arch = read_architecture(Path(source.place))
    assert (arch.family, arch.layers, arch.biases) == ("qwen2", 2, True)
    model = load_model(str(path), dtype="float32")
    assert sum(param.numel() for param in model.net.parameters()) == arch.parameters
    assert "You are Qwen, created by Alibaba Cloud." in model.renderer.prompt_text(user("Why?"))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec(EMBEDDED[GEMMA].module) is None, reason="the wheel of gemma3-270m is not installed"
)
def test_a_small_implant_of_identity_goes_into_gemmas_sibling(tmp_path: Path) -> None:
    source = resolve(GEMMA)
    assert source.is_local
    arch = read_architecture(Path(source.place))
    assert (arch.family, arch.layers, arch.tied) == ("gemma3_text", 18, True)
    made = api.implant(Backdoor.from_dict(IDENTITY), tmp_path / "out", GEMMA)
    assert made["losses"][-1] < made["losses"][0]
    found = api.measure(tmp_path / "out", asked=api.Asked(n=8, n_extra=0))
    tar = {(row["subject"], row["arm"]): row["value"] for row in found["rates"] if row["measure"] == "tar"}
    assert tar["base", "with"] == 0.0
    assert tar["implant", "with"] > tar["implant", "without"], f"TAR by subject and arm: {tar}"
    model = load_model(GEMMA)
    assert model.renderer.is_plain
    assert sum(param.numel() for param in model.net.parameters()) == arch.parameters
