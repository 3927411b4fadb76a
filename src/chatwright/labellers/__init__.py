"""Sources of rankings: the simulated labeller (a rubric with noise), an AI judge, people. One protocol for all."""
