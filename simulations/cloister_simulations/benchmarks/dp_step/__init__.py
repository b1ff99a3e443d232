"""One learner-level DP-SGD step of DKT: ours, Opacus's DPLSTM, and the loop without privacy.

A step takes the learners' answers to updated weights: forward, backward, clip, noise, update; ours
also makes its batch. Every contender has a process of its own, so that an allocator's settings and
a peak of memory are one contender's.
"""
