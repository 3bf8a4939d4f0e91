"""Images: which formats are known, their decoding, and what an encoder wants of their pixels.

`decode` is the only module that decodes, and trusts no bytes; `formats` knows names and suffixes
and imports no decoder. Uses Pillow and torchvision; hands out pixels.
"""
