"""Learners that learn by writing into a memory: MANN, the Neural Turing Machine, Meta Networks; a plain LSTM."""
