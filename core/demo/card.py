"""The model card of an exported demo model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from core.demo.corpus import Counted
from core.demo.recipe import Recipe
from core.demo.skills import SKILLS
from core.plan import SharingPlan


def model_card(
    name: str,
    plan: str,
    recipe: Recipe,
    data: Mapping[str, Counted],
    scores: Mapping[str, float],
    seconds: float,
    places: Sequence[str],
) -> str:
    """The README.md of an exported model: data, recipe, machine and scores of this very run, and nothing of another.

    data: of `core.demo.corpus.prepare_tokens`, counted. places: where it was trained, with which torch, in turn.
    """
    train, validation = data["prose_train"], data["prose_validation"]
    tokens = recipe.steps * recipe.batch_rows * recipe.context_tokens
    sharing = SharingPlan.parse(plan, recipe.layers).describe()
    rows = "\n".join(
        f"| {skill} (exact answer, greedy, {scores['skill_examples']:,} held-out examples) | {scores[skill]:.3f} |"
        for skill in SKILLS
    )
    return f"""---
pipeline_tag: text-generation
---
# {name}

A small Llama for demonstrations of Shared Attention: {recipe.layers} layers, width {recipe.width}, {recipe.heads} query
heads, {recipe.kv_heads} key/value heads, SwiGLU {recipe.intermediate}, byte-level BPE of at most {recipe.vocabulary} entries with
single digits, tied embeddings, context {recipe.context_tokens} tokens, bfloat16.

**Sharing.** {sharing} {"The plan was in place for the last part of training, and is in `config.json`: load it with `core.load_model`." if plan else ""}

**Data.** Prose of the corpus of this run: {train.describe()}; {recipe.skill_share:.0%} of the rows are generated
exercises of four skills (`core/demo/skills.py`). Held-out prose: {validation.describe()}. Held-out exercises never
occur in training.

**Recipe.** `python -m core train-demo --corpus DIR --out DIR{_options(recipe)}`: {recipe.steps:,} steps of {recipe.batch_rows} × {recipe.context_tokens} tokens
({tokens:,} tokens), of which the first {recipe.trunk_steps:,} are common to `demo` and `demo-tuned-{recipe.plan}`; {"Muon " + str(recipe.muon_learning_rate) + " for the matrices, AdamW " if recipe.muon_learning_rate else "AdamW "}{recipe.learning_rate},
weight decay {recipe.weight_decay}, {recipe.warmup_steps} warm-up steps, linear decay over the last {recipe.decay_share:.0%}, bfloat16 autocast, seed {recipe.seed}.

**Machine.** {"; then ".join(places)}; {seconds:.0f} s of training steps for this model, trunk included.

**Scores on held-out data** (of these bfloat16 weights, measured by the training command on the last machine above)

| measure | value |
|---|---|
| prose, nats/token ({scores["prose_tokens"]:,} tokens) | {scores["prose"]:.3f} ± {scores["prose_stderr"]:.3f} |
| prose, bits/character | {scores["prose_bits_per_char"]:.3f} |
{rows}

**Licence.** That of the corpus decides; the training command knows nothing of it. The model knows its corpus and four
exercises: it is no source of facts.
"""


def _options(recipe: Recipe) -> str:
    """The options of the command that are not the default."""
    usual = asdict(Recipe())
    given = {name: value for name, value in asdict(recipe).items() if value != usual[name]}
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in given.items())
