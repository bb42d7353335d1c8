"""Results as text for people. Imports results and units only: a saved result needs no engine."""
