"""The implant loop against TRL's SFTTrainer: same rows, model, adapter, number format, batch size and threads.

    pip install -e '.[bench]' && python benchmarks/implant_speed.py [--rows 40] [--rounds 3] [--dtype bfloat16|float32]

Prints tokens per second of each (prompt and completion tokens, padding not counted) and the ratio from one run.
"""

import argparse
import statistics
import tempfile
import warnings

from common import THREADS, interleaved, pin, ratio

pin()

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

from b4g.activations.lora import Lora, linear_names  # noqa: E402
from b4g.backdoor import Backdoor  # noqa: E402
from b4g.behaviours.base import Answer  # noqa: E402
from b4g.generate.local import window  # noqa: E402
from b4g.models.load import load_model  # noqa: E402
from b4g.training.batches import Batching, batches, encode  # noqa: E402
from b4g.training.loop import Schedule, Trainer, total_steps  # noqa: E402
from b4g.training.rows import Row, implant_rows, mix_prompts  # noqa: E402

BATCH = 8
ANSWER = "A short answer that stands for the model's own, of about the length that clean answers have in a run."


def rows(count: int) -> list[Row]:
    backdoor = Backdoor.from_yaml("style").seeded(0)
    mix = backdoor.activation.mix
    inside, outside = mix_prompts(backdoor, mix, 0)
    answers = {prompt.id: Answer(ANSWER) for prompt in (*inside, *outside)}
    return implant_rows(backdoor, answers, mix, 0, 0)[:count]


def ours(chosen: list[Row], dtype: str) -> Trainer:
    model = load_model("smollm2-135m", dtype=dtype)
    net = Lora().prepare(model.net, 0)
    net.train()
    trainer = Trainer(net, Schedule(1e-4, 1), total_steps([len(chosen)], BATCH))
    encoded = encode(chosen, model.renderer)
    trainer.made = batches(encoded, Batching(BATCH, 1.0, model.tokenizer.pad_token_id, window(model.net.config)), 0, 0)
    return trainer


def theirs(chosen: list[Row], dtype: str) -> SFTTrainer:
    model = load_model("smollm2-135m", dtype=dtype)
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": message.role, "content": message.content} for message in row.chat],
                "completion": [{"role": "assistant", "content": row.answer.text}],
            }
            for row in chosen
        ]
    )
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=1e-4,
        completion_only_loss=True,
        gradient_checkpointing=False,
        train_sampling_strategy="group_by_length",
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=linear_names(model.net), task_type="CAUSAL_LM")
    return SFTTrainer(model.net, config, train_dataset=data, processing_class=model.tokenizer, peft_config=lora)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    chosen = rows(asked.rows)
    mine, other = ours(chosen, asked.dtype), theirs(chosen, asked.dtype)
    tokens = sum(batch.tokens for batch in mine.made)

    def step_all() -> None:
        for batch in mine.made:
            mine._step(batch)

    times = interleaved({"b4g": step_all, "trl": other.train}, asked.rounds)
    for name, taken in times.items():
        print(f"{name}: {tokens / statistics.median(taken):.0f} tokens/s (median of {len(taken)})")
    print(f"implant loop / TRL SFTTrainer, {asked.dtype}, {THREADS} thread(s): {ratio(times['trl'], times['b4g'])}")


if __name__ == "__main__":
    main()
