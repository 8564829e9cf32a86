"""A trained Vision Transformer in; a quantized, compiled bundle and a camera classifier out."""

__version__ = "0.1.0"
