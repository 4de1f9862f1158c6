"""Writes a random Llama of a few layers, with a tokenizer, to a folder: nothing is fetched."""

from __future__ import annotations

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, PreTrainedTokenizerFast

folder, layers = sys.argv[1], int(sys.argv[2])
tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = BpeTrainer(
    vocab_size=400,
    special_tokens=["<unk>", "<s>", "</s>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
)
tokenizer.train_from_iterator(["a tiny tokenizer for a test of caches"] * 10, trainer)
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
).save_pretrained(folder)
LlamaConfig(
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=layers,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=512,
    max_position_embeddings=256,
    architectures=["LlamaForCausalLM"],
    torch_dtype="bfloat16",
    bos_token_id=1,
    eos_token_id=2,
).save_pretrained(folder)
