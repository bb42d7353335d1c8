"""Know the sizes of all headers, and how encapsulations put them around packets."""
