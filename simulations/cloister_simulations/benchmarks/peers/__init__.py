"""Workers of the benchmark ``simulation``: one script a peer, each run by a Python of its own.

They import nothing of Cloister: only ``workload``, which lies beside them.
"""
