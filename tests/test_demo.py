"""The demo: the real command, on the real processes of this machine."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lensipc.demo.catalog import Catalog, Item
from lensipc.demo.processes import printable
from lensipc.demo.summary import Death, Report, Summary

DEMO = [sys.executable, "-m", "lensipc", "demo", "--seconds", "2"]
SHORT = [*DEMO[:-1], "1"]


def test_the_story_is_told_in_lines_of_text_where_there_is_no_terminal() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = iter(done.stdout.splitlines())
    for expected in [  # in this order, with other lines between
        r"^main and 3 renderers, for 2 seconds$",
        r"^ +[\d.]+ s  renderer 1 \(pid \d+\) broadcasts initialize\('.*'\)$",
        r"renderer 1 holds \d+ processes after [\d,]+ changes; [\d,]+ invokes answered, the last in [\d,]+ µs",
        r"renderer 3 \(pid \d+\) was killed with SIGKILL$",
        r"renderer 1 holds \d+ processes",
        r"^events    [\d,]+ broadcast; [\d,]+ heard by the survivors",
        r"^invokes   ([\d,]+) of \1 answered; round trip p50 [\d,]+ µs, p99 [\d,]+ µs$",
        r"^died      renderer 3 \(pid \d+\), by SIGKILL; main knew in [\d.]+ ms$",
        r"^went on   the survivors: [\d,]+ events and [\d,]+ answers after that$",
        r"^catalogs  2 of 2 equal main's: \d+ processes, revision [\d,]+$",
        r"^All went as told\.$",
    ]:
        assert any(re.search(expected, line) for line in told), f"{expected!r} is not told in {done.stdout}"
    assert "\x1b" not in done.stdout


def test_json_is_one_object_whose_numbers_add_up_and_no_process_is_left() -> None:
    done = subprocess.run([*DEMO, "--json", "--renderers", "4"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["ok"], told["amiss"], told["seconds"], told["renderers"]) == (True, [], 2.0, 4)
    survivors = told["survivors"]
    assert [each["renderer"] for each in survivors] == [1, 2, 3]
    assert all(each["catalog_equal"] for each in survivors)
    assert told["catalogs_equal"]

    broadcast = told["events"]["broadcast"]
    assert broadcast >= told["processes"] >= 5  # main and its renderers at least
    assert [each["events"] + each["events_before"] for each in survivors] == [broadcast] * 3
    assert told["events"]["delivered"] == sum(each["events"] for each in survivors)
    assert told["events"]["before"] == sum(each["events_before"] for each in survivors)

    assert all(each["asked"] == each["answered"] for each in survivors)
    assert all(each["answered"] > each["answered_after_kill"] > 0 for each in survivors)
    assert told["invokes"]["answered"] == told["invokes"]["asked"] == sum(each["answered"] for each in survivors)
    assert 0 < told["round_trip_us"]["p50"] <= told["round_trip_us"]["p99"]

    assert (told["killed"]["renderer"], told["killed"]["status"]) == (4, -signal.SIGKILL)
    assert not any(psutil.pid_exists(each["pid"]) for each in [told["killed"], *survivors])


def test_on_a_terminal_a_renderer_paints_its_table_and_gives_the_terminal_back() -> None:
    painted = _on_a_terminal(SHORT, rows=24, columns=80)
    assert painted.count("as renderer 1 holds it") > 3  # over and over
    assert "(renderer 2)" in painted
    assert painted.index("\x1b[?25l") < painted.rindex("as renderer 1 holds it") < painted.rindex("\x1b[?25h")
    assert "All went as told." in painted
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", painted)
    lines = re.split(r"[\r\n]+", text)
    assert max(map(len, lines)) == 80
    tops = [number for number, line in enumerate(lines) if "as renderer 1 holds it" in line]
    heights = {after - before for before, after in itertools.pairwise(tops)}
    assert len(heights) == 1, "every picture is as high as the others"
    assert max(heights) < 24


def test_its_last_screen_is_a_picture_that_asks_nobody_for_anything(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    done = subprocess.run([*SHORT, "--svg", str(picture)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = picture.read_text()
    assert text.startswith("<svg")
    assert "was&#160;killed&#160;with&#160;SIGKILL" in text
    assert re.findall(r"https?://[^\s\"]+", text) in ([], ["http://www.w3.org/2000/svg"])


def test_it_says_so_and_fails_when_another_renderer_dies_as_well() -> None:
    with subprocess.Popen([*SHORT, "--json"], stdout=subprocess.PIPE, text=True) as process:
        _first_of_three_renderers(process).kill()
        out, _ = process.communicate()
    told = json.loads(out)
    assert process.returncode == 1
    assert not told["ok"]
    assert not told["catalogs_equal"]
    assert told["amiss"] == ["renderer 1 did not report"]
    assert [each["renderer"] for each in told["survivors"]] == [2]


def test_ctrl_c_ends_it_and_leaves_no_process() -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("was killed" in line for line in process.stdout)  # it is in the middle of the story
        renderers = psutil.Process(process.pid).children()
        assert len(renderers) == 2
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert psutil.wait_procs(renderers, timeout=5)[1] == []


def test_a_reader_that_goes_away_ends_nothing_with_a_traceback() -> None:
    with subprocess.Popen(SHORT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_process_cannot_take_the_terminal_over_by_its_name() -> None:
    assert printable("a\x1b[2J\nb\udcff ü") == "a?[2J?b? ü"


def _told(**changes: Any) -> Summary:
    """A summary of which all went as told, but for some changes to the one survivor's report."""
    items: dict[int, Item] = {1: {"pid": 1, "name": "init", "cpu": 0, "memory": 1.0}}
    report: dict[str, Any] = {
        "items": items,
        "revision": 3,
        "heard": 2,
        "asked": 4,
        "round_trips": [1.0, 2.0, 3.0, 4.0],
        "killed": {"frame_id": 2, "heard": 1, "answered": 2},
    }
    death = Death(2, 102, -9, 0.001, detached=True)
    return Summary(2.0, Catalog(items, 3), death, {1: 101}, {1: Report(**report | changes)})


def test_a_summary_of_which_all_went_as_told_has_nothing_amiss() -> None:
    summary = _told()
    assert summary.amiss() == []
    assert (summary.delivered, summary.before, summary.asked, summary.answered, summary.equal) == (2, 1, 4, 4, 1)
    assert (summary.round_trip(50), summary.round_trip(99)) == (3.0, 4.0)


@pytest.mark.parametrize(
    ("changes", "amiss"),
    [
        ({"items": {}}, "renderer 1 holds another catalog than main"),
        ({"revision": 2}, "renderer 1 holds another catalog than main"),
        ({"asked": 5}, "renderer 1 sent 5 invokes, 4 were answered"),
        ({"killed": {}}, "renderer 1 did not hear that renderer 2 was killed"),
        (
            {"killed": {"frame_id": 2, "heard": 2, "answered": 4}},
            "renderer 1 did not go on after renderer 2 was killed",
        ),
    ],
)
def test_what_did_not_go_as_told_is_amiss(changes: dict[str, Any], amiss: str) -> None:
    summary = _told(**changes)
    assert summary.amiss() == [amiss]
    assert ("AMISS", amiss) in summary.as_lines()
    assert not summary.as_json()["ok"]


def test_it_is_amiss_when_main_does_not_notice_the_death_or_nobody_reports() -> None:
    summary = _told()
    summary.death.detached = False
    summary.reports.clear()
    assert summary.amiss() == [
        "main did not notice that renderer 2 was killed (status -9)",
        "renderer 1 did not report",
    ]
    assert summary.round_trip(50) is None
    assert ("invokes", "0 of 0 answered") in summary.as_lines()


def _first_of_three_renderers(process: subprocess.Popen[str]) -> psutil.Process:
    """The first renderer of a running demo, once they are all there."""
    found: list[psutil.Process] = []
    while len(found) < 3:
        assert process.poll() is None, "the demo has ended early"
        time.sleep(0.05)
        found = psutil.Process(process.pid).children()
    return min(found, key=lambda each: (each.create_time(), each.pid))


def _on_a_terminal(command: list[str], rows: int, columns: int) -> str:
    """What a command writes to a terminal of that size; it ends with status 0."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    try:
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    finally:
        os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError:  # how Linux says that nobody has the terminal open any more
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()
