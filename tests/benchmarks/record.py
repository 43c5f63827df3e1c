"""The record that every benchmark writes: when, on which machine, of which commit, and what was found."""

import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from core.records.provenance import git_commit, machine

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Run:
    """One run of a benchmark; made when it begins, so that it knows how busy the machine was before."""

    kind: str
    began: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    load: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def write(self, out: Path | None, **found: Any) -> dict[str, Any]:
        """Write the record to `out`, or beside the others, and say where. Returns it."""
        record = {
            "kind": self.kind, "date": self.began.isoformat(timespec="seconds"), "commit": git_commit(),
            "machine": machine().model_dump(), "load_average_at_start": [round(one, 2) for one in self.load], **found,
        }  # fmt: skip
        path = out or RECORDS / f"{self.kind}-{self.began:%Y-%m-%d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"Written: {path}")
        return record
