"""Header sizes of protocols and encapsulations, and the parser of stacks of them."""
