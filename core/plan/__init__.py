"""Sharing plans: which layers of a decoder reuse what an earlier layer computed, and which do without attention."""

from core.plan.groups import Group, group_in_words, group_text
from core.plan.heads import HeadMap, HeadMapLike, read_head_map
from core.plan.kinds import check_same_kind, nearest_group, same_kind_hint
from core.plan.native import Sources, check_native_skip, native_obstacle, native_plan, native_roles
from core.plan.parts import MECHANISMS, PHASES, Mechanism, Part, Phase
from core.plan.phases import CACHED, NEEDED, check_one_phase
from core.plan.reading import LONGEST
from core.plan.sharing_plan import EXECUTIONS, REUSE_LIMIT_BYTES, SharingPlan

__all__ = [
    "CACHED", "EXECUTIONS", "LONGEST", "MECHANISMS", "NEEDED", "PHASES", "REUSE_LIMIT_BYTES", "Group", "HeadMap", "HeadMapLike", "Mechanism", "Part",
    "Phase", "SharingPlan", "Sources", "check_native_skip", "check_one_phase", "check_same_kind", "group_in_words", "group_text",
    "native_obstacle", "native_plan", "native_roles", "nearest_group", "read_head_map", "same_kind_hint",
]  # fmt: skip
