# SPDX-License-Identifier: MIT
"""What an interpreter runs that main has started as a renderer (main/spawn.py). Its command line has the name."""

# Until this process has main's import path, it imports only modules that are built into the interpreter.
import marshal
import sys


def main() -> None:
    """Take main's import path, and run the renderer."""
    from posix import environ  # os may not be imported yet, as with -S

    *_, path = environ.get(b"LENSIPC_RENDERER", b"").split(b":")
    if not path:
        sys.exit("main starts this with spawn_renderer(); to run a renderer by hand: lensipc renderer PATH")
    with open(int(path), "rb", closefd=False) as file:  # freeze_support closes it
        sys.path[:] = marshal.load(file)
    from lensipc.renderer.spawned import freeze_support

    freeze_support()


if __name__ == "__main__":  # multiprocessing imports this in processes that a renderer starts
    main()
