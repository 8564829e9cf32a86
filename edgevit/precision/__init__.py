"""What every part of a model computes in: the variants of a checkpoint, accuracy budgets, the range of FP16."""
