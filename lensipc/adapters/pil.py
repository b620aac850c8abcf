# SPDX-License-Identifier: MIT
"""PIL's images: a mode, a size, the pixels as one array, and a palette."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from PIL import Image

from . import Type

BITS: Final = {
    "1": 1, "L": 8, "P": 8, "LA": 16, "La": 16, "PA": 16, "I;16": 16, "RGB": 24, "YCbCr": 24, "LAB": 24, "HSV": 24,
    "RGBA": 32, "RGBa": 32, "RGBX": 32, "CMYK": 32, "I": 32, "F": 32,
}  # fmt: skip
"""The bits of a pixel, by the modes that cross."""

MOST_WITHOUT_PIXELS: Final = 1 << 16
"""The longest side of an image without pixels: PIL takes memory for each of its rows."""

PALETTES: Final = {"RGB": 3, "RGBA": 4}
"""The bytes of a colour, by the modes of palettes."""


def _encode(image: Any) -> Any:
    if image.mode not in BITS:
        raise TypeError(f"an image of mode {image.mode!r} does not cross: convert it first")
    pixels = np.frombuffer(image.tobytes(), np.uint8)
    palette = None
    if image.palette is not None and image.mode in ("P", "PA"):
        mode = image.palette.mode if image.palette.mode in PALETTES else "RGB"
        palette = mode, bytes(image.getpalette(mode))
    return image.mode, *image.size, pixels, palette


def _decode(told: Any) -> Any:
    mode, width, height, pixels, palette = told
    if type(mode) is not str or mode not in BITS:
        raise ValueError("not a mode")
    if type(width) is not int or type(height) is not int or not (0 <= width < 1 << 31 and 0 <= height < 1 << 31):
        raise ValueError("not a size")
    if type(pixels) is not np.ndarray or pixels.dtype != np.uint8 or pixels.ndim != 1:
        raise ValueError("not the pixels")
    if pixels.size != (BITS[mode] * width + 7) // 8 * height:
        raise ValueError("too few pixels, or too many")
    if pixels.size:
        image = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    elif max(width, height) > MOST_WITHOUT_PIXELS:
        raise ValueError("an image without pixels that is too large")
    else:
        image = Image.new(mode, (width, height))
    if palette is not None:
        of, colours = palette
        size = PALETTES[of] if type(of) is str else 0
        if (
            not size
            or mode not in ("P", "PA")
            or type(colours) is not bytes
            or len(colours) > 256 * size
            or len(colours) % size
        ):
            raise ValueError("not a palette")
        image.putpalette(colours, of)
    return image


TYPES: Final[list[Type]] = [(Image.Image, "PIL.Image", _encode, _decode)]
