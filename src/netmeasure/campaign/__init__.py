"""Run campaigns, planned in a file: repeated tests of several variants on several targets."""
