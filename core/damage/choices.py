"""What can be chosen of searches, head maps and similarity, and the usual sizes: apart from what computes them; no torch."""

CHUNK_TOKENS = 256
CALIBRATION_TOKENS, HELD_OUT_TOKENS = 8192, 8192
BATCH_TOKENS = 1024
SIMILARITY_CHUNKS = 8
MOST_PLANS = 600
"""Measured for one curve of damage against saving, at most."""

SIMILARITY_METHODS: dict[str, str] = {
    "head_mean": "Average the heads of each layer into one map, then compare the two maps (cosine similarity).",
    "per_head": "Compare head 0 with head 0, head 1 with head 1, and so on, then average: what direct sharing does.",
    "best_head": "Give each head of the later layer the most similar head of the earlier layer: what a head map can do.",
}
"""The ways to compare two layers, each with one line that explains it."""
SEARCH_METHODS: dict[str, str] = {
    "spans": "Measure every span, add up the damages of spans to foretell plans, and measure the best of each size.",
    "greedy": "Add the follower that does the least damage, again and again (with a beam: to each of the best plans).",
}
"""The ways to search, each with one line that explains it."""
HEAD_MAP_METHODS: dict[str, str] = {
    "identity": "Head n reads the leader's head n: direct sharing.",
    "most_similar": "Each head reads the leader head whose attention is most like its own; several may read the same.",
    "one_to_one": "As most_similar, but every leader head is read once (the assignment of the highest total likeness).",
    "output": "Each head reads the leader head that changes least what it adds to its layer's output.",
    "damage": "Start from the least harmful of the four, then keep every change of one head that lowers the damage.",
}
"""The ways to choose a head map, each with one line that explains it."""
