"""Whether a machine does all that a bundle needs of it, step by step: for a board that nobody has tried yet.

Each step runs what a user would type, in a process of its own and within a limit. What is absent is skipped and named. Nothing is
installed or started, the bundle stays as it is (a copy is compiled), and no root is asked for.
"""
