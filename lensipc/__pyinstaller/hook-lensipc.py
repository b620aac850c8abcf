# SPDX-License-Identifier: MIT
"""What lensipc imports where PyInstaller cannot see it. A program's extensions it has to be told of by the program."""

hiddenimports = ["_cffi_backend"]  # by the C core
