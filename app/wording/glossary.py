"""The words of the page."""

from app import text
from app.wording.form import Wording

_MEANINGS: dict[str, Wording] = {
    "token": Wording(
        newcomer="A word or a piece of a word. The model reads and writes piece by piece.",
        researcher="An entry of the tokenizer's vocabulary; the unit of context, cache and loss.",
    ),
    "layer": Wording(
        newcomer=(
            "One of the readers that the model is made of; each goes over the text after the one before. They are "
            "numbered from 0."
        ),
        researcher=(
            "A decoder block: attention and MLP, each with its residual connection. Layers are numbered from 0."
        ),
    ),
    "attention weights": Wording(
        newcomer="The marks of a reader: how much each word takes from each word before it.",
        researcher=(
            "softmax(QKᵀ/√d + mask), a distribution over the prefix for every query position and head. Not the "
            "weights of W_Q and W_K."
        ),
    ),
    "head": Wording(
        newcomer="Each reader has several highlighters, and marks with each in another way.",
        researcher=(
            "One of the parallel attention functions of a layer; with grouped queries several query heads read one "
            "key-value head."
        ),
    ),
    "dense": Wording(
        newcomer="The model as it is: every reader marks for itself. Everything is compared with it.",
        researcher=(
            "The model without a sharing plan: every layer computes its own attention distribution. It has nothing "
            "to do with sparsity of weights. The baseline of every comparison."
        ),
    ),
    "leader": Wording(
        newcomer="A reader whose marks others take over.",
        researcher="A layer whose softmax output other layers apply to their values.",
    ),
    "follower": Wording(
        newcomer="A reader that takes over its leader's marks. It does not mark, but it still takes notes of its own.",
        researcher=(
            "A layer that applies its leader's softmax output to its own V. It has no W_Q, W_K, QKᵀ, softmax or "
            "cached K; V, W_O and MLP remain."
        ),
    ),
    "span": Wording(
        newcomer=(
            "A leader and its followers in one go, written first-last: in 17-22 reader 17 marks and 18–22 take over."
        ),
        researcher="A group without gaps, leader first: in 17-22 layer 17 computes and 18–22 reuse.",
    ),
    "skip, kv, keys, topk": Wording(
        newcomer=(
            "What readers can do instead of taking over marks: not look back at all, look into another reader's labels and "
            "notes, into its labels alone, or only where it marked most."
        ),
        researcher=(
            "Ablated attention, cross-layer reuse of K and V, of K alone, and own attention on the leader's top positions: the "
            "controls of sharing."
        ),
    ),
    "mixture": Wording(
        newcomer="A choice in which some readers do one of these and some another, each what harms it least.",
        researcher="A plan over several mechanisms, searched jointly at one budget.",
    ),
    "sharing plan": Wording(
        newcomer=(
            "Who takes over from whom, for example 17-22,5-6. The paper names followers only: its SA 18~22 is our "
            "17-22. Readers of different kinds cannot share, so some are skipped: in 2-4-6 reader 2 marks, 4 and 6 "
            "take over; 2_4 is two alone."
        ),
        researcher=(
            "A partition into leaders, followers and dense layers, for example 17-22,5-6; the paper lists "
            "followers, its SA 18~22 is our 17-22. With alternating windows a group lists layers of one kind: in "
            "2-4-6 layer 2 computes, 4 and 6 reuse; 2_4 is two alone."
        ),
    ),
    "direct, head-mapped, tuned": Wording(
        newcomer=(
            "Three ways to share: as it is; each highlighter of a follower takes over from the most similar one of "
            "its leader; the model is trained further, so that it learns to cope."
        ),
        researcher=(
            "Three ways to share: checkpoint untouched; follower head h reads leader head m(h), chosen on "
            "calibration text; fine-tuning with the plan in place."
        ),
    ),
    "KV cache": Wording(
        newcomer=(
            "What the readers wrote down of all earlier words, a label and a note each, kept while text is written, "
            "so that nobody has to read it all again."
        ),
        researcher=(
            "K and V of all earlier positions in the window, one pair for each layer and key-value head; followers "
            "keep V only."
        ),
    ),
    "prefill and decode": Wording(
        newcomer="Reading what is there, all at once; then writing, one word or piece at a time.",
        researcher=(
            "The forward call over the prompt, parallel in its positions; then one call for each token, each a "
            "matrix-vector product at batch one."
        ),
    ),
    "bandwidth-bound, compute-bound": Wording(
        newcomer=(
            "What a chip waits for: its memory, or its own arithmetic. While it writes, it mostly waits for memory."
        ),
        researcher=(
            "Left or right of the ridge of the roofline: limited by bytes over bandwidth, or by FLOPs over matmul "
            "rate. Decoding mostly is bandwidth-bound."
        ),
    ),
    "FLOPs": Wording(
        newcomer="Single sums done by the chip: additions and multiplications. One of each together counts as two.",
        researcher=(
            "Floating-point operations, not per second. A multiply-add counts as two; attention counts the full "
            "rectangle, not the causal half."
        ),
    ),
    "accuracy": Wording(
        newcomer="How many answers are right, or another mark that the test gives.",
        researcher="A metric of lm-evaluation-harness, with its standard error over documents.",
    ),
    "damage": Wording(
        newcomer="How much worse a model guesses the next word of the same text when readers share.",
        researcher=(
            "Rise of mean cross-entropy over the dense model on the same tokens, in nats per token; its exponential "
            "is the ratio of perplexities."
        ),
    ),
    "predicted, measured": Wording(
        newcomer=(
            "Predicted numbers are worked out on paper; measured ones come from a stopwatch or from counting on a "
            "machine."
        ),
        researcher=(
            "Predicted: closed forms in model and device sizes. Measured: timing or counting in a stored record "
            "with command and machine. Never mixed in one number."
        ),
    ),
}
GLOSSARY: dict[str, Wording] = {text.GLOSSARY[word]: meaning for word, meaning in _MEANINGS.items()}
