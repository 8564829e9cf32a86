"""The material of ``edgevit demo``, and the way it goes."""
