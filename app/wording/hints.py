"""The sentences under big numbers: what the number is."""

from app import text
from app.wording.form import Wording


def _hint(card: tuple[str, str]) -> str:
    return card[1]


HINTS: dict[str, Wording] = {
    _hint(text.QUANTITIES["KV cache"]): Wording(
        newcomer=(
            "Memory for what the readers wrote down of all earlier words. A follower needs no labels: it keeps "
            "notes only."
        ),
        researcher=(
            "Bytes of K and V over all layers for every earlier position in the window. Followers store V only, so "
            "at most half can be saved."
        ),
    ),
    _hint(text.QUANTITIES["attention-weight FLOPs"]): Wording(
        newcomer="The work of marking: deciding how much each word matters for another.",
        researcher=(
            "W_Q and W_K projections, QKᵀ and softmax (counted with a constant for each weight): what a follower omits."
        ),
    ),
    _hint(text.QUANTITIES["total FLOPs"]): Wording(
        newcomer="All the work of reading what is there and writing on up to the length chosen.",
        researcher=(
            "Projections, attention, MLP and head over prefill and decoding up to the context; no norms, no rotary "
            "embedding, no sampling."
        ),
    ),
    _hint(text.QUANTITIES["projection parameters"]): Wording(
        newcomer=(
            "What the model has learned about where to look and what to note. A follower needs the second half only."
        ),
        researcher=(
            "Parameters of W_Q, W_K, W_V and W_O. A follower has no W_Q and W_K; a view of a dense model keeps them "
            "in memory all the same."
        ),
    ),
    _hint(text.SPEED_CARDS["step"]): Wording(
        newcomer="One more word for every text that is written at the same time.",
        researcher="One decode step of the whole batch, roofline bound.",
    ),
    _hint(text.SPEED_CARDS["tokens"]): Wording(
        newcomer="Words and pieces of words, all texts together.",
        researcher="Throughput of the batch: batch size over the time of a step.",
    ),
    _hint(text.SPEED_CARDS["memory"]): Wording(
        newcomer="The model, what its readers wrote down, and the marks that a leader leaves for its followers.",
        researcher=(
            "Parameters under the plan, K and V, and the softmax outputs of leaders that have followers to come; no "
            "activations, no work space."
        ),
    ),
    _hint(text.SPEED_CARDS["batch"]): Wording(
        newcomer=(
            "How many texts of this length can be written at once; a tenth of the memory is kept free, so nine "
            "tenths count."
        ),
        researcher=(
            "Most sequences of this context that fit into nine tenths of device memory; paging and fragmentation "
            "are ignored."
        ),
    ),
    _hint(text.HOW_CARDS["flops"]): Wording(
        newcomer="Additions and multiplications for one more word, the choice among all words included.",
        researcher=(
            "Matmuls and softmax of one decode step at batch one, vocabulary head included; norms and rotary "
            "embedding are not."
        ),
    ),
    _hint(text.HOW_CARDS["moved"]): Wording(
        newcomer=(
            "How much memory has to hand over for it: mostly what the model has learned, then what it wrote down."
        ),
        researcher=(
            "Least traffic of one decode step: parameters, K and V read, new K and V written, softmax outputs "
            "handed from leaders to followers."
        ),
    ),
    _hint(text.HOW_CARDS["cache"]): Wording(
        newcomer="Labels and notes of all words so far; followers keep notes only.",
        researcher="K and V of all positions in the window after the step; followers hold V only.",
    ),
}
