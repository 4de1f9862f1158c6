"""Loads a model with vLLM, as an offline script does, and prints what it answers."""

from __future__ import annotations

import json
import os


def main() -> None:
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=os.environ["MODEL"],
        load_format="dummy",
        dtype="bfloat16",
        max_model_len=128,
        seed=0,
        **json.loads(os.environ.get("LLM_ARGS", "{}")),
    )
    sampling = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)
    (found,) = engine.generate(["hello"], sampling)
    print("ANSWER", list(found.outputs[0].token_ids), flush=True)


if __name__ == "__main__":
    main()
