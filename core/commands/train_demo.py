"""Train the bundled demo models: a small Llama, dense and with a sharing plan in place, from public-domain prose.

Both models see the same tokens in the same order. A common trunk takes the first 80% of the steps; from there one
branch goes on dense and one with the plan in place. Every file goes under `--out`; a run that was stopped goes on from
its last checkpoint when the same command is given again, with the same data order.
"""

import itertools
import json
import lzma
import math
import os
import platform
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, set_seed

from core.demo.skills import SKILLS, evaluation_examples, training_examples
from core.plan import SharingPlan
from core.sharing.view import share_attention

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the corpus and the machine."""

    steps: int = 3700
    trunk_share: float = 0.8  # of the steps, before the branches part
    batch_rows: int = 128
    context_tokens: int = 1024
    skill_share: float = 0.25  # of the rows; the others are prose
    skill_examples: int = 2_000_000
    learning_rate: float = 4e-3
    muon_learning_rate: float = 0.02  # for the weight matrices; 0: AdamW for all weights
    warmup_steps: int = 100
    decay_share: float = 0.4  # of the steps, at the end, linear to 0
    weight_decay: float = 0.1
    plan: str = "17-22"
    seed: int = 2407
    layers: int = 24
    width: int = 192
    intermediate: int = 512
    heads: int = 6
    kv_heads: int = 3
    vocabulary: int = 4096

    @property
    def trunk_steps(self) -> int:
        """Steps before the branches part."""
        return round(self.steps * self.trunk_share)

    def rate(self, step: int) -> float:
        """Factor on the learning rates at `step`: linear warm-up, constant, linear decay to 0 at the last step."""
        decay_steps = max(1, round(self.steps * self.decay_share))
        return max(0.0, min((step + 1) / self.warmup_steps, 1.0, (self.steps - step) / decay_steps))

    def config(self) -> LlamaConfig:
        """The architecture: 24 layers of width 192 with the default figures, about 10.5 M parameters."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.width // self.heads,
            max_position_embeddings=self.context_tokens,
            rms_norm_eps=1e-5,
            initializer_range=0.03,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )


def add_arguments(parser) -> None:
    """The arguments of `python -m core train-demo`."""
    parser.add_argument("--corpus", type=Path, required=True, help="folder with prose_train.txt.xz, prose_validation…")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two models, checkpoints and the log")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stop-after", type=float, default=math.inf, metavar="SECONDS", help="checkpoint and leave")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)


def run(args) -> int:
    """Train, or go on training, both models; 0 when they are done, 1 when `--stop-after` came first."""
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    SharingPlan.parse(recipe.plan, recipe.layers)
    for split in ("train", "validation"):
        if not (path := _prose_file(args.corpus, split)).is_file():
            raise ValueError(f"{path} is missing: --corpus needs prose_train.txt.xz and prose_validation.txt.xz.")
    return 0 if Run(recipe, args.corpus, args.out, args.device, args.stop_after).train() else 1


class Run:
    """One training run under `out`: data, trunk, branches, exported models. Every stage is skipped when it is done."""

    def __init__(self, recipe: Recipe, corpus: Path, out: Path, device: str, stop_after_s: float = math.inf):
        self.recipe, self.corpus, self.out, self.device = recipe, corpus, out, device
        self.deadline = time.monotonic() + stop_after_s
        self.work = out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self._check_recipe()

    def train(self) -> bool:
        """Run all stages; False when the time was up first."""
        self.tokenizer = prepare_tokenizer(self.recipe, self.corpus, self.work)
        arrays = prepare_tokens(self.recipe, self.corpus, self.work, self.tokenizer)
        self.data = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        if not self._stage("trunk", None, "", self.recipe.trunk_steps):
            return False
        for name, plan in (("demo", ""), (f"demo-tuned-{self.recipe.plan}", self.recipe.plan)):
            if not (self._stage(name, "trunk", plan, self.recipe.steps) and self._export(name, plan)):
                return False
        return True

    def _check_recipe(self) -> None:
        path, recipe = self.work / "recipe.json", asdict(self.recipe)
        if path.exists() and json.loads(path.read_text()) != recipe:
            raise ValueError(
                f"{self.out} holds a run with another recipe ({path}): give the same options or a new --out."
            )
        _write(path, json.dumps(recipe, indent=2))

    def _stage(self, name: str, parent: str | None, plan: str, last_step: int) -> bool:
        """Train one stage to `last_step` from its own checkpoint, its parent's end, or fresh weights."""
        path = self.work / f"{name}.pt"
        start = path if path.exists() else self.work / f"{parent}.pt"
        set_seed(self.recipe.seed)
        model = self._model(plan)
        optimizers = _optimizers(model, self.recipe)
        step, seconds = 0, 0.0
        if start.exists():
            step, seconds = self._restore(start, model, optimizers, fresh=start == path)
        if step < last_step:
            step, seconds = self._steps(name, model, optimizers, step, last_step, seconds)
            _save(path, {**self._state(model, optimizers), "step": step, "seconds": seconds})
        self.model, self.seconds = model, seconds
        return step == last_step

    def _model(self, plan: str):
        model = AutoModelForCausalLM.from_config(self.recipe.config(), attn_implementation="sdpa").to(self.device)
        if plan:
            model = share_attention(model, plan, execution="recompute")
            model.requires_grad_(True)
        return model

    def _state(self, model, optimizers) -> dict:
        return {"model": model.state_dict(), "optimizers": [_named_state(model, o) for o in optimizers]}

    def _restore(self, path: Path, model, optimizers, fresh: bool) -> tuple[int, float]:
        state = torch.load(path, map_location=self.device, weights_only=True)
        kept = model.state_dict().keys()  # a branch with a plan leaves its followers' query and key weights behind
        model.load_state_dict({name: tensor for name, tensor in state["model"].items() if name in kept})
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            _load_named_state(model, optimizer, saved)
        return state["step"], state["seconds"]

    def _steps(self, name: str, model, optimizers, step: int, last_step: int, seconds: float) -> tuple[int, float]:
        loss_of = _loss_function(model, self.device)
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        log, begin, began_at = self.work / f"{name}.jsonl", time.monotonic(), step
        with tqdm(total=last_step, initial=step, desc=name, mininterval=5, maxinterval=15, unit="step") as bar:
            while step < last_step and time.monotonic() < self.deadline:
                for optimizer, initial in zip(optimizers, rates):
                    for group, rate in zip(optimizer.param_groups, initial):
                        group["lr"] = rate * self.recipe.rate(step)
                loss = loss_of(self._batch(step))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                step += 1
                bar.update()
                if step % 50 == 0 or step == last_step:
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                    elapsed = seconds + time.monotonic() - begin
                    with log.open("a") as file:
                        file.write(json.dumps({"step": step, "loss": loss.item(), "seconds": round(elapsed, 2)}) + "\n")
                if step % 1000 == 0:
                    state = {**self._state(model, optimizers), "step": step}
                    _save(self.work / f"{name}.pt", {**state, "seconds": seconds + time.monotonic() - begin})
        for optimizer, initial in zip(optimizers, rates):
            for group, rate in zip(optimizer.param_groups, initial):
                group["lr"] = rate
        tokens = (step - began_at) * self.recipe.batch_rows * self.recipe.context_tokens
        elapsed = time.monotonic() - begin
        print(f"{name}: step {step} of {last_step}, {tokens / max(elapsed, 1e-9):,.0f} tokens/s", flush=True)
        return step, seconds + elapsed

    def _batch(self, step: int) -> torch.Tensor:
        """Token windows of one step, int64 [rows, context + 1]: a function of the seed and the step alone."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows, window = self.recipe.batch_rows, self.recipe.context_tokens + 1
        skill_rows = round(rows * self.recipe.skill_share)
        windows = []
        for name, count in (("skills", skill_rows), ("prose_train", rows - skill_rows)):
            starts = torch.from_numpy(rng.integers(0, len(self.data[name]) - window, count)).to(self.device)
            windows.append(self.data[name][starts[:, None] + torch.arange(window, device=self.device)])
        return torch.cat(windows).long()

    def _export(self, name: str, plan: str) -> bool:
        """Write the model in bfloat16 as a Hugging Face folder with its scores on held-out data and a model card."""
        folder = self.out / name
        if (folder / "README.md").exists():
            return True
        model = self.model.eval().to(torch.bfloat16)
        model.config.dtype = torch.bfloat16
        model.generation_config.update(do_sample=False)
        model.save_pretrained(folder, max_shard_size="9MB")
        self.tokenizer.save_pretrained(folder)
        scores = prose_scores(model, self.data["prose_validation"], self.tokenizer)
        scores |= skill_scores(model, self.tokenizer)
        print(f"{name}: {scores}", flush=True)
        _write(self.work / f"{name}.scores.json", json.dumps(scores, indent=2))
        _write(folder / "README.md", model_card(name, plan, self.recipe, scores, self.seconds, self.device))
        return True


def _prose_file(corpus: Path, split: str) -> Path:
    return corpus / f"prose_{split}.txt.xz"


def _documents(corpus: Path, split: str) -> list[str]:
    with lzma.open(_prose_file(corpus, split), "rt", encoding="utf-8") as file:
        text = file.read()
    return [document.strip("\n") for document in text.split(f"{END_OF_TEXT}\n") if document.strip()]


def prepare_tokenizer(recipe: Recipe, corpus: Path, work: Path) -> PreTrainedTokenizerFast:
    """Train (once) a byte-level BPE on a tenth of the prose and some skill text; digits are tokens of their own."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer(models.BPE())
        digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=recipe.vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
        )
        documents = _documents(corpus, "train")
        sample = random.Random(recipe.seed).sample(documents, max(1, len(documents) // 10))
        tokenizer.train_from_iterator(itertools.chain(sample, _skill_texts(recipe.seed, 20_000)), trainer)
        end = (END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))  # before every text, as in training
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{END_OF_TEXT} $A", special_tokens=[end])
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=END_OF_TEXT,
            eos_token=END_OF_TEXT,
            pad_token=END_OF_TEXT,
            model_max_length=recipe.context_tokens,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )
        fast.save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def prepare_tokens(recipe: Recipe, corpus: Path, work: Path, tokenizer) -> dict[str, np.ndarray]:
    """Token arrays, int16, `END_OF_TEXT` before every text: prose_train, prose_validation, skills. Made once."""
    makers = {
        "prose_validation": lambda: _documents(corpus, "validation"),
        "prose_train": lambda: _documents(corpus, "train"),
        "skills": lambda: _skill_texts_in_parallel(recipe),
    }
    arrays = {}
    for name, texts in makers.items():
        path = work / f"{name}.npy"
        if not path.exists():
            begin = time.monotonic()
            array = _encode(tokenizer, texts())
            with open(path.with_suffix(".tmp"), "wb") as file:
                np.save(file, array)
            os.replace(path.with_suffix(".tmp"), path)
            print(f"{name}: {len(array):,} tokens in {time.monotonic() - begin:.0f} s", flush=True)
        arrays[name] = np.load(path)
    return arrays


def _encode(tokenizer, texts: list[str], chunk: int = 20_000) -> np.ndarray:
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    parts = []
    for start in range(0, len(texts), chunk):
        encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts[start : start + chunk], add_special_tokens=False)
        ids = itertools.chain.from_iterable((end, *encoding.ids) for encoding in encoded)
        parts.append(np.fromiter(ids, dtype=np.int16))
    return np.concatenate(parts)


def _skill_texts(seed: int, count: int) -> list[str]:
    return [prompt + answer for prompt, answer in itertools.islice(training_examples(seed), count)]


def _skill_texts_in_parallel(recipe: Recipe) -> list[str]:
    shards = 32
    counts = [recipe.skill_examples // shards] * shards
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(itertools.chain.from_iterable(pool.map(_skill_texts, range(1, shards + 1), counts)))


def _optimizers(model, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the weight matrices and AdamW for the embedding and the norms."""
    muon = bool(recipe.muon_learning_rate)
    embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
    matrices = [p for p in model.parameters() if p.ndim == 2 and (not muon or id(p) not in embeddings)]
    others = [p for p in model.parameters() if p.ndim == 1 or (muon and id(p) in embeddings)]
    shared = {"lr": recipe.learning_rate, "betas": (0.9, 0.95), "fused": model.device.type == "cuda"}
    groups = [{"params": others, "weight_decay": 0.0}]
    if not muon:
        return [torch.optim.AdamW([*groups, {"params": matrices, "weight_decay": recipe.weight_decay}], **shared)]
    rate, decay = recipe.muon_learning_rate, recipe.weight_decay
    return [torch.optim.AdamW(groups, **shared), torch.optim.Muon(matrices, lr=rate, weight_decay=decay)]


def _named_state(model, optimizer) -> dict:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: state for parameter, state in optimizer.state.items()}


def _load_named_state(model, optimizer, saved: dict) -> None:
    for name, parameter in model.named_parameters():
        if name in saved and any(parameter is p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter] = saved[name]


def _loss_function(model, device: str):
    """ids [rows, tokens + 1] → mean cross-entropy in nats/token; compiled layer by layer on a GPU."""
    decoder, head = model.base_model, model.lm_head

    def head_loss(hidden, labels):
        return F.cross_entropy(head(hidden).flatten(0, 1).float(), labels.flatten())

    if device.startswith("cuda"):
        torch._dynamo.config.cache_size_limit = 64
        torch.set_float32_matmul_precision("high")
        for layer in decoder.layers:
            layer.compile()
        head_loss = torch.compile(head_loss)

    def loss_of(ids):
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            return head_loss(decoder(input_ids=ids[:, :-1], use_cache=False).last_hidden_state, ids[:, 1:])

    return loss_of


@torch.inference_mode()
def prose_scores(model, tokens: torch.Tensor, tokenizer, context_tokens: int = 1024) -> dict[str, float]:
    """Loss on held-out prose in windows of the full context: nats per token with its standard error, bits per character."""
    count = (len(tokens) - 1) // context_tokens
    losses = []
    for start in range(0, count * context_tokens, 16 * context_tokens):
        stop = min(start + 16 * context_tokens, count * context_tokens)
        ids = tokens[start : stop + 1].long()
        logits = model(ids[:-1].view(-1, context_tokens), use_cache=False).logits
        losses += (
            F.cross_entropy(logits.float().mT, ids[1:].view(-1, context_tokens), reduction="none").mean(1).tolist()
        )
    mean, error = statistics.mean(losses), statistics.stdev(losses) / math.sqrt(len(losses)) if count > 1 else math.nan
    characters = len(tokenizer.decode(tokens[1 : count * context_tokens + 1]))
    bits = mean * count * context_tokens / math.log(2) / characters
    return {"prose": mean, "prose_stderr": error, "prose_tokens": count * context_tokens, "prose_bits_per_char": bits}


@torch.inference_mode()
def skill_scores(model, tokenizer, count: int = 500, seed: int = 1, batch_size: int = 250) -> dict[str, float]:
    """Share of held-out examples of each skill that greedy decoding answers exactly."""
    return {skill: _exact(model, tokenizer, evaluation_examples(skill, count, seed), batch_size) for skill in SKILLS}


def _exact(model, tokenizer, examples, batch_size: int) -> float:
    right = 0
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        inputs = tokenizer([example.prompt for example in batch], return_tensors="pt", padding=True).to(model.device)
        inputs.pop("token_type_ids", None)
        longest = max(len(tokenizer(example.answer).input_ids) for example in batch)
        output = model.generate(**inputs, max_new_tokens=longest, do_sample=False)[:, inputs.input_ids.shape[1] :]
        texts = tokenizer.batch_decode(output, skip_special_tokens=True)
        right += sum(text.startswith(example.answer) for text, example in zip(texts, batch))
    return right / len(examples)


def model_card(name: str, plan: str, recipe: Recipe, scores: dict, seconds: float, device: str) -> str:
    """The README.md of an exported model: data, recipe, machine, scores, licence."""
    machine = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
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

**Machine.** {machine}, torch {torch.__version__}; {seconds:.0f} s of training steps for this model, trunk included.

**Scores on held-out data** (of these bfloat16 weights, measured by the training command on the machine above)

| measure | value |
|---|---|
| prose, nats/token ({scores["prose_tokens"]:,} tokens) | {scores["prose"]:.3f} ± {scores["prose_stderr"]:.3f} |
| prose, bits/character | {scores["prose_bits_per_char"]:.3f} |
{rows}

**Licence.** Apache-2.0. The model knows old novels and four exercises; it is no source of facts, and its prose mirrors
the views of its time.
"""


def _save(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _write(path: Path, text: str) -> None:
    path.with_suffix(".tmp").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".tmp"), path)
