"""First paragraphs: what a part of the page shows, and how to read it."""

from app import text
from app.wording.form import Wording

LEADS: dict[str, Wording] = {
    text.TAGLINE: Wording(
        newcomer=(
            "A language model is a program that writes text, and to do so it goes over the text many times. Picture "
            "its layers as a row of readers. Each one marks, with a highlighter, which earlier words matter for the "
            "next word. With <b>Shared Attention</b> one reader does the marking, and the next ones simply take "
            "over the marks. That saves memory and work, and it changes what the model writes."
        ),
        researcher=(
            "Each decoder layer computes its own attention distributions softmax(QKᵀ/√d) over the prefix, its "
            "<b>attention weights</b>. <b>Shared Attention</b> lets followers apply their leader's distributions to "
            "their own values: no query and key projections, no QKᵀ, no softmax, no keys in the cache. That "
            "perturbs the model; by how much is an empirical question."
        ),
    ),
    text.INVITATION: Wording(
        newcomer=(
            "Pick a model, pick the readers that take over marks, and see what it writes, what that saves and "
            "what gets worse."
        ),
        researcher=(
            "Choose a checkpoint and a sharing plan; generation, predicted and measured cost, damage and benchmark "
            "scores follow."
        ),
    ),
    text.GENERATE_LEAD: Wording(
        newcomer=(
            "The same model goes on with the same text twice, a word or a piece of a word at a time. On the left "
            "every reader (layer) marks for itself (<b class='dense'>dense</b>); on the right some take over the "
            "marks of another (<b class='shared'>shared</b>). Watch where the two texts part. Nothing else differs, "
            "unless the model was trained further. On the left any other choice can stand instead."
        ),
        researcher=(
            "Both models decode from one prompt with one seed, and share one set of weights: on the left the <b "
            "class='dense'>dense</b> one, on the right a view in which followers reuse their leader's "
            "softmax(QKᵀ/√d) (<b class='shared'>shared</b>). After the first differing token the prefixes differ, "
            "so what comes later is no paired comparison. A tuned model has weights of its own. Any plan can take the dense "
            "model's place on the left."
        ),
    ),
    text.SIMILARITY_LEAD: Wording(
        newcomer=(
            "Do two readers (layers) mark the same words? Each cell compares two of them on the text below: "
            "<b>1</b> means the same marks, <b>0</b> quite different ones. Every pair stands there once. Boxes show "
            "who takes over from whom, with the value in hundredths. <b>Click a cell</b> to see where the two look, "
            "word by word."
        ),
        researcher=(
            "Each cell is the similarity of two layers' attention distributions in the <b class='dense'>dense</b> "
            "model on the text below: <b>1</b> for equal, <b>0</b> for unlike ones, one triangle of a symmetric "
            "matrix. It says nothing of values or of how an error propagates. Boxes mark leader and follower of the "
            "plan, values in hundredths. <b>Click a cell</b> for the maps themselves."
        ),
    ),
    text.EMERGENCE_LEAD: Wording(
        newcomer=(
            "Before it has learnt anything, each reader marks words by chance. Here one model was watched while it "
            "learnt, always on the same text. Move the slider and see which readers mark alike; the colours mean the same "
            "at every moment. Readers that mark everything evenly are alike too, without having learnt anything."
        ),
        researcher=(
            "Isotropy arising or not: the same similarity at several steps of one dense training run, from initialisation to "
            "the end, on one fixed held-out text. Colours span all pairs at all steps, so that triangles can be "
            "compared. At initialisation attention is nearly uniform over the prefix, so similarity can start high. One run "
            "with one seed; the spacing of the steps is geometric."
        ),
    ),
    text.MAPS_LEAD: Wording(
        newcomer=(
            "<b>Point at a word</b>: arcs lead to the words that it looks at, the thicker the more, above in the "
            "leader, below in the follower. The pictures show all words at once: each row is a word that looks, "
            "each column a word that is looked at. If marks are taken over, the left picture takes the place of the "
            "second. The third, their difference, is what gets lost. The first word collects marks from nearly "
            "everybody and may be beyond the scale."
        ),
        researcher=(
            "<b>Point at a token</b>: arcs are the weights of its row, above in the leader, below in the follower. "
            "Rows are query positions and sum to one, columns key positions. Under the plan the left map replaces "
            "the second, head by head or through the head map; the third is their difference, the perturbation at "
            "this layer. The first token is an attention sink in nearly every layer and may be beyond the scale."
        ),
    ),
    text.MECHANISMS_LEAD: Wording(
        newcomer=(
            "Is taking over marks better than not marking at all? Some readers (layers) can take over marks (<b "
            "class='shared'>share</b>), but they can also do without looking back (<b>skip</b>), or look into another reader's "
            "labels and notes. Each line is one of these alone, the thick one any mixture: how much harm the best choice found "
            "does that saves as much. Lower is better, and where skipping lies lower than sharing, sharing is not worth it. "
            "<b>Click a point</b> to try it on the whole page."
        ),
        researcher=(
            "The control that decides whether sharing earns its place: at equal savings, held-out damage of the best plans found "
            "by <b class='shared'>share</b>, <b>skip</b>, kv, keys and topk alone and by mixtures, ± one standard error over "
            "chunks. Selection on the calibration text; search is heuristic, so each line is an upper bound of what its "
            "mechanism costs. <b>Click a point</b> to make its plan, head map included, the page's."
        ),
    ),
    text.MECHANISMS_LAYERS_LEAD: Wording(
        newcomer=(
            "One reader alone is changed, everything else stays. The bar says what does least harm there for what it saves, and "
            "its height how much harm for each percent: leaving a reader out saves twice what copying its neighbour does. Point at "
            "a bar, or open the table, for the others."
        ),
        researcher=(
            "Single-layer interventions on the calibration text: the least damage per percent of the chosen budget that is saved. "
            "Single damages do not add up; the table has all mechanisms with damage, standard error and saving."
        ),
    ),
    text.MECHANISMS_SCORES_LEAD: Wording(
        newcomer=(
            "Guessing the next word is not everything: the same choices, asked the questions of a task. The line across is the "
            "untouched model."
        ),
        researcher=(
            "Damage in nats does not foretell benchmarks, retrieval least of all: scores of the winning plans where records of "
            "them exist, ± one standard error; across, the dense model."
        ),
    ),
    text.WHERE_LEAD: Wording(
        newcomer=(
            "Which readers (layers) can do without marks of their own? Each cell is one choice: the column is the "
            "reader who marks, the row how many after it take its marks over. The colour is the measured "
            "<b>damage</b>: how much worse the model guesses the next word of a test text (less is better, 0 is the "
            "untouched model). Colours go by rank, so that neighbours can be told apart: their values stand above "
            "the colours. <b>Click a cell</b> to try it on the whole page."
        ),
        researcher=(
            "Each cell is one span, direct sharing: the column is the leader, the row the number of followers. The "
            "colour is the rank of its <b>damage</b>, the rise of mean cross-entropy above the dense model on "
            "calibration text (nats per token; 0 is dense); values stand above the colours. Damages of single spans "
            "do not add up, and nats do not foretell retrieval. <b>Click a cell</b> to make it the plan of the page."
        ),
    ),
    text.SUGGEST_LEAD: Wording(
        newcomer=(
            "Say what you want, and get the choice that was measured to harm least. It is picked on one half of the "
            "test text and judged on the other half, like an exam with new questions: that result counts."
        ),
        researcher=(
            "State a budget; the plan of least measured damage among those that a search has run is returned. "
            "Selection is on one half of the calibration text, the estimate on the other half, so it is free of "
            "selection bias but holds for text of that kind only."
        ),
    ),
    text.GUIDE_LEAD: Wording(
        newcomer=(
            "If two readers (layers) mark alike, does it do no harm when one takes over from the other? Each point is such a "
            "pair. If it were so, the points would fall from left to right. The marks are compared on the first "
            "eight pieces of the text."
        ),
        researcher=(
            "Each point is a pair of layers: similarity of their attention against the damage of sharing between "
            "the two alone. A useful proxy would show a strong negative rank correlation. Similarity is taken from "
            "the first eight pieces of the calibration text."
        ),
    ),
    text.SAVINGS_LEAD: Wording(
        newcomer=(
            "What is saved, worked out from the model's sizes: exact counting, no stopwatch. Text that is already "
            "there is read in one go, and little is saved then; most is saved while new text is written word by "
            "word."
        ),
        researcher=(
            "Closed-form counts from the model's dimensions (they equal instrumented counting), no timings: cache "
            "bytes, FLOPs, parameters. In prefill a fused kernel materialises no attention weights, so followers "
            "recompute them from the leader's Q and K and save their two projections only; the full saving is in "
            "decoding."
        ),
    ),
    text.SPEED_LEAD: Wording(
        newcomer=(
            "How long one more word takes for every text that is written at the same time: one <b>step</b>. The "
            "chip has to fetch the whole model and all its notes for it, and fetching mostly takes longer than "
            "working. So a <b>predicted</b> step is the amount to fetch, divided by how fast the memory delivers: "
            "nothing can be faster. <b>Measured</b> steps were timed on the machine named."
        ),
        researcher=(
            "Time of one decode <b>step</b> of the whole batch. <b>Predicted</b>: a roofline, the longer of bytes "
            "moved over memory bandwidth and FLOPs over matmul rate, for weights and for attention in turn; a lower "
            "bound without launches, norms and sampling. <b>Measured</b>: medians of records on the machine named; "
            "the two are never mixed in one number."
        ),
    ),
    text.FITS_LEAD: Wording(
        newcomer=(
            "Where the model would fit, with the choices above; every number is predicted. A dash: it does not "
            "fit, or no price is known."
        ),
        researcher=(
            "Roofline and capacity for model, plan, batch, context and number format chosen above, every number "
            "predicted; weights, cache and what leaders leave for followers are counted, work space is not. A dash: "
            "does not fit, or no public price."
        ),
    ),
    text.PEERS_LEAD: Wording(
        newcomer=(
            "Other programs can run this very model too. Here all of them write on from one text, on one machine, taking "
            "turns: a longer bar is faster. The thin line at its end shows where half of the measurements lie. This project "
            "runs twice, for two timings of one thing are never quite equal: bars that differ by less tell nothing."
        ),
        researcher=(
            "Greedy decoding of one model by several programs with equal weights, prompt and threads, interleaved in "
            "blocks within one run; medians and quartiles of a step. A second instance of this project's decoder is the "
            "error of the instrument. Every program was fed the model's own greedy tokens, and choices of others are marked."
        ),
    ),
    text.SCORES_LEAD: Wording(
        newcomer=(
            "What gets worse: models with and without sharing answered the same questions. Every point was "
            "measured and is kept as a file in this project; the bars on the points show how far chance alone might "
            "move them. <b>Click</b> a point, a bar or a row: the three go together, and the answers are below."
        ),
        researcher=(
            "Paired evaluation of dense and shared models by lm-evaluation-harness. Every point is a stored record "
            "with command, hashes and single answers; error bars are ± one standard error of the score itself, not "
            "of the paired difference, which the table tests. <b>Click</b> a point, a bar or a row: the three go "
            "together, and the answers are below."
        ),
    ),
    text.CONTEXTS_LEAD: Wording(
        newcomer=(
            "Sharing saves most time where the text is long, so here both are shown for the same length: left what "
            "is still answered right when the fact needed stands somewhere in so much text; right how much faster "
            "the next word comes."
        ),
        researcher=(
            "Time saved grows with context, and so may the harm, so both are shown at equal context: left retrieval "
            "accuracy with the facts at random depth, right the speed-up of a decode step. Contexts at which the "
            "dense model itself is at chance say nothing."
        ),
    ),
    text.CURVES_LEAD: Wording(
        newcomer=(
            "The more is saved, the more is harmed: the best choice of each size that was found, and the best "
            "unbroken row of readers of that size, all judged on text that was not used for choosing. Where single "
            "marks were matched up, the line says so."
        ),
        researcher=(
            "Damage against saving: the best plan of each size along a search path, and the best single span of "
            "that size, all estimated on held-out text. A search is greedy and no guarantee of the optimum. Curves "
            "with head maps are named."
        ),
    ),
    text.WHEN_LEAD: Wording(
        newcomer=(
            "Can a model learn while its readers share marks from early on? Each point is a model that learnt from "
            "nothing, on the same texts in the same order as the others of its seed. Below it stands when sharing "
            "began, or never. The line joins the means over the seeds, with how unsure they are."
        ),
        researcher=(
            "Pre-training from scratch with the plan in place from some step on, or never. Runs of a seed have the same "
            "initial weights, as far as they have them, and the same token order, so differences are paired by seed. "
            "Error bars: standard error of the mean over seeds, not over examples."
        ),
    ),
    text.EVALUATE_LEAD: Wording(
        newcomer=(
            "Measure it yourself: the model without sharing (<b class='dense'>dense</b>) and with the choice of "
            "this page answer the same questions, here and now. The result appears in <b>Scores</b> at once; what "
            "was measured before is not measured again."
        ),
        researcher=(
            "Runs lm-evaluation-harness here, on the <b class='dense'>dense</b> model and on the plan of this page, "
            "with the same documents. Records appear in <b>Scores</b> at once; what is stored for these weights, "
            "plan and task version is not run again."
        ),
    ),
    text.TUNE_LEAD: Wording(
        newcomer=(
            "Let the model practise for a while with sharing switched on, and it gets used to it. Practice alone changes a "
            "model too. So its <b>control</b>, the model without sharing, practises on the same text in the same order, and "
            "what counts is how far the two are apart. Below is the command for the model and the choice of this page."
        ),
        researcher=(
            "Fine-tuning with the plan in place, all weights or LoRA, by cross-entropy on text. Its <b>control</b> is the dense "
            "checkpoint trained on the same tokens in the same order, which takes the effect of the training itself out of "
            "the comparison. Below is the command for the model and plan of this page, on transformers' Trainer."
        ),
    ),
}
