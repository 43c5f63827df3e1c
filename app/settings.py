"""Paths, limits and defaults of the app."""

import os
import tempfile
from pathlib import Path

from core import places, pretrained

ASSETS = places.ASSETS
RESULTS = Path(os.environ.get("SHARED_ATTENTION_RESULTS", places.RESULTS))
# Of evaluations on the page where RESULTS cannot be written or, on a Space, would not last: gone with the server.
SESSION_RESULTS = Path(tempfile.gettempdir()) / f"shared-attention-results-{os.getpid()}"
ON_A_SPACE = "SPACE_ID" in os.environ
KEEPS_RESULTS = not ON_A_SPACE

VERSION = "0.1.0"
DEMO = "demo"
OFFERED_MODEL = pretrained.FIRST
DEFAULT_PLAN = "17-22"  # the span that the bundled tuned model was trained with
DEFAULT_PLANS = {OFFERED_MODEL: "20-21"}  # where another one is a better start

MODELS_IN_MEMORY = 3
VIEWS_PER_MODEL = 8
SIMILARITIES_IN_MEMORY = 64
METERS_IN_MEMORY = 4  # each keeps the sums of every plan that was measured on its text
LAYER_WEIGHTS_IN_MEMORY = 64

MAX_PROMPT_CHARACTERS = 20_000  # of a text in a link
MAX_NEW_TOKENS = 300
DEFAULT_NEW_TOKENS = 64
TEXTS_AT_ONCE = 2  # of visitors and programs: they share one computing thread
TEXTS_WAITING = 24  # visitors who see their place in the line; each keeps a thread of the server
PAUSED_IN_MEMORY = 4  # pairs of texts that wait where they part, with their caches
PROSE_TEMPERATURE = 0.6  # a small model that always takes the likeliest token repeats itself
MAX_SIMILARITY_TOKENS = 512  # attention weights take layers × heads × tokens² values
MAX_MAP_TOKENS = 128  # of a text, of which a window is shown
MAP_WINDOW = 24  # words: a map of more has no room for them on its axes
UPDATES_PER_SECOND = 8
CALIBRATION_TOKENS = (1024, 2048, 4096, 8192)  # what a visitor may choose; the first is quick
SUGGEST_TOKENS = (64, 65_536)  # what a program may ask for: fewer have no four chunks that a layer can look back in
SWEEP_TOKENS = 4_000_000  # of all spans together that a program may ask for: minutes of a small model on two cores
CALIBRATION_CHUNK_TOKENS = 256
CALIBRATION_BATCH_TOKENS = 1024  # cells of the sweep are computed in this many tokens, between which others have turns
SWEEP_UPDATES_PER_SECOND = 3
HEADLINE_BATCH, HEADLINE_CONTEXT = 16, 8192  # what the headline predicts for, cut to the context a model is made for
HEADLINE_DEVICE, HEADLINE_DTYPE = "NVIDIA H200", "bfloat16"
SCORES_CONTEXT = 1024  # tokens, for predicted FLOPs beside scores
ANSWERS_PER_PAGE = 10
ANSWERS_AT_ONCE = 20  # records whose answers are read while a visitor waits; more are read in the background
EVALUATION_UPDATES_PER_SECOND = 4
DEFAULT_EVALUATION_TASKS = ("demo_copy", "demo_prose")
DEFAULT_QUESTIONS = 50
MAX_QUESTIONS = 500  # of each task
EVALUATION_BATCH = 16  # questions at once: between two batches others have their turn


def chosen_model() -> str:
    """The model that whoever started the server chose; empty when nobody did."""
    return os.environ.get("SHARED_ATTENTION_MODEL", "")


def default_model() -> str:
    """The model that is shown first: the chosen one, else the real one that was fetched, else the bundled demo."""
    return chosen_model() or (OFFERED_MODEL if OFFERED_MODEL in pretrained.fetched() else DEMO)


def default_plan(model_name: str) -> str:
    """The plan that a model is shown with first."""
    return DEFAULT_PLANS.get(model_name.rpartition("/")[2], DEFAULT_PLAN)
