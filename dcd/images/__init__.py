"""Images are decoded here, and brought to what an encoder wants of their pixels.

`formats` lists the formats by name and imports no decoder, `decode` is the only module that decodes
and trusts no bytes, `preprocess` crops and scales.
The room uses Pillow and torchvision; it hands out pixels as arrays.
"""
