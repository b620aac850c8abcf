# SPDX-License-Identifier: MIT
"""lensipc beside what one would use instead, in one run: what `lensipc bench` measures, and how.

workloads.py    what is measured, in which cases, with how many messages
rivals/         one file for each rival, and for the floors; __init__.py says who takes part in what
task.py         what one measurement is told
contest.py      what an adapter in rivals/ is
side.py         one process of a measurement: the loops that all rivals go through
arrays.py, calls.py, loops.py    what several adapters need
trial.py        one measurement: a fresh process that forks the sides
figures.py      their reports, made figures
runner.py       all measurements, in rounds; ends what hangs, and leaves nothing behind
results.py, report.py, plot.py, machine.py    what was found: rows and ratios, tables, a picture
command.py      the command line's part
"""
