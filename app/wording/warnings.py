"""What must not be overlooked, and what is said about the limits of numbers."""

from app import text
from app.wording.form import Wording

WARNINGS: dict[str, Wording] = {
    text.SIMILARITY_WARNING: Wording(
        newcomer=(
            "Alike is not the same as harmless: two readers may mark alike, and still it hurts when one takes over "
            "from the other, or the other way round. Only measuring tells (see Scores)."
        ),
        researcher=(
            "Similarity is no bound on damage: it ignores values, and errors propagate through later layers. Damage "
            "has to be measured (see Scores); it can be small at low similarity and large at high similarity."
        ),
    ),
    text.PREFILL_TRUTH: Wording(
        newcomer=(
            "<b>Reading what is already there hardly gets faster.</b> All its words go through at once, so the chip "
            "is busy with work that everybody still has to do, followers too. The marks are made and used in one "
            "quick motion there and never written down, so followers cannot take them over. They have to make them "
            "again, and save little. Sharing pays while new text is written."
        ),
        researcher=(
            "<b>Prefill hardly gets faster.</b> It is compute-bound in projections and MLPs, which followers run "
            "too. FlashAttention-like kernels never materialise softmax(QKᵀ/√d), so followers recompute it from the "
            "leader's Q and K and save W<sub>Q</sub> and W<sub>K</sub> only, none of the quadratic part. Sharing "
            "pays in decoding."
        ),
    ),
    text.WORSE_ABOUT: Wording(
        newcomer=(
            "Worse than dense: yes, when so large a difference on the same questions can hardly be chance (5%, made "
            "stricter where many tasks were tried); no, when it is nearly certain (95%) that less than one point is "
            "lost (for how well words are guessed: 1%); else cannot tell."
        ),
        researcher=(
            "Worse than dense: yes, by a paired test at level 5%, Holm-corrected over the tasks of the plan that "
            "resolve; no, by non-inferiority: the 95% interval of the paired drop ends below a margin of one point "
            "(for perplexities and bits: 1%); else cannot tell. Plans are not corrected for one another."
        ),
    ),
    text.NOT_FOR_TUNED: Wording(
        newcomer=(
            "This model was trained further with its sharing in place: its followers have forgotten how to mark, "
            "so no other choice can be tried on it. Choose the one that it was made from."
        ),
        researcher=(
            "This checkpoint was tuned with its plan in place and has no W_Q and W_K in its followers, so no other "
            "plan can be evaluated on it. Choose the dense checkpoint that it was made from."
        ),
    ),
    text.AT_CHANCE_DENSE: Wording(
        newcomer=(
            "{models} without sharing does no better than throwing dice here (guessing: {chance:.3f}; two standard "
            "errors, the usual allowance for luck), so these questions cannot show what sharing costs."
        ),
        researcher=(
            "{models} without sharing does not exceed chance here (guessing: {chance:.3f}; two standard errors), so "
            "the task has no power to show a loss. Differences between these scores are noise."
        ),
    ),
    text.SUGGESTED_SURE: Wording(
        newcomer=(
            "Judged on {tokens} words and pieces of words that were not used for choosing. The number after ± says "
            "how far chance may move the result; allow for twice as much with other text of the same kind."
        ),
        researcher=(
            "Estimated on {tokens} held-out tokens; ± is one standard error, over the pieces of the text. Twice "
            "that is a fair range for text of the same distribution, and says nothing about other text."
        ),
    ),
    text.SPEED_WHY: Wording(
        newcomer=(
            "Why: each dense step fetches {weights} of the model once for all texts, and {cache} of notes and "
            "labels. At {bandwidth} per second that takes at least {weights_ms} and {cache_ms}. Sharing leaves out "
            "labels, so it shortens the second part."
        ),
        researcher=(
            "Why: a dense step streams {weights} of parameters once per batch, and {cache} of K and V once per "
            "sequence. At {bandwidth} per second the floor is {weights_ms} plus {cache_ms}. Followers have no K, so "
            "the second term shrinks, by half of their part at most."
        ),
    ),
    text.BOUND["bandwidth"]: Wording(
        newcomer="Here the chip waits for its memory.",
        researcher="Here arithmetic intensity is below the ridge point: bandwidth-bound.",
    ),
    text.BOUND["compute"]: Wording(
        newcomer="Here there is so much to work out at once that fetching is not what takes long.",
        researcher=(
            "Here the matmuls of this batch are above the ridge point: compute-bound, and saved bytes buy little."
        ),
    ),
    text.TUNE_COST: Wording(
        newcomer=(
            "{steps} rounds of practice, each on {rows} pieces of text of at most {row_tokens} words or pieces of words. That "
            "is about {tokens} of them, {flops} of work (predicted: three times reading them), and {memory} of memory "
            "beside what reading takes. What comes out is an ordinary model in a folder."
        ),
        researcher=(
            "{steps} optimizer steps of {rows} rows of at most {row_tokens} tokens: about {tokens} tokens, {flops} "
            "(predicted: forward and backward as three forward passes) and {memory} for weights, gradients and AdamW's "
            "moments in single precision (LoRA: frozen weights alone); activations come on top. Ends in a transformers folder."
        ),
    ),
    text.RECOVERED_ABOUT: Wording(
        newcomer=(
            "Damage is what sharing loses against the model without it. Recovered is the part of it that is no longer "
            "lost after practice, measured against the control on the same questions. The number after ± says how far "
            "chance alone might move it: one standard error."
        ),
        researcher=(
            "The share of the direct loss (dense less direct) that is not left between control and tuned, paired over "
            "documents and averaged over seeds; of perplexities in logarithms. ± is one standard error by the delta method, with the spread over seeds added."
        ),
    ),
}
