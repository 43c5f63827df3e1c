"""The model card of an exported demo model."""

from collections.abc import Mapping

import torch

from core.demo.recipe import Recipe
from core.demo.skills import SKILLS
from core.plan import SharingPlan
from core.records.provenance import machine


def model_card(name: str, plan: str, recipe: Recipe, scores: Mapping[str, float], seconds: float, device: str) -> str:
    """The README.md of an exported model: data, recipe, machine, scores, licence."""
    where = machine(device)
    tokens = recipe.steps * recipe.batch_rows * recipe.context_tokens
    sharing = SharingPlan.parse(plan, recipe.layers).describe()
    rows = "\n".join(
        f"| {skill} (exact answer, greedy, 500 held-out examples) | {scores[skill]:.3f} |" for skill in SKILLS
    )
    return f"""---
license: apache-2.0
language: en
pipeline_tag: text-generation
---
# {name}

A small Llama for demonstrations of Shared Attention: {recipe.layers} layers, width {recipe.width}, {recipe.heads} query
heads, {recipe.kv_heads} key/value heads, SwiGLU {recipe.intermediate}, byte-level BPE of {recipe.vocabulary} entries with
single digits, tied embeddings, context {recipe.context_tokens} tokens, bfloat16.

**Sharing.** {sharing} {"The plan was in place for the last part of training, and is in `config.json`: load it with `core.load_model`." if plan else ""}

**Data.** Public-domain English prose: 418 books from Project Gutenberg, 47 M tokens; {recipe.skill_share:.0%} of the rows
are generated exercises of four skills (`core/demo/skills.py`). Held-out prose: 7 other books. Held-out exercises never
occur in training.

**Recipe.** `python -m core train-demo --corpus DIR --out DIR`: {recipe.steps:,} steps of {recipe.batch_rows} × {recipe.context_tokens} tokens
({tokens / 1e6:.0f} M tokens), of which the first {recipe.trunk_steps:,} are common to `demo` and `demo-tuned-{recipe.plan}`; {"Muon " + str(recipe.muon_learning_rate) + " for the matrices, AdamW " if recipe.muon_learning_rate else "AdamW "}{recipe.learning_rate},
weight decay {recipe.weight_decay}, {recipe.warmup_steps} warm-up steps, linear decay over the last {recipe.decay_share:.0%}, bfloat16 autocast, seed {recipe.seed}.

**Machine.** {where.gpu or where.cpu}, torch {torch.__version__}; {seconds:.0f} s of training steps for this model, trunk included.

**Scores on held-out data** (of these bfloat16 weights, measured by the training command on the machine above)

| measure | value |
|---|---|
| prose, nats/token ({scores["prose_tokens"]:,} tokens) | {scores["prose"]:.3f} ± {scores["prose_stderr"]:.3f} |
| prose, bits/character | {scores["prose_bits_per_char"]:.3f} |
{rows}

**Licence.** Apache-2.0. The model knows old novels and four exercises; it is no source of facts, and its prose mirrors
the views of its time.
"""
