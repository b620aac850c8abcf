# SPDX-License-Identifier: MIT
"""An example extension, and a host that runs it: what `lensipc demo` shows.

The extension, as its author would write it. Read it in this order:

    main.py            its part in main: makes the IpcMain
    ipc_main.py        hears "initialize", syncs the machine's processes into a catalog, answers "catalog.describe"
    renderer.py        its part in each renderer: makes the IpcRenderer, broadcasts "initialize"
    ipc_renderer.py    keeps a copy of the catalog up to date from what it hears
    catalog.py, processes.py    the data: the same without any lensipc

Then what makes a show of it:

    host.py            an application with one main process and some renderers; kills one of them on the way
    window.py          what a renderer does all the time: look into one process after another, and count
    screen.py          the table that a renderer paints of its catalog
    summary.py         what came of it
"""

from __future__ import annotations

from lensipc import ExtensionManifest

MANIFEST = ExtensionManifest(
    id="lensipc.example",
    version="1.0",
    main="lensipc.demo.main:ExampleExtensionMain",
    renderer="lensipc.demo.renderer:ExampleExtensionRenderer",
)
