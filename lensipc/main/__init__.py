# SPDX-License-Identifier: MIT
"""The main process: it installs extensions, takes renderers in, and routes what they send."""
