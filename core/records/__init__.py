"""Files that keep what was measured: one file a point, read into one table; no torch.

How files are named, written and read (`files`), where a measurement comes from (`provenance`), and the kinds of
records: scores (`scores`), timings (`timings`), other programs beside this one (`peers`), sweeps and searches (`searches`), what
mechanisms cost (`mechanisms`), with the journals that these go on from (`journal`) and what similarity foretells (`correlations`), tuning (`tunings`), training runs
that began to share at some moment (`pretraining`), and how layers came to look alike in one (`emergence`). Lines of JSON that strangers wrote are
read here too (`json_lines`). Imports `core.plan` and `core.places` alone.
"""

from core.records.emergence import Checkpoint, EmergenceRecord, load_emergences, save_emergence
from core.records.journal import Journal
from core.records.peers import PeersRecord, TimedPeer, load_peers, peers_frame, save_peers
from core.records.pretraining import PretrainingRecord, load_pretrainings, pretraining_frame, save_pretraining
from core.records.provenance import Machine, Provenance, git_commit, machine, model_name, versions
from core.records.scores import Metric, Record, load_record, load_records, load_samples, save_record, to_frame
from core.records.searches import LayerPair, PlanDamage, SearchRecord, load_searches, save_search, searches_frame
from core.records.timings import Quartiles, Timed, TimingRecord, load_timings, save_timing, timings_frame
from core.records.tunings import Tuned, TuningData, TuningRecord, load_tunings, read_tunings, save_tuning

__all__ = [
    "Checkpoint",
    "EmergenceRecord",
    "Journal",
    "LayerPair",
    "Machine",
    "Metric",
    "PeersRecord",
    "PlanDamage",
    "PretrainingRecord",
    "Provenance",
    "Quartiles",
    "Record",
    "SearchRecord",
    "Timed",
    "TimedPeer",
    "TimingRecord",
    "Tuned",
    "TuningData",
    "TuningRecord",
    "git_commit",
    "load_emergences",
    "load_peers",
    "load_pretrainings",
    "load_record",
    "load_records",
    "load_samples",
    "load_searches",
    "load_timings",
    "load_tunings",
    "machine",
    "model_name",
    "peers_frame",
    "pretraining_frame",
    "read_tunings",
    "save_emergence",
    "save_peers",
    "save_pretraining",
    "save_record",
    "save_search",
    "save_timing",
    "save_tuning",
    "searches_frame",
    "timings_frame",
    "to_frame",
    "versions",
]
