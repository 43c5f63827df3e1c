"""The model card of a tuned model."""

from collections.abc import Sequence

from core.plan import SharingPlan
from core.records.tunings import TuningRecord


def tuning_card(record: TuningRecord, plan: SharingPlan, places: Sequence[str]) -> str:
    """The README.md of a tuned model: data, recipe, machine and losses of this very run, and nothing of another.

    places: where it was trained, with which torch, in turn.
    """
    data, recipe = record.data, record.recipe
    lora = f", adapters of rank {recipe['lora_rank']} on all linear layers, merged" if record.method == "lora" else ""
    learnt = (
        "the loss of the text" if record.objective == "text" else "its distance from the dense model (KL on logits)"
    )
    return f"""---
pipeline_tag: text-generation
---
# {record.out_name}

{record.model} (SHA-256 of its weights {record.weights_sha256}), trained on{_purpose(record)}.

**Sharing.** {_sharing(record, plan)}

**Data.** {data.name}: {data.bytes:,} bytes, SHA-256 {data.sha256}; trained on {data.documents:,} documents of {data.tokens:,}
tokens, of which {record.tokens_seen:,} were seen, repetitions counted. Held out: {data.held_out_documents:,} documents
{f"of {data.held_out_name}" if data.held_out_name else "of the same data, none of which was trained on"}; {data.held_out_tokens:,} tokens are scored.

**Recipe.** `{record.command}`: {record.steps:,} of {recipe["steps"]:,} steps of {recipe["batch_rows"]} × {recipe["accumulate"]} rows of at
most {recipe["context_tokens"]} tokens; {"all weights" if record.method == "full" else "LoRA"}{lora}; minimised was {learnt}. AdamW {recipe["learning_rate"]},
{recipe["schedule"]} after {recipe["warmup_steps"]} warm-up steps, weight decay {recipe["weight_decay"]}, gradients clipped at {recipe["clip"]}, {recipe["dtype"]}, seed {recipe["seed"]}.

**Machine.** {"; then ".join(places)}; {record.seconds:.0f} s of training steps.

**Held-out loss** (nats per token, with the standard error over rows of at most {recipe["context_tokens"]} tokens)

| model | loss |
|---|---|
{_rows(record)}
{_chosen(record)}
**Licence.** That of {record.model} and that of the data decide; the training command knows neither.
"""


def _purpose(record: TuningRecord) -> str:
    if record.control:
        against = f" for plan {record.plan}" if record.plan else ""
        return (
            f" without sharing, as the control of a model that was tuned{against} on the same tokens in the same order"
        )
    return f" with the sharing plan {record.plan} in place"


def _sharing(record: TuningRecord, plan: SharingPlan) -> str:
    if record.control:
        return "None: every layer computes its own attention weights."
    mapped = " Followers read the heads that `sharing_head_map` in `config.json` names." if record.head_map else ""
    return f"{plan.describe()}{mapped} The plan is in `config.json`: load the folder with `core.load_model`."


def _rows(record: TuningRecord) -> str:
    """Before and after, of the same text."""
    before = "before" if record.control else f"with plan {record.plan}, before tuning"
    rows = [] if record.control else [(f"{record.model}, dense", record.held_out_dense)]
    rows += [(f"{record.model} {before}", one[1:]) for one in record.held_out if one[0] == 0]
    rows += [(f"these weights, of step {record.saved[0]:,}", record.saved[1:])] if record.saved else []
    return "\n".join(f"| {name} | {_told(*found)} |" for name, found in rows if found is not None)


def _told(loss: float, stderr: float | None) -> str:
    return f"{loss:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}")


def _chosen(record: TuningRecord) -> str:
    if not record.recipe.get("patience"):
        return ""
    return "\nThese weights were chosen among the checkpoints by this very loss, which flatters them a little.\n"
