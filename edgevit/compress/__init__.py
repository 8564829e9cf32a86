"""Quantization: scales and corrections for a folded ViT. Pure torch, no files."""
