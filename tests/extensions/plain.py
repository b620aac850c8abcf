"""The lab's part in a renderer that runs no event loop."""

from __future__ import annotations

import lensipc


class Ipc(lensipc.Ipc.Renderer):
    pass


class PlainRenderer(lensipc.LensRendererExtension):
    def on_activate(self) -> None:
        Ipc.create_instance(self)
