# SPDX-License-Identifier: MIT
"""What a run has found: rows, their medians, and their ratios. It can be written to a file, and read again."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from .figures import Figures


@dataclass
class Row:
    """A rival in a workload's case.

    Attributes:
        workload, case, rival: which.
        figure, unit, more: what rivals are compared by, its unit, and whether more of it is better.
        ours: whether it is lensipc itself.
        counts: whether it is one of those whose best we are compared with.
        note: what the table says of it.
        floor: the case of the floor that bounds it.
        rounds: the figures of each round.
        failures: what became of the rounds that have none.
    """

    workload: str
    case: str
    rival: str
    figure: str
    unit: str
    more: bool
    ours: bool
    counts: bool
    note: str = ""
    floor: str = ""
    rounds: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self) -> list[float]:
        """What it is compared by, of each round."""
        return [each[self.figure] for each in self.rounds if self.figure in each]

    @property
    def value(self) -> float | None:
        """The median of that."""
        values = self.values()
        return statistics.median(values) if values else None

    @property
    def lost(self) -> int:
        """Messages that never came, of all rounds."""
        return int(sum(each.get("lost", 0) for each in self.rounds))

    def median(self, figure: str) -> float | None:
        """The median of another figure."""
        values = [each[figure] for each in self.rounds if figure in each]
        return statistics.median(values) if values else None


@dataclass
class Results:
    """All rows of a run, and what it was run with."""

    about: dict[str, Any]
    left_out: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    def groups(self) -> dict[tuple[str, str], list[Row]]:
        """The rows by workload and case; the best of each first, those that failed last."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.workload, row.case), []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: (row.value is None, (row.value or 0.0) * (-1 if row.more else 1)))
        return found

    def best_rival(self, row: Row) -> Row | None:
        """The best of the others in the same case, lensipc apart."""
        others = self.groups()[row.workload, row.case]
        return next((each for each in others if each.counts and not each.ours and each.value and each is not row), None)

    def to_best(self, row: Row) -> float | None:
        """Its value as a multiple of the best rival's; of what is all but nothing there is none."""
        if row.workload == "idle":
            return None
        best = self.best_rival(row)
        return _ratio(row, best)

    def to_floor(self, row: Row) -> float | None:
        """Its value as a multiple of the floor's."""
        floor = next((each for each in self.rows if each.workload == "floor" and each.case == row.floor), None)
        return _ratio(row, floor)

    @property
    def failed(self) -> list[Row]:
        """Rows with a failure, or a loss."""
        return [row for row in self.rows if row.failures or row.lost]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        rows = []
        for row in self.rows:
            values = row.values()
            rows.append(
                {
                    **asdict(row),
                    "value": row.value,
                    "low": min(values, default=None),
                    "high": max(values, default=None),
                    "lost": row.lost,
                    "to_best_rival": self.to_best(row),
                    "to_floor": self.to_floor(row),
                }
            )
        return {"about": self.about, "left_out": self.left_out, "rows": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Results:
        """What `as_json` gave."""
        names = set(Row.__dataclass_fields__)
        rows = [Row(**{key: value for key, value in row.items() if key in names}) for row in data["rows"]]
        return cls(data["about"], data["left_out"], rows)


def _ratio(row: Row, other: Row | None) -> float | None:
    if other is None or not row.value or not other.value or row.figure != other.figure:
        return None
    return row.value / other.value
