"""Learners that learn an initialisation or an optimizer: adapting to a support set is a few steps of training."""
