"""A compiled TensorRT plan.

Its `kernels`, what they tell before the board is touched (`preflight`), how long they would take there (`roofline`), and that per
board and power mode (`device_plan`).
"""
