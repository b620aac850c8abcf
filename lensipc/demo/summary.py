# SPDX-License-Identifier: MIT
"""What came of the demo: the renderers' reports, compared with what main knows."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from .catalog import Catalog, Item


@dataclass
class Death:
    """A renderer that was killed, as main saw it.

    Attributes:
        status: its exit status.
        noticed: seconds from the kill until main knew.
        detached: whether main let go of it.
    """

    frame_id: int
    pid: int
    status: int | None
    noticed: float
    detached: bool = False


@dataclass
class Report:
    """What a renderer says of itself at the end.

    Attributes:
        items, revision: its copy of the catalog.
        heard: the changes it heard.
        asked: the invokes it sent.
        round_trips: of each invoke that was answered (microseconds).
        killed: the frame id that was killed, and what had been `heard` and `answered` then; empty: nothing heard of it.
    """

    items: dict[int, Item]
    revision: int
    heard: int
    asked: int
    round_trips: list[float]
    killed: dict[str, int]

    @property
    def catalog(self) -> Catalog:
        """Its copy of the catalog."""
        return Catalog(self.items, self.revision)

    @property
    def before(self) -> int:
        """How many changes were made before it was there: they are in the catalog that it was given."""
        return self.revision - self.heard

    @property
    def heard_after(self) -> int:
        """How many changes it heard after the other was killed."""
        return self.heard - self.killed.get("heard", self.heard)

    @property
    def answered_after(self) -> int:
        """How many of its invokes were answered after that."""
        return len(self.round_trips) - self.killed.get("answered", len(self.round_trips))


@dataclass
class Summary:
    """What came of the demo.

    Attributes:
        seconds: how long it was to go on.
        catalog: main's.
        death: the renderer that was killed.
        survivors: the pids of the others by their frame ids.
        reports: theirs.
        picture: the first renderer's screen as SVG, if it was to be had.
    """

    seconds: float
    catalog: Catalog
    death: Death
    survivors: dict[int, int]
    reports: dict[int, Report]
    picture: str = ""

    @property
    def delivered(self) -> int:
        """Events of the catalog that the survivors heard."""
        return sum(report.heard for report in self.reports.values())

    @property
    def before(self) -> int:
        """Those that were broadcast before they were there."""
        return sum(report.before for report in self.reports.values())

    @property
    def asked(self) -> int:
        """Invokes that the survivors sent."""
        return sum(report.asked for report in self.reports.values())

    @property
    def answered(self) -> int:
        """Those of them that were answered."""
        return sum(len(report.round_trips) for report in self.reports.values())

    @property
    def equal(self) -> int:
        """How many survivors hold the catalog that main holds."""
        return sum(report.catalog == self.catalog for report in self.reports.values())

    def round_trip(self, percent: float) -> float | None:
        """So many percent of the survivors' invokes were answered within this time (microseconds)."""
        times = sorted(time for report in self.reports.values() for time in report.round_trips)
        return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else None

    def amiss(self) -> list[str]:
        """What did not go as told; empty if all did."""
        found = []
        death = self.death
        if death.status != -signal.SIGKILL or not death.detached:
            found.append(f"main did not notice that renderer {death.frame_id} was killed (status {death.status})")
        if self.catalog.revision == 0:
            found.append("main broadcast nothing")
        for frame_id in self.survivors:
            report = self.reports.get(frame_id)
            if report is None:
                found.append(f"renderer {frame_id} did not report")
                continue
            if report.catalog != self.catalog:
                found.append(f"renderer {frame_id} holds another catalog than main")
            if len(report.round_trips) != report.asked:
                found.append(
                    f"renderer {frame_id} sent {report.asked} invokes, {len(report.round_trips)} were answered"
                )
            if report.killed.get("frame_id") != death.frame_id:
                found.append(f"renderer {frame_id} did not hear that renderer {death.frame_id} was killed")
            elif report.answered_after == 0:
                found.append(f"renderer {frame_id} did not go on after renderer {death.frame_id} was killed")
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs. Times are in microseconds where a name says so, in seconds elsewhere."""
        return {
            "ok": not self.amiss(),
            "amiss": self.amiss(),
            "seconds": self.seconds,
            "renderers": len(self.survivors) + 1,
            "processes": len(self.catalog.items),
            "events": {"broadcast": self.catalog.revision, "delivered": self.delivered, "before": self.before},
            "invokes": {"asked": self.asked, "answered": self.answered},
            "round_trip_us": {"p50": self.round_trip(50), "p99": self.round_trip(99)},
            "killed": {
                "renderer": self.death.frame_id,
                "pid": self.death.pid,
                "status": self.death.status,
                "noticed_us": self.death.noticed * 1e6,
            },
            "catalogs_equal": self.equal == len(self.survivors),
            "survivors": [
                {
                    "renderer": frame_id,
                    "pid": self.survivors[frame_id],
                    "events": report.heard,
                    "events_before": report.before,
                    "events_after_kill": report.heard_after,
                    "asked": report.asked,
                    "answered": len(report.round_trips),
                    "answered_after_kill": report.answered_after,
                    "catalog_equal": report.catalog == self.catalog,
                }
                for frame_id, report in self.reports.items()
            ],
        }

    def as_lines(self) -> list[tuple[str, str]]:
        """The same in short, for people: what each line is about, and the line."""
        death, survivors, revision = self.death, len(self.survivors), self.catalog.revision
        heard_after = sum(report.heard_after for report in self.reports.values())
        answered_after = sum(report.answered_after for report in self.reports.values())
        p50, p99 = self.round_trip(50), self.round_trip(99)
        timed = "" if p50 is None or p99 is None else f"; round trip p50 {p50:,.0f} µs, p99 {p99:,.0f} µs"

        events = f"{revision:,} broadcast; {self.delivered:,} heard by the survivors, {self.before:,} preceded them"
        invokes = f"{self.answered:,} of {self.asked:,} answered{timed}"
        died = f"renderer {death.frame_id} (pid {death.pid}), by SIGKILL; main knew in {death.noticed * 1e3:.1f} ms"
        went_on = f"the survivors: {heard_after:,} events and {answered_after:,} answers after that"
        catalogs = (
            f"{self.equal} of {survivors} equal main's: {len(self.catalog.items)} processes, revision {revision:,}"
        )
        lines = [
            ("events", events),
            ("invokes", invokes),
            ("died", died),
            ("went on", went_on),
            ("catalogs", catalogs),
        ]
        return [*lines, *(("AMISS", each) for each in self.amiss())]
