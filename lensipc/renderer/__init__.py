# SPDX-License-Identifier: MIT
"""A renderer process: what connects it to main, and runs its parts of extensions."""
