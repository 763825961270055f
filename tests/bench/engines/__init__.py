"""The engines, each against its library called directly; `area` says what is measured, and in which order.

Nothing is imported here: the libraries' own processes are timed from their start, and begin with this.
"""
