"""Commands for people: start, run, render, check."""
