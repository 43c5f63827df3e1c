"""What whoever runs the server may set, in one typed place; and below it the page's own constants.

Every field of `Settings` is a flag of `python -m app` and an environment variable: `max_new_tokens` is `--max-new-tokens`
and `SHARED_ATTENTION_MAX_NEW_TOKENS`. A flag wins over the environment. `python -m app --help` lists them all.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from core import places, pretrained

LOCALHOST = "127.0.0.1"

Names = Annotated[tuple[str, ...], NoDecode]
"""Several names, separated by commas."""


class Settings(BaseSettings):
    """Shared Attention Explorer in the browser. Every flag is an environment variable too: --max-new-tokens is
    SHARED_ATTENTION_MAX_NEW_TOKENS."""

    model_config = SettingsConfigDict(
        env_prefix="SHARED_ATTENTION_",
        env_ignore_empty=True,
        cli_prog_name="python -m app",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_enforce_required=False,
        validate_assignment=True,
        extra="ignore",
    )

    # Where it listens
    host: str = Field(LOCALHOST, description="address to listen on (0.0.0.0 or ::: all)")
    port: int = Field(7860, description="port to listen on")
    hosts: Names = Field(
        (),
        description="names by which browsers may call the server, such as sharing.example.org; the machine's own and, "
        "on a Space, the Space's are known",
    )
    login: SecretStr = Field(
        SecretStr(""), description="name:password that visitors have to give; several separated by commas"
    )
    open: bool = Field(False, description="open the page in the browser, if there is one")
    mcp: bool = Field(False, description="offer the endpoints as MCP tools too, at /gradio_api/mcp/ (docs/api.md)")
    log: Literal["text", "json"] = Field(
        "text", description="how the log is written: for people, or a JSON object a line"
    )
    metrics: bool = Field(True, description="answer /metrics, in the format of Prometheus")

    # What may be done with it
    model: str = Field(
        "",
        description="the model shown first: a bundled or fetched name, a hub id, a local folder or a GGUF file; empty: "
        "the real one that was fetched, else the demo",
    )
    public: bool = Field(
        "SPACE_ID" in os.environ,
        description="for strangers: listed models only, and what they measure is theirs alone; on by default on a Space",
    )
    models: Names = Field(
        (), description="models that public mode lists besides the bundled ones, the offered one and --model"
    )
    results: Path = Field(places.RESULTS, description="folder of the records that are shown")
    read_only: bool = Field(False, description="never write to the results folder (public mode never does)")

    tuned: Path = Field(places.TUNED, description="folder of the models that are tuned on the page")

    # How much of it
    max_prompt_characters: PositiveInt = Field(20_000, description="of a text that is continued or looked at")
    max_text_characters: PositiveInt = Field(1_000_000, description="of a text that damage is measured on")
    max_new_tokens: PositiveInt = Field(300, description="of one continuation")
    max_questions: PositiveInt = Field(500, description="of each task that is evaluated on the page")
    max_file_mb: PositiveFloat = Field(20, description="of an uploaded file")
    texts_at_once: PositiveInt = Field(2, description="continuations that are written at the same time")
    texts_waiting: PositiveInt = Field(240, description="visitors and programs in the line for continuations")
    jobs_waiting: PositiveInt = Field(24, description="evaluations and searches in their line")
    job_minutes: PositiveFloat = Field(30, description="after which an evaluation or a search ends")
    tune_seconds: NonNegativeFloat = Field(
        120, description="that one start of tuning on the page may take (0: none; public mode never tunes)"
    )
    models_in_memory: PositiveInt = Field(3, description="the least recently used one is dropped first")
    models_gb: PositiveFloat = Field(64, description="memory that models kept may take together, in gigabytes")
    loads_waiting: PositiveInt = Field(8, description="models in the line for loading")
    load_seconds: PositiveFloat = Field(300, description="after which loading a model ends, downloads left out")
    load_gb: PositiveFloat = Field(64, description="memory that loading a model may take, in gigabytes")
    fetch_seconds: NonNegativeFloat = Field(1800, description="that fetching a model from the hub may take")
    load_wait_seconds: PositiveFloat = Field(20, description="that a request waits for a model that is being loaded")
    session_hours: PositiveFloat = Field(6, description="after which what an absent visitor measured is removed")
    session_mb: PositiveFloat = Field(50, description="that one visitor's uploads, records and searches may take")
    sessions: PositiveInt = Field(500, description="visitors whose things are kept; the longest absent one's go first")
    shutdown_seconds: NonNegativeFloat = Field(3, description="that what runs has to end in when the server stops")

    @field_validator("hosts", "models", mode="before")
    @classmethod
    def _split(cls, given: Any) -> tuple[str, ...]:
        parts = given.split(",") if isinstance(given, str) else [part for one in given for part in str(one).split(",")]
        return tuple(part.strip() for part in parts if part.strip())

    @field_validator("results", mode="after")
    @classmethod
    def _home(cls, folder: Path) -> Path:
        return folder.expanduser()


def problem_of(error: ValidationError | SettingsError) -> str:
    """What is wrong with the first setting that cannot be, in one sentence that names its flag and its variable."""
    if isinstance(error, SettingsError):
        return f"{str(error).rstrip('.')}: python -m app --help lists all settings."
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    known = {spelling: field for field in Settings.model_fields for spelling in (field, field.replace("_", "-"))}
    field = known.get(name, name)
    shown = repr(first["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    return (
        f"--{field.replace('_', '-')} (SHARED_ATTENTION_{field.upper()}) cannot be {shown}: "
        f"{first['msg'][0].lower()}{first['msg'][1:]}."
    )


def _of_environment() -> Settings:
    try:
        return Settings()
    except (ValidationError, SettingsError) as error:
        print(problem_of(error), file=sys.stderr)
        sys.exit(2)


server = _of_environment()
"""The settings of the server that runs here, read when something is needed, not at import: from the environment, until
`configure` was told of flags."""


def configure(arguments: list[str]) -> Settings:
    """Read flags over the environment into `server`. Raises pydantic's ValidationError for a value that cannot be.

    `--help` and unknown flags end the program, as argparse does.
    """
    chosen = Settings(_cli_parse_args=arguments)
    for name in Settings.model_fields:
        setattr(server, name, getattr(chosen, name))
    return server


ASSETS = places.ASSETS
ON_A_SPACE = "SPACE_ID" in os.environ

VERSION = "0.1.0"
DEMO = "demo"
OFFERED_MODEL = pretrained.FIRST
DEFAULT_PLAN = "17-22"  # the span that the bundled tuned model was trained with
DEFAULT_PLANS = {OFFERED_MODEL: "20-21"}  # where another one is a better start

VIEWS_PER_MODEL = 8
SIMILARITIES_IN_MEMORY = 64
PLANS_IN_MEMORY = 1000  # of which it is known whether texts can be written together
METERS_IN_MEMORY = 4  # each keeps the sums of every plan that was measured on its text
LAYER_WEIGHTS_IN_MEMORY = 64
OWN_STORES_IN_MEMORY = 16  # tables of scores with one visitor's own among them

DEFAULT_NEW_TOKENS = 64
PAUSED_IN_MEMORY = 4  # pairs of texts that wait where they part, with their caches
PROSE_TEMPERATURE = 0.6  # a small model that always takes the likeliest token repeats itself
MAX_SIMILARITY_TOKENS = 512  # attention weights take layers × heads × tokens² values
MAX_MAP_TOKENS = 128  # of a text, of which a window is shown
MAP_WINDOW = 24  # words: a map of more has no room for them on its axes
UPDATES_PER_SECOND = 8
EVENTS_AT_ONCE = 64  # of the page and of programs, beside those that wait in a line
EVENTS_WAITING = 1000  # that are kept for later when all of these run
SESSIONS_OF_GRADIO = 2000  # whose states are kept; each call of a program is one, of some ten kilobytes
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
TUNE_PROGRAM = "core"  # `python -m core tune …`
TUNE_ROWS, TUNE_ROW_TOKENS = 4, 256  # of a step of tuning that is started on the page
TUNE_HELD_OUT_TOKENS = 2048
DEFAULT_TUNE_STEPS, MAX_TUNE_STEPS = 40, 2000
TUNE_MEASUREMENTS = 4  # of the held-out loss in one run, each with a checkpoint, which takes three times the weights
TUNED_LISTED = 20  # models tuned here that the list of models offers, the newest
EVALUATION_BATCH = 16  # questions at once: between two batches others have their turn


def keeps_results() -> bool:
    """Whether what visitors measure may go into the results folder; on a Space it would not last."""
    return not (server.read_only or server.public or ON_A_SPACE)


def session_s() -> float:
    """Seconds after which what an absent visitor measured is removed."""
    return server.session_hours * 3600


def default_model() -> str:
    """The model that is shown first: the chosen one, else the real one that was fetched, else the bundled demo."""
    return server.model or (OFFERED_MODEL if OFFERED_MODEL in pretrained.fetched() else DEMO)


def default_plan(model_name: str) -> str:
    """The plan that a model is shown with first."""
    return DEFAULT_PLANS.get(model_name.rpartition("/")[2], DEFAULT_PLAN)
