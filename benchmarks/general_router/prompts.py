"""One table of prompts with targets for the general router, from every measured set that helps.

Usage: python benchmarks/general_router/prompts.py DATA_FOLDER prompts.parquet
           [--leave-out NAME …] [--without PROMPTS.parquet]

Reads DATA_FOLDER/reasoning_gap/prompts.parquet, strong_weak/mmlu_pro.parquet,
strong_weak/llmrouter_example.parquet and chat_prompts/prompts.parquet. Writes what
`turnout build --outcomes` reads: prompt, group, target and weight, and the two scores where
reasoning and fast models were measured. Why each target is as it is stands in README.md beside
this file. To measure a router on what it has not seen, `--leave-out` drops sources whose name
starts so (a benchmark, a task, a category) and `--without` the prompts of a file.
"""

import argparse
import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from surface import SurfaceTeacher

SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("group", pa.string()),
        ("reasoning_score", pa.float64()),
        ("fast_score", pa.float64()),
        ("target", pa.float64()),
        ("weight", pa.float64()),
    ]
)
# Targets are 0.5 + SLOPE · (gap − centre), kept off the ends.
SLOPE = 1.5
LOWEST, HIGHEST = 0.02, 0.98
# The mean gap of the measured prompts: such a prompt has target 0.5.
GAP_CENTRE = 0.13
# A gap of few models and runs is noisy; the mean of its task, or of questions equally hard, is not.
OWN_SHARE, QUESTION_SHARE = 0.85, 0.4
# Few-option questions come without their options too: length and form should not tell.
WITHOUT_OPTIONS_SHARE = 0.25
# Of a measured prompt's target, what the surface teacher says.
TEACHER_SHARE = 0.2
GAP_WEIGHT, STRONG_WEAK_WEIGHT, STEPS_WEIGHT, UNMEASURED_WEIGHT = 1.0, 0.6, 0.4, 0.4

MMLU_PRO_STRONG = (
    "gemini-1.5-pro-002",
    "DeepSeek-Coder-V2",
    "gemini-1.5-flash-002",
    "Meta-Llama-3_1-70B-Instruct",
)
MMLU_PRO_WEAK = (
    "Mixtral-8x7B-Instruct-v0.1",
    "Mixtral-8x7B-v0.1",
    "Yi-34B",
    "Phi-3-mini-4k-instruct",
    "Meta-Llama-3-8B",
    "gemma-7b",
    "Mistral-7B-Instruct-v0.2",
    "Qwen1.5-72B-Chat",
)
TASKS_STRONG = ("llama-3.3-nemotron-super-49b-v1", "llama-3.1-nemotron-51b-instruct")
TASKS_WEAK = (
    "mistral-7b-instruct-v0.3",
    "gemma-2-9b-it",
    "llama-3.1-8b-instruct",
    "qwen2.5-7b-instruct",
)
_FIRST_OPTION = re.compile(r"\n\(?A[.)]")
ANSWER_FORMAT = re.compile(r"\nAfter careful thought.*", re.DOTALL)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--without", type=Path, metavar="PROMPTS")
    asked = parser.parse_args()
    left_out = tuple(asked.leave_out)
    held = set(pq.read_table(asked.without)["prompt"].to_pylist()) if asked.without else set()
    rows = [
        row
        for source in (measured_gaps, knowledge_questions, mixed_tasks, word_problems)
        for row in source(asked.data)
        if row["prompt"] not in held and not (left_out and row["group"].startswith(left_out))
    ]
    scored = [row for row in rows if "reasoning_score" in row]
    gaps = np.asarray([row["reasoning_score"] - row["fast_score"] for row in scored], np.float64)
    teacher = SurfaceTeacher([row["prompt"] for row in scored], gaps)
    rows += unmeasured(asked.data, teacher, held)
    for row, gap in zip(scored, teacher.predict([row["prompt"] for row in scored]), strict=True):
        row["target"] = (1 - TEACHER_SHARE) * row["target"] + TEACHER_SHARE * _target(
            gap - GAP_CENTRE
        )
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), asked.out, compression="zstd")


def measured_gaps(data: Path) -> list[dict[str, object]]:
    """Prompts on which reasoning and fast models were both scored; the only rows with a label."""
    rows = pq.read_table(data / "reasoning_gap" / "prompts.parquet").to_pylist()
    tasks = ["/".join(filter(None, (row["group"], row["category"]))) for row in rows]
    gaps = np.asarray([row["gap"] for row in rows], np.float64)
    smooth = OWN_SHARE * gaps + (1 - OWN_SHARE) * _means(gaps, tasks)
    return [
        {
            "prompt": row["prompt"],
            "group": task,
            "reasoning_score": min(1.0, float(row["reasoning_score"])),
            "fast_score": min(1.0, float(row["fast_score"])),
            "target": _target(gap - GAP_CENTRE),
            "weight": GAP_WEIGHT,
        }
        for row, task, gap in zip(rows, tasks, smooth, strict=True)
    ]


def knowledge_questions(data: Path) -> list[dict[str, object]]:
    """MMLU-Pro: the gap of strong over weak models, smoothed over questions equally hard for 29."""
    rows = pq.read_table(data / "strong_weak" / "mmlu_pro.parquet").to_pylist()
    gaps = gaps_of(rows, "correct__", MMLU_PRO_STRONG, MMLU_PRO_WEAK)
    hardness = [str(int(12 * min(row["mean_correct"], 0.999))) for row in rows]
    smooth = QUESTION_SHARE * gaps + (1 - QUESTION_SHARE) * _means(gaps, hardness)
    centre = float(np.clip(gaps.mean(), 0, 0.3))
    return [
        _stated(_plain(row["prompt"]), f"mmlu_pro/{row['category']}", gap - centre)
        for row, gap in zip(rows, smooth, strict=True)
    ]


def mixed_tasks(data: Path) -> list[dict[str, object]]:
    """Fourteen tasks scored for nine models; every task's gaps are centred on their own mean."""
    rows = pq.read_table(data / "strong_weak" / "llmrouter_example.parquet").to_pylist()
    names = [f"score__{model}" for model in (*TASKS_STRONG, *TASKS_WEAK)]
    rows = [row for row in rows if all(row[name] is not None for name in names)]
    gaps = gaps_of(rows, "score__", TASKS_STRONG, TASKS_WEAK)
    centres = np.clip(_means(gaps, [row["task"] for row in rows]), 0, 0.3)
    return [
        _stated(_plain(row["prompt"]), row["task"], gap)
        for row, gap in zip(rows, gaps - centres, strict=True)
    ]


def word_problems(data: Path) -> list[dict[str, object]]:
    """GSM8K's training problems: no model was scored; more steps and more words count as harder."""
    rows = pq.read_table(data / "chat_prompts" / "prompts.parquet").to_pylist()
    rows = [row for row in rows if row["set"] == "gsm8k_train" and row["difficulty"] is not None]
    steps = np.asarray([float(row["difficulty"]) for row in rows])
    words = np.log([len(row["prompt"]) for row in rows])
    hardness = _standardised(steps) + 0.5 * _standardised(words)
    return [
        _stated(row["prompt"], "word_problems/gsm8k", 0.12 * value, weight=STEPS_WEIGHT)
        for row, value in zip(rows, hardness, strict=True)
    ]


def unmeasured(data: Path, teacher: SurfaceTeacher, held: set[str]) -> list[dict[str, object]]:
    """Prompts that nobody scored, in no group; their target is what the surface teacher says."""
    prompts = [
        row["prompt"]
        for row in pq.read_table(data / "chat_prompts" / "prompts.parquet").to_pylist()
        if row["set"] != "gsm8k_train"
    ]
    for log in ("multi_turn", "dev_chat_logs"):
        turns = pq.read_table(data / log / "turns.parquet").to_pylist()
        prompts += [row["user_message"] for row in turns if row["turn_index"] == 1]
    prompts = [prompt for prompt in prompts if prompt and prompt.strip() and prompt not in held]
    return [
        _stated(prompt, None, gap - GAP_CENTRE, weight=UNMEASURED_WEIGHT)
        for prompt, gap in zip(prompts, teacher.predict(prompts), strict=True)
    ]


def _stated(
    prompt: str, group: str | None, gap: float, weight: float = STRONG_WEAK_WEIGHT
) -> dict[str, object]:
    return {"prompt": prompt, "group": group, "target": _target(gap), "weight": weight}


def _target(centred_gap: float) -> float:
    return float(np.clip(0.5 + SLOPE * centred_gap, LOWEST, HIGHEST))


def _plain(prompt: str) -> str:
    """Without the request for an answer's form, and of some questions without the options."""
    prompt = ANSWER_FORMAT.sub("", prompt)
    options = _FIRST_OPTION.search(prompt)
    drawn = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) / 16**8
    return prompt[: options.start()] if options and drawn < WITHOUT_OPTIONS_SHARE else prompt


def gaps_of(
    rows: list[dict[str, float]], prefix: str, strong: tuple[str, ...], weak: tuple[str, ...]
) -> np.ndarray:
    """Mean score of the strong models less that of the weak ones, shape `(n,)`.

    A model that was not run on a prompt is left out of its mean.
    """
    means = [
        np.nanmean(
            np.asarray([[row[f"{prefix}{model}"] for model in models] for row in rows], np.float64),
            axis=1,
        )
        for models in (strong, weak)
    ]
    return means[0] - means[1]


def _means(values: np.ndarray, groups: list[str]) -> np.ndarray:
    """The mean of every value's group, shape `(n,)`."""
    _, of = np.unique(groups, return_inverse=True)
    return (np.bincount(of, values) / np.bincount(of))[of]


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


if __name__ == "__main__":
    main()
