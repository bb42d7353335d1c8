"""Figures that anyone can reproduce: opponents are measured alternately, in one run."""
