"""Judge results by service level objectives, such as "setup<1s, steady>9Gbit/s, loss<0.1%"."""
