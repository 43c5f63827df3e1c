"""The view How it works."""

from app import text
from app.wording.form import Wording

_FORMULAS: dict[str, Wording] = {
    "attention": Wording(
        newcomer="How much each word is marked, and what is then noted from the marked ones.",
        researcher=(
            "For one head and one layer; the mask M keeps later positions and those outside a window out, and query "
            "heads of one group read the same K and V."
        ),
    ),
    "sharing": Wording(
        newcomer="A follower <i>f</i> takes over the marks of its leader <i>ℓ</i>, and takes notes of its own.",
        researcher=(
            "Follower <i>f</i> applies A<sub>ℓ</sub> of its leader to its own V<sub>f</sub>, whatever its residual "
            "stream would have asked for: exact for equal distributions, else an approximation without a bound."
        ),
    ),
    "heads": Wording(
        newcomer="Highlighter <i>h</i> of the follower takes over from highlighter <i>m(h)</i> of the leader.",
        researcher=(
            "Query head <i>h</i> reads distribution <i>m(h)</i>; <i>m</i> is any map, not only a permutation, and "
            "may leave the key-value group."
        ),
    ),
    "cache": Wording(
        newcomer=(
            "A label and a note for every word from every reader that marks; a note alone from every follower; nothing from "
            "readers that do not look back, or look into another's labels and notes."
        ),
        researcher=(
            "B sequences, b bytes a value, H<sub>kv</sub> key-value heads of size d; T<sub>l</sub> positions in the "
            "window of layer l. Layers under skip and kv hold nothing, under share and keys V alone."
        ),
    ),
    "saved": Wording(
        newcomer="The work of marking, counted in single sums: a multiplication and an addition are two operations.",
        researcher=(
            "D is the hidden size, H the number of query heads; each multiply-add is two operations, softmax a "
            "constant number for each weight."
        ),
    ),
}
_MECHANISMS: dict[str, Wording] = {
    "share": Wording(
        newcomer=(
            "The leader has marked which words matter. Its followers take the marks over as they are, and weigh notes of "
            "their own by them."
        ),
        researcher="A<sub>f</sub> = A<sub>ℓ</sub>, applied to V<sub>f</sub>: Shared Attention, with or without a head map.",
    ),
    "skip": Wording(
        newcomer=(
            "The reader does not look back at other words at all; it only thinks about what it was handed. This is the test: "
            "taking over marks is worth something only where it harms less than not looking."
        ),
        researcher=(
            "The attention branch adds zero to the residual stream. The control that every other mechanism has to beat at equal "
            "saving."
        ),
    ),
    "kv": Wording(
        newcomer=(
            "The reader asks questions of its own, and looks them up in the labels and notes that the leader has written "
            "down. Some models learn to read that way from the start."
        ),
        researcher=(
            "Own Q<sub>f</sub> against K<sub>ℓ</sub>, V<sub>ℓ</sub> as they stand in the leader's cache, after norms and "
            "rotation: cross-layer attention, here without training."
        ),
    ),
    "keys": Wording(
        newcomer=(
            "The reader compares questions of its own with the leader's labels, but takes notes of its own. It saves as much "
            "room as taking over marks, and still marks by itself."
        ),
        researcher=(
            "Own Q<sub>f</sub> and V<sub>f</sub> against K<sub>ℓ</sub>: the cache of sharing without its reuse of the softmax."
        ),
    ),
    "topk": Wording(
        newcomer=(
            "The reader does everything by itself, but looks only at those N words that its leader marked most. All others it "
            "does not open."
        ),
        researcher=(
            "Own attention, softmax over the N positions with the largest sum over the leader's heads of its weights; ties to "
            "the earlier position; the cache stays whole."
        ),
    ),
}
_ENLARGED: dict[str, Wording] = {
    "skip": Wording(
        newcomer=(
            "From top to bottom: nothing of looking back is left. The reader thinks about what it was handed, and learns "
            "nothing here from other words."
        ),
        researcher="The residual stream enters the MLP unchanged; no parameters, FLOPs or cache of attention remain.",
    ),
    "kv": Wording(
        newcomer=(
            "The right reader asks a question of its own, and looks it up in the labels and notes that the left one has "
            "written down. It writes down nothing itself."
        ),
        researcher="q of the right layer against K and V of the left one; W_K and W_V and the cache of the right one are gone.",
    ),
    "keys": Wording(
        newcomer=(
            "The right reader asks a question of its own and compares it with the labels of the left one. The notes that it "
            "then takes are its own."
        ),
        researcher="q and V of the right layer against K of the left one; W_K and cached keys of the right one are gone.",
    ),
    "topk": Wording(
        newcomer=(
            "The left reader has looked at all words. The right one, with everything of its own, looks at those alone that "
            "the left one marked most."
        ),
        researcher=(
            "Positions are chosen by the left layer's weights, summed over heads; the right layer's softmax is over these alone."
        ),
    ),
}
_LIMITS: tuple[Wording, ...] = (
    Wording(
        newcomer=(
            "<b>Notes.</b> Every follower still takes, keeps and reads notes of its own; only its labels go. So taking "
            "over marks alone never saves more than half of what is kept."
        ),
        researcher=(
            "<b>Values.</b> V is computed, cached and read in every layer: the saved share of the cache is half the "
            "share of followers, so no more than half of the cache."
        ),
    ),
    Wording(
        newcomer=(
            "<b>The rest of the reading.</b> After marking, every reader thinks about what was marked, and that "
            "goes on as before. While the text is short, thinking is most of the work, and sharing hardly shows."
        ),
        researcher=(
            "<b>MLP and W<sub>O</sub>.</b> They run in every layer. At short context their FLOPs and bytes dominate "
            "a decode step, and the attention part is small beside them."
        ),
    ),
    Wording(
        newcomer=(
            "<b>Reading what is there.</b> All its words go through at once, and the marks are used and forgotten "
            "in one quick motion. Followers have to make them again, and save little."
        ),
        researcher=(
            "<b>Prefill.</b> Fused kernels do not materialise softmax(QKᵀ/√d). Followers recompute it from the "
            "leader's Q and K and save two projections, none of the quadratic term."
        ),
    ),
    Wording(
        newcomer=(
            "<b>Handing over.</b> The leader has to write its marks down, and followers have to read them. Usually "
            "nobody does that. The amounts above include it."
        ),
        researcher=(
            "<b>Traffic of A.</b> Leaders write H × T values, each follower reads them; a fused kernel keeps them on chip. "
            "Beside the keys that a follower saves, H<sub>kv</sub> × d × T values, it is little, but not nothing. The "
            "bytes above count it."
        ),
    ),
    Wording(
        newcomer=(
            "<b>What was learned.</b> The two models on this page share what they have learned, so what followers "
            "do not need stays in memory, unread. Only a model that is saved with its plan is smaller."
        ),
        researcher=(
            "<b>Parameters.</b> A view shares its tensors with the dense model: W<sub>Q</sub> and W<sub>K</sub> of "
            "followers stay allocated, unread. Only a saved or tuned checkpoint is smaller."
        ),
    ),
    Wording(
        newcomer=(
            "<b>Kinds of readers.</b> Some look at the last few words only, others at everything. Marks fit only "
            "between readers of one kind."
        ),
        researcher=(
            "<b>Kinds of layers.</b> Distributions over different supports (sliding and full attention) are not "
            "exchangeable: groups are within a kind."
        ),
    ),
    Wording(
        newcomer=(
            "<b>The text.</b> With sharing it is another model. Whether it still writes good sense cannot be seen "
            "here: it has to be tried out."
        ),
        researcher=(
            "<b>Quality.</b> The plan changes the function that the model computes. Nothing here bounds the loss: "
            "damage and benchmark scores have to be measured."
        ),
    ),
    Wording(
        newcomer=(
            "<b>The sums.</b> These numbers come from sizes alone. A real machine also loses time with starting and "
            "tidying up, so it takes longer."
        ),
        researcher=(
            "<b>Model of cost.</b> Matmuls, softmax and least traffic only. Launches, norms, rotary embedding and "
            "sampling are not in it, so a real step takes longer."
        ),
    ),
)
HOW: dict[str, Wording] = {
    text.HOW_LEAD: Wording(
        newcomer=(
            "This is <b>one step</b> of the model of this page with the choice made above: it has read all words "
            "so far and writes one more. Every reader is here: what it has, what it does, what it writes down for "
            "later, and what followers take over from their leader. All sizes are those of this very model."
        ),
        researcher=(
            "<b>One decode step</b> at batch one, through this model under its plan, execution by reuse: modules, "
            "tensor shapes, cache and hand-over of every layer, with closed-form FLOPs and least memory traffic."
        ),
    ),
    text.HOW_DENSE: Wording(
        newcomer="Nobody takes over anything yet: choose some readers above, and the drawing follows.",
        researcher="The plan is dense: no groups. Choose layers above, and the drawing follows.",
    ),
    text.HOW_SHARE: Wording(
        newcomer=(
            "Of all the work in this step without sharing, {share} is marking. Sharing can take away no more than "
            "that, and only in followers: with the present choice {saved}."
        ),
        researcher=(
            "W_Q, W_K, QKᵀ and softmax are {share} of the dense step's FLOPs, the ceiling of what sharing can "
            "remove; under this plan it removes {saved}."
        ),
    ),
    text.HOW_SHARE_PARTS: Wording(
        newcomer=(
            "Of all the work in this step without sharing, {share} is marking. Taking over marks can save no more than that; "
            "readers that do not look back at all save more. With the present choice {saved} is saved."
        ),
        researcher=(
            "W_Q, W_K, QKᵀ and softmax are {share} of the dense step's FLOPs, the ceiling of sharing; skip drops W_V, W_O and "
            "AV too. Under this plan {saved} is removed."
        ),
    ),
    text.HOW_MECHANISMS_LEAD: Wording(
        newcomer=(
            "A choice can say five things of a reader. The word before its number is how it is written, for example "
            "<b>26-29, skip 5 7, topk64 10-12</b>; without a word it takes over marks, which is what this page is about."
        ),
        researcher=(
            "Five mechanisms, mixed freely within a plan, each layer in one group only: <b>26-29, skip 5 7, kv 20-22, topk64 "
            "10-12</b>. A group without a word shares attention weights (SA)."
        ),
    ),
    **{text.HOW_MECHANISMS[name][1]: wording for name, wording in _MECHANISMS.items()},
    **{text.HOW_PARTS_ENLARGED[name][1]: wording for name, wording in _ENLARGED.items()},
    text.HOW_LAYERS_LEAD: Wording(
        newcomer=(
            "Readers that are alike stand in one row. Solid boxes are there and used; dashed ones a reader of the "
            "choice does without. The line on the left carries what followers take over from their leader. The amounts are "
            "those of one reader."
        ),
        researcher=(
            "Rows are runs of layers with equal role, window and MLP; a pattern that repeats is drawn once. Dashed: "
            "absent under the plan. The line on the left is the hand-over from a leader. FLOPs and bytes are of one layer."
        ),
    ),
    text.HOW_PAIR_LEAD: Wording(
        newcomer=(
            "Two readers from top to bottom. The leader makes three things of the new word: a question (Q), a label "
            "(K) and a note (V). It compares its question with all labels: these are its marks. The follower makes "
            "a note only, and weighs its notes by the leader's marks. Numbers with a × between them are sizes."
        ),
        researcher=(
            "Tensor shapes of the new position at batch one. The leader computes q, k, v and A; the follower "
            "computes v alone and applies A of its leader, so its residual stream has no say in where it looks."
        ),
    ),
    text.HOW_HEADS_LEAD: Wording(
        newcomer=(
            "A highlighter of a follower need not take over from the leader's highlighter of the same number. Lines "
            "go from the leader's on top to the follower's below."
        ),
        researcher=(
            "Follower head h reads leader head m(h), chosen on calibration text. Lines go from the leader's heads "
            "on top to the follower's heads below; several may read one."
        ),
    ),
    **{text.HOW_FORMULAS[name][1]: wording for name, wording in _FORMULAS.items()},
    **dict(zip(text.HOW_LIMITS, _LIMITS, strict=True)),
    text.LEVEL_HINT: Wording(
        newcomer="Choose how things are explained: in everyday words, or in those of the field.",
        researcher="Register of the explaining texts; numbers and labels are the same at all levels.",
    ),
}
