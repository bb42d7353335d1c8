"""Scripts for developers and for builds."""
