"""The size of a JPEG XL picture from its first bytes, before anything is decoded.

ISO/IEC 18181-1, SizeHeader; 18181-2 for the boxes of a container.
"""

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_WIDTH_OVER_HEIGHT = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)
_LONGEST_HEADER = 16


def jxl_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels; None if the bytes are no JPEG XL or end before its size."""
    stream = data if data.startswith(_CODESTREAM) else _first_codestream(data)
    if stream is None or not stream.startswith(_CODESTREAM):
        return None
    header = stream[len(_CODESTREAM) : len(_CODESTREAM) + _LONGEST_HEADER]
    bits = _Bits(int.from_bytes(header, "little"))
    is_small = bits.take(1)
    height = _side(bits, is_small)
    ratio = bits.take(3)
    if ratio == 0:
        return _side(bits, is_small), height
    over, under = _WIDTH_OVER_HEIGHT[ratio - 1]
    return height * over // under, height


class _Bits:
    """Bits of a number, the lowest first."""

    def __init__(self, number: int):
        self._left = number

    def take(self, n_bits: int) -> int:
        taken = self._left & ((1 << n_bits) - 1)
        self._left >>= n_bits
        return taken


def _side(bits: _Bits, is_small: int) -> int:
    if is_small:
        return (bits.take(5) + 1) * 8
    return bits.take(_SIZE_BITS[bits.take(2)]) + 1


def _first_codestream(data: bytes) -> bytes | None:
    """What the first box of image data begins with, in a container."""
    if not data.startswith(_CONTAINER):
        return None
    at = 0
    while at + 8 <= len(data):
        n_bytes, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if n_bytes == 1:  # a long box
            n_bytes, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if kind == b"jxlc":
            return data[start : start + _LONGEST_HEADER + 2]
        if kind == b"jxlp":  # four bytes number the part
            return data[start + 4 : start + 4 + _LONGEST_HEADER + 2]
        if n_bytes < start - at:  # 0: to the end of the file
            return None
        at += n_bytes
    return None
