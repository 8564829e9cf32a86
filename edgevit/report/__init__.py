"""Measuring: accuracy, latency, comparisons. Knows engines and images, not torch."""
