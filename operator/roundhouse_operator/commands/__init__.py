"""The subcommands of `roundhouse`, a module each.

A module has `add`, which tells argparse of the command, and `run`, which carries it out and returns the exit
status. What only one command needs is imported by its `run`: the others are not to wait for it.
"""
