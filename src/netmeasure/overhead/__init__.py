"""Define the sizes of all headers, and compute the sizes of encapsulated packets."""
