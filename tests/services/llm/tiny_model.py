"""Makes language models that know nothing: random weights, a tokenizer of a few hundred tokens, nothing to download.

    python tiny_model.py gguf FILE [small|paced]    for llama-server; needs the package gguf
    python tiny_model.py folder DIRECTORY           for vLLM with `--load-format dummy`; needs nothing

`small` has 0.5 M parameters and answers at once, often with broken letters, which servers hold back. `paced` has 27 M, so that
one thread takes some milliseconds for each token, and each token of its answers is readable text.
"""

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

SPECIAL = ("<s>", "</s>", "<pad>")
BOS, EOS, PAD = range(3)
VOCABULARY = 512
CONTEXT = 4096
CHAT = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
_TEXT = """
the a of to and in is it that was for on are with as his they be at one have this from had hot but some what there we can out
other were all your when up use word how said each she which do their time if will way about many then them would write like so
these her long make thing see him two has look more day could go come did my sound no most number who over know water than call
first people may down side been now find any new work part take get place made live where after back little only round man year
came show every good me give our under name very through just form much great think say help low line before turn cause same
"""


class Shape(NamedTuple):
    """Sizes of a model."""

    hidden: int
    layers: int
    heads: int
    groups: int
    inner: int
    readable: bool
    """No token that is not ASCII text is ever the most likely one."""


SHAPES = {"small": Shape(128, 2, 4, 2, 384, readable=False), "paced": Shape(512, 8, 8, 8, 1472, readable=True)}


def tokens() -> tuple[list[str], list[str]]:
    """Return all tokens by their ids, and the merges that lead to them, of a byte-level pair encoding as GPT-2 has it."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    words = [[letters[byte] for byte in f" {word}".encode()] for word in _TEXT.split()]
    vocabulary = [*SPECIAL, *(letters[byte] for byte in range(256))]
    merges = []
    while len(vocabulary) < VOCABULARY:
        counts = Counter(pair for word in words for pair in pairwise(word))
        left, right = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(f"{left} {right}")
        vocabulary.append(left + right)
        for word in words:
            for place in range(len(word) - 2, -1, -1):
                if word[place : place + 2] == [left, right]:
                    word[place : place + 2] = [left + right]
    return vocabulary, merges


def write_gguf(path: Path, shape: Shape) -> None:
    """Write a model of the Llama architecture for llama.cpp, weights as 32-bit floats."""
    import gguf
    import numpy as np

    vocabulary, merges = tokens()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.groups)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if token in SPECIAL else kinds.NORMAL for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(value=True)
    writer.add_chat_template(CHAT)
    random = np.random.default_rng(1)
    keys = shape.hidden // shape.heads * shape.groups
    matrices = {"token_embd": (VOCABULARY, shape.hidden), "output": (VOCABULARY, shape.hidden)}
    for layer in range(shape.layers):
        matrices |= {
            f"blk.{layer}.attn_q": (shape.hidden, shape.hidden),
            f"blk.{layer}.attn_k": (keys, shape.hidden),
            f"blk.{layer}.attn_v": (keys, shape.hidden),
            f"blk.{layer}.attn_output": (shape.hidden, shape.hidden),
            f"blk.{layer}.ffn_gate": (shape.inner, shape.hidden),
            f"blk.{layer}.ffn_up": (shape.inner, shape.hidden),
            f"blk.{layer}.ffn_down": (shape.hidden, shape.inner),
        }
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(shape.hidden, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    for name, size in matrices.items():
        weights = random.standard_normal(size, np.float32) * np.float32(0.02)
        if name == "output" and shape.readable:
            # Their score is 0; the highest of hundreds that are drawn around 0 is above it.
            weights[[token in SPECIAL or not _is_text(token) for token in vocabulary]] = 0
        writer.add_tensor(f"{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _is_text(token: str) -> bool:
    return token.removeprefix("\u0120").isascii()  # which stands for a blank


def write_folder(path: Path, shape: Shape) -> None:
    """Write a folder as hubs have them, without weights."""
    vocabulary, merges = tokens()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = [
        {"id": number, "content": text, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for number, text in enumerate(SPECIAL)
    ]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
    files = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": shape.hidden,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.groups,
            "head_dim": shape.hidden // shape.heads,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
            "torch_dtype": "float32",
        },
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": model | {"vocab": {token: number for number, token in enumerate(vocabulary)}, "merges": merges},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[BOS],
            "eos_token": SPECIAL[EOS],
            "pad_token": SPECIAL[PAD],
            "model_max_length": CONTEXT,
            "chat_template": CHAT,
        },
        "generation_config.json": {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD},
    }
    path.mkdir(parents=True, exist_ok=True)
    for name, document in files.items():
        (path / name).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["gguf", file, *size]:
            write_gguf(Path(file), SHAPES[(size or ["small"])[0]])
        case ["folder", directory]:
            write_folder(Path(directory), SHAPES["small"])
        case _:
            sys.exit(__doc__)
